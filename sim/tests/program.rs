// SPDX-License-Identifier: Apache-2.0
//! The program itself: what it prints is what others replay, count and compare.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dulse-sim"));
    command.args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The hash of all that happened, which the last line ends with.
fn hash(said: &str) -> &str {
    said.trim_end().rsplit("trace hash ").next().unwrap()
}

#[test]
fn the_same_seeds_happen_alike_and_others_do_not() {
    let first = run(&["--seeds", "2"]);
    let text = said(&first);
    assert!(first.status.success(), "{text}");
    assert!(text.starts_with("seeds 0..2\n2 seeds: "), "{text}");
    assert!(text.contains(", 0 violations\n"), "{text}");
    assert_eq!(hash(&text).len(), 16, "{text}");
    let again = said(&run(&["--seeds", "2"]));
    assert_eq!(hash(&again), hash(&text));
    let others = said(&run(&["--seeds", "2", "--first", "2"]));
    assert_ne!(hash(&others), hash(&text));
}

#[test]
fn an_unknown_option_is_refused() {
    let output = run(&["--sedes", "2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}
