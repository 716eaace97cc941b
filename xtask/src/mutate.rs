// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask mutate`: removes each guard in turn and demands that a test fails.
//!
//! A guard is a few words of code without which the model breaks: `GUARDS.md` of
//! each crate lists them, `xtask/mutants/*.toml` says of each which text is replaced by what, and which tests
//! must fail then. The tree is copied, and every replacement is woven in beside its
//! original, chosen by a variable when the test runs: so all mutants are built once, and the
//! code that is shipped has no trace of them. Building each mutant by itself was considered;
//! with optimized model tests that takes a minute for each.
//!
//! Before anything is removed, every test that is to fail must pass, and must exist. Only a
//! test that fails and says why has noticed anything: one that hangs, or dies without a word,
//! kills nothing.

mod build;
mod list;
mod run;
mod signs;
mod weave;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use build::Built;
use list::{Killer, Mutant};
use run::{Fate, Verdict};

pub(crate) use list::check;

/// What is asked of one run.
pub(crate) struct Options {
    /// Only mutants whose names contain one of these; all when empty.
    pub(crate) only: Vec<String>,
    /// Only shows them.
    pub(crate) is_list: bool,
    /// How many tests run at once.
    pub(crate) n_jobs: usize,
}

/// Runs all mutants, or those that are asked for.
///
/// # Errors
///
/// When one survives, or the list does not fit the tree.
pub(crate) fn mutate(options: &Options) -> Result<()> {
    let all = list::read()?;
    let only = &options.only;
    let wanted = |m: &&Mutant| only.is_empty() || only.iter().any(|o| m.name.contains(&**o));
    let chosen: Vec<&Mutant> = all.iter().filter(wanted).collect();
    if chosen.is_empty() {
        bail!("no mutant is named like {only:?}; `cargo xtask mutate --list` shows them");
    }
    if options.is_list {
        for mutant in &chosen {
            println!("{:<44} {}", mutant.name, mutant.guard);
        }
        return Ok(());
    }
    list::check()?;
    let began = Instant::now();
    let tree = weave::tree(&all)?;
    let built = build::build(&tree, &all, &chosen)?;
    let build_took = began.elapsed();
    println!("without a mutant, every test that is to fail must pass:");
    let took = unharmed(&built, &chosen, options.n_jobs)?;
    println!("now the mutants\n");
    let fates = each(&chosen, options.n_jobs, |mutant| {
        let fate = run::kill(&built, mutant)?;
        show(&fate);
        Ok(fate)
    })?;
    println!();
    print_table(&fates);
    println!(
        "built in {:.0} s, tested without a mutant in {:.0} s, with each in {:.0} s",
        build_took.as_secs_f64(),
        took.as_secs_f64(),
        (began.elapsed() - build_took - took).as_secs_f64()
    );
    let survivors: Vec<&str> = fates
        .iter()
        .filter(|fate| fate.killed_by.is_none())
        .map(|fate| fate.mutant.name.as_str())
        .collect();
    if !survivors.is_empty() {
        bail!("no test notices the loss of {}", survivors.join(", "));
    }
    Ok(())
}

/// Runs every killer without a mutant, and says how long that took. Those of one program run
/// together: many name the same tests.
fn unharmed(built: &Built, mutants: &[&Mutant], n_jobs: usize) -> Result<Duration> {
    let began = Instant::now();
    let killers: BTreeSet<&Killer> = mutants.iter().flat_map(|m| &m.killers).collect();
    let mut programs: BTreeMap<(String, String), Vec<&Killer>> = BTreeMap::new();
    for killer in &killers {
        programs
            .entry(build::program(killer))
            .or_default()
            .push(killer);
    }
    let programs: Vec<(&(String, String), &Vec<&Killer>)> = programs.iter().collect();
    each(&programs, n_jobs, |((package, target), killers)| {
        let began = Instant::now();
        match run::run_all(built, killers)? {
            Verdict::Passed => {
                let seconds = began.elapsed().as_secs_f64();
                println!("{:<32} {seconds:>6.1} s", format!("{package} {target}"));
                Ok(())
            }
            verdict => bail!("{package} {target} fails without a mutant: {verdict}"),
        }
    })?;
    println!("{} killers do", killers.len());
    Ok(began.elapsed())
}

/// Does something with each item, `n_jobs` at once; the results are in the items' order.
/// After the first error nothing more is begun.
fn each<T: Copy + Sync, R: Send>(
    items: &[T],
    n_jobs: usize,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = Mutex::new(items.iter().copied().enumerate());
    let take = || next.lock().ok()?.next();
    let done = Mutex::new(Ok(Vec::new()));
    let worker = || {
        while let Some((at, item)) = take() {
            let result = work(item);
            let Ok(mut done) = done.lock() else { return };
            match (result, done.as_mut()) {
                (Ok(result), Ok(results)) => results.push((at, result)),
                (Err(error), Ok(_)) => *done = Err(error),
                (_, Err(_)) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..n_jobs.max(1) {
            scope.spawn(worker);
        }
    });
    let mut results = done
        .into_inner()
        .map_err(|_| anyhow!("a worker panicked"))??;
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// One line about one mutant, and one about each test that showed nothing.
fn show(fate: &Fate<'_>) {
    let name = &fate.mutant.name;
    let seconds = fate.took.as_secs_f64();
    match &fate.killed_by {
        Some((killer, why)) => println!("{name:<32} {seconds:>6.1} s  {killer}\n    {why}"),
        None => println!("{name:<32} {seconds:>6.1} s  SURVIVED"),
    }
    for doubt in &fate.doubts {
        println!("    shows nothing: {doubt}");
    }
}

/// How many of each list died, and the sum.
fn print_table(fates: &[Fate<'_>]) {
    let mut rows: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for fate in fates {
        let of = crate_of(&fate.mutant.file);
        let (n_mutants, n_killed) = rows.entry(of).or_default();
        *n_mutants += 1;
        *n_killed += usize::from(fate.killed_by.is_some());
    }
    println!("| crate           | mutants | killed | survived |");
    println!("|-----------------|--------:|-------:|---------:|");
    let (mut all, mut dead) = (0, 0);
    for (of, (n_mutants, n_killed)) in rows {
        let left = n_mutants - n_killed;
        println!("| {of:<15} | {n_mutants:>7} | {n_killed:>6} | {left:>8} |");
        all += n_mutants;
        dead += n_killed;
    }
    println!(
        "| all             | {all:>7} | {dead:>6} | {:>8} |\n",
        all - dead
    );
}

/// The crate of a file, as its directory is called below `crates`.
fn crate_of(file: &str) -> &str {
    let file = file.strip_prefix("crates/").unwrap_or(file);
    file.split("/src/").next().unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_a_crate() {
        for (file, expect) in [
            ("crates/merge/src/row.rs", "merge"),
            ("crates/engines/redb/src/engine.rs", "engines/redb"),
            ("sim/src/lib.rs", "sim"),
        ] {
            assert_eq!(crate_of(file), expect);
        }
    }

    #[test]
    fn results_keep_the_order_of_the_items() {
        let items: Vec<u64> = (0..50).collect();
        let got = each(&items, 4, |item| Ok(item * 2)).unwrap();
        assert_eq!(got, items.iter().map(|item| item * 2).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_error_is_told() {
        let failing = |item: u64| match item {
            3 => bail!("three"),
            item => Ok(item),
        };
        let error = each(&[1, 2, 3, 4], 2, failing).unwrap_err();
        assert_eq!(error.to_string(), "three");
    }
}
