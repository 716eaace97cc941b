// SPDX-License-Identifier: Apache-2.0
//! Which of several sources wins, and what is refused.

use clap::{CommandFactory, FromArgMatches};

use super::*;
use crate::{Cli, Command as Role};

fn parse(arguments: &[&str]) -> Result<Cli> {
    let arguments = arguments.iter().map(OsString::from).collect();
    Ok(Cli::from_arg_matches(&super::parse(
        Cli::command(),
        arguments,
    )?)?)
}

fn write(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dulse.toml");
    std::fs::write(&path, text).unwrap();
    let shown = path.display().to_string();
    (dir, shown)
}

#[test]
fn the_template_parses_is_complete_and_equals_the_flags_defaults() {
    let text = dulse_config::template(&schemas(&Cli::command()));
    let (_dir, path) = write(&text);
    for role in ROLES {
        let plain = parse(&["dulse", role]).unwrap();
        let from_file = parse(&["dulse", role, "--config", &path]).unwrap();
        let shown = |cli: Cli| format!("{:?}", cli.command);
        let expect = shown(plain).replace("config: None", &format!("config: Some({path:?})"));
        assert_eq!(shown(from_file), expect);
    }
    let file = read(&Cli::command(), Path::new(&path)).unwrap();
    for schema in schemas(&Cli::command()) {
        assert_eq!(file.section(&schema.name).count(), schema.keys.len());
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let text = "[filer]\nport = 9999\nmaster = [\"a:1\", \"b:2\"]\nalone = true\n\
        chunk-size = \"8MiB\"\n[master]\nport = 1\n";
    let (_dir, path) = write(text);
    let filer = |more: &[&str]| {
        let mut arguments = vec!["dulse", "filer", "--config", &path];
        arguments.extend(more);
        match parse(&arguments).unwrap().command {
            Role::Filer(args) => args,
            _ => panic!("another role"),
        }
    };
    let args = filer(&[]);
    assert_eq!(
        (args.port, args.alone, args.chunk_size.0),
        (9999, true, 8 << 20)
    );
    let masters: Vec<_> = args.master.iter().map(|m| m.http()).collect();
    assert_eq!(masters, ["a:1", "b:2"]);
    assert_eq!(args.engine, "redb");
    let args = filer(&["--port=7", "--alone=false", "--master=c:3"]);
    assert_eq!((args.port, args.alone, args.master.len()), (7, false, 1));
    assert!(filer(&["--alone"]).alone);
}

#[test]
fn what_a_flag_would_refuse_the_file_is_refused_for_with_its_line() {
    for (text, line, says) in [
        (
            "[filer]\nmaster = [\"a:1\", \"b\"]\n",
            2,
            "`master`: `b` is no server address",
        ),
        (
            "[volume]\n\nmax = -1\n",
            3,
            "expected a whole number from 0 to 4294967295",
        ),
        (
            "[filer]\ndurability = \"maybe\"\n",
            2,
            "`durability`: `maybe` is no durability; expected `fsync`, `os` or `peers(n)`",
        ),
        ("[filer]\nprot = 1\n", 2, "unknown key `prot`"),
        ("[master]\nexit-with-stdin = true\n", 2, "unknown key"),
        ("[server]\nconfig = \"x\"\n", 2, "unknown key"),
    ] {
        let (_dir, path) = write(text);
        let error = parse(&["dulse", "filer", "--config", &path]).err().unwrap();
        let shown = error.to_string();
        assert!(error.downcast_ref::<Usage>().is_some());
        assert!(
            shown.contains(&format!("dulse.toml, line {line}: ")),
            "{shown}"
        );
        assert!(shown.contains(says), "{shown}");
    }
}

#[test]
fn every_key_has_a_variable() {
    let command = with_environment(Cli::command());
    for role in ROLES {
        let sub = command.find_subcommand(role).unwrap();
        for arg in sub.get_arguments().filter(|a| is_key(a)) {
            let key = arg.get_long().unwrap().replace('-', "_");
            let expect = format!("DULSE_{role}_{key}").to_uppercase();
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), expect);
        }
    }
}
