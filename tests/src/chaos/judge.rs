// SPDX-License-Identifier: Apache-2.0
//! What must be there in the end, by what was answered.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::{ENGINES, Ledger};
use crate::Cluster;
use crate::compare::{Tree, difference, tree_of};

/// Checks trees and contents at every filer; gives the number of entries.
pub(super) async fn trees(cluster: &Cluster, ledger: &Ledger) -> Result<usize> {
    let mut trees = Vec::new();
    for filer in 0..ENGINES.len() {
        let base = cluster.url(filer, "");
        trees.push(tree_of(&cluster.http, &base, "").await?);
    }
    if let Some(why) = difference(&trees, &[]) {
        anyhow::bail!("{why}");
    }
    let tree = trees.first().context("a filer")?;
    sets(tree, ledger)?;
    wanderers(tree, ledger)?;
    for filer in 0..ENGINES.len() {
        registers(cluster, filer, ledger).await?;
    }
    Ok(tree.len())
}

async fn registers(cluster: &Cluster, filer: usize, ledger: &Ledger) -> Result<()> {
    for (path, register) in &ledger.registers {
        let Some(content) = cluster.get(filer, path).await? else {
            ensure!(register.may_be_empty(), "{path} is gone: {register:?}");
            continue;
        };
        let number: u64 = String::from_utf8(content)?.parse()?;
        ensure!(
            register.may_hold(number),
            "{path} at filer {filer} holds {number}: {register:?}"
        );
    }
    Ok(())
}

fn sets(tree: &Tree, ledger: &Ledger) -> Result<()> {
    for (path, certain) in &ledger.sets {
        let is_there = tree.contains_key(path);
        ensure!(
            certain.is_none_or(|certain| certain == is_there),
            "{path} is there: {is_there}, acknowledged was: {certain:?}"
        );
    }
    let in_sets = tree.iter().filter(|(path, _)| path.starts_with("/sets/"));
    for (path, _) in in_sets.filter(|(_, shown)| *shown != "directory") {
        ensure!(ledger.sets.contains_key(path), "nobody asked for {path}");
    }
    Ok(())
}

fn wanderers(tree: &Tree, ledger: &Ledger) -> Result<()> {
    let mut seen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let in_trees = tree.keys().filter(|path| path.starts_with("/trees/"));
    for path in in_trees {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.starts_with("wanderer-") {
            seen.entry(name).or_default().push(path);
        }
    }
    for name in &ledger.wanderers {
        let places = seen.get(name.as_str()).cloned().unwrap_or_default();
        ensure!(places.len() == 1, "{name} is at {places:?}");
    }
    Ok(())
}
