// SPDX-License-Identifier: Apache-2.0
//! Every target over its seeds and a bounded number of mutations from a fixed seed.
//!
//! `DULSE_FUZZ_MUTATIONS` multiplies their number.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use dulse_fuzz::{TARGETS, Target, run::run};
use libtest_mimic::{Arguments, Failed, Trial};

/// Where the mutations start.
const SEED: u64 = 4;

fn main() -> ExitCode {
    let trial = |target: &'static Target| {
        let name = format!("fuzz::{}_takes_any_bytes", target.name);
        Trial::test(name, move || check(target))
    };
    let mut trials: Vec<Trial> = TARGETS.iter().map(trial).collect();
    trials.push(Trial::test("every_decoder_is_on_the_page", page));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// `fuzz/README.md` names every file with a decoder and every target, and nothing that is not.
fn page() -> Result<(), Failed> {
    let root = Path::new("..");
    let page = std::fs::read_to_string(root.join("fuzz/README.md"))?;
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut wrong = Vec::new();
    let mut named = BTreeSet::new();
    let mut targets = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let path = cells[1].trim_matches('`');
        if !root.join(path).is_file() {
            wrong.push(format!("{path} is on the page and not there"));
        }
        named.insert(path.to_owned());
        let of = cells[3].split(", ").map(|name| name.trim_matches('`'));
        targets.extend(of.filter(|name| *name != "–"));
    }
    let known: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    let differing = known.symmetric_difference(&targets);
    wrong.extend(differing.map(|name| format!("target {name} is on the page or there, not both")));
    let mut files = Vec::new();
    sources(&root.join("crates"), &mut files)?;
    for file in files {
        let path = file.strip_prefix(root)?.display().to_string();
        let is_named =
            named.contains(&path) || path.contains("/tests") || path.contains("kv-testkit");
        if !is_named && has_decoder(&std::fs::read_to_string(&file)?) {
            wrong.push(format!("{path} has a decoder and is not on the page"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n").into()),
    }
}

/// Whether a file has what this page lists, outside its tests.
fn has_decoder(text: &str) -> bool {
    let lines = text
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]");
    let is_decoder = |line: &str| {
        let Some((_, name)) = line.split_once("fn ") else {
            return line.contains("FromStr for ");
        };
        let reads = name.starts_with("read")
            && ["(input:", "(bytes:", "(content:", "(text:"]
                .iter()
                .any(|first| name.contains(first));
        reads
            || ["decode", "parse", "from_bytes("]
                .iter()
                .any(|n| name.starts_with(n))
    };
    lines.map(str::trim).any(is_decoder)
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.is_dir() {
            sources(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

fn check(target: &Target) -> Result<(), Failed> {
    let factor = std::env::var("DULSE_FUZZ_MUTATIONS").ok();
    let factor: u32 = factor.map_or(Ok(1), |text| text.parse())?;
    let n_max = target.n_quick.saturating_mul(factor);
    match run(target, SEED, |n| n < n_max) {
        Ok(_) => Ok(()),
        Err(find) => Err(format!("{} panics on {:02x?}", target.name, find.input).into()),
    }
}
