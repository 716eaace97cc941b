// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask mutate`: removes each guard in turn and demands that a test fails.
//!
//! A guard is a few words of code without which the model breaks: `crates/*/GUARDS.md` lists
//! them, `xtask/mutants/*.toml` says of each which text is replaced by what, and which tests
//! must fail then. The tree is copied, and every replacement is woven in beside its
//! original, chosen by a variable when the test runs: so all mutants are built once, and the
//! code that is shipped has no trace of them. Building each mutant by itself was considered;
//! with optimized model tests that takes a minute for each.
//!
//! Before anything is removed, every test that is to fail must pass, and must exist.

mod list;
mod run;
mod weave;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, bail};

use list::{Killer, Mutant};

pub(crate) use list::check;

/// Runs all mutants, or those whose names contain one of `only`.
///
/// # Errors
///
/// When one survives, or the list does not fit the tree.
pub(crate) fn mutate(only: &[String], is_list: bool) -> Result<()> {
    let all = list::read()?;
    let wanted = |m: &&Mutant| only.is_empty() || only.iter().any(|o| m.name.contains(&**o));
    let chosen: Vec<&Mutant> = all.iter().filter(wanted).collect();
    if chosen.is_empty() {
        bail!("no mutant is named like {only:?}; `cargo xtask mutate --list` shows them");
    }
    if is_list {
        for mutant in &chosen {
            println!("{:<44} {}", mutant.name, mutant.guard);
        }
        return Ok(());
    }
    list::check()?;
    let tree = weave::tree(&all)?;
    let built = run::build(&tree, &chosen)?;
    println!("without a mutant, every test that is to fail must pass:");
    let mut killers: BTreeMap<&Killer, bool> = BTreeMap::new();
    for killer in chosen.iter().flat_map(|m| &m.killers) {
        if let std::collections::btree_map::Entry::Vacant(new) = killers.entry(killer) {
            let verdict = built.run(killer, None)?;
            if verdict.is_failure() {
                bail!("{killer} fails without a mutant: {verdict}");
            }
            new.insert(true);
        }
    }
    println!("{} do; now the mutants\n", killers.len());
    let began = Instant::now();
    let mut survivors = Vec::new();
    for mutant in &chosen {
        let killed = built.kill(mutant)?;
        let shown = killed.as_deref().unwrap_or("SURVIVED");
        println!("{:<44} {shown}", mutant.name);
        if killed.is_none() {
            survivors.push(mutant.name.as_str());
        }
    }
    println!(
        "\n{} mutants, {} survived, {:.0} s",
        chosen.len(),
        survivors.len(),
        began.elapsed().as_secs_f64()
    );
    if !survivors.is_empty() {
        bail!("no test notices the loss of {}", survivors.join(", "));
    }
    Ok(())
}
