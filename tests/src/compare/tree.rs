// SPDX-License-Identifier: Apache-2.0
//! Trees as listings show them, and what differs between them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reqwest::Client;

/// Bit of a directory in `Mode`.
const IS_DIRECTORY: u64 = 1 << 31;

/// How a directory is shown.
const DIRECTORY: &str = "directory";

/// Entries of one directory at most.
const PAGE: usize = 100_000;

/// Paths named in a difference; the others are counted.
const SHOWN_MAX: usize = 3;

/// Path to what is there: `directory`, or size and hash of a file.
pub type Tree = BTreeMap<String, String>;

/// Directories listed at once.
const AT_ONCE: usize = 16;

/// Lists everything below a directory, over the JSON interface that both systems have.
///
/// # Errors
///
/// When a listing is not answered as it should be.
pub async fn tree_of(http: &Client, base: &str, dir: &str) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut todo = vec![dir.to_owned()];
    let mut listing = FuturesUnordered::new();
    loop {
        while listing.len() < AT_ONCE
            && let Some(dir) = todo.pop()
        {
            listing.push(list(http, base, dir));
        }
        let Some(listed) = listing.next().await else {
            return Ok(tree);
        };
        for (path, shown) in listed? {
            if shown == DIRECTORY {
                todo.push(path.clone());
            }
            tree.insert(path, shown);
        }
    }
}

/// One directory.
async fn list(http: &Client, base: &str, dir: String) -> Result<Vec<(String, String)>> {
    let request = http.get(format!("{base}{dir}/?limit={PAGE}"));
    let answer = request.header("accept", "application/json").send().await?;
    let status = answer.status().as_u16();
    if status == 404 {
        return Ok(Vec::new());
    }
    let text = answer.text().await?;
    if status != 200 {
        bail!("list {dir}: {status} {text}");
    }
    let listing: serde_json::Value = serde_json::from_str(&text)?;
    if listing["ShouldDisplayLoadMore"] == true {
        bail!("{dir} has more than {PAGE} entries");
    }
    let mut rows = Vec::new();
    for row in listing["Entries"].as_array().into_iter().flatten() {
        let path = row["FullPath"].as_str().context("a path")?.to_owned();
        let mode = row["Mode"].as_u64().context("a mode")?;
        let shown = if mode & IS_DIRECTORY != 0 {
            DIRECTORY.to_owned()
        } else {
            format!("{} bytes, md5 {}", row["FileSize"], row["Md5"])
        };
        rows.push((path, shown));
    }
    Ok(rows)
}

/// What differs between trees, or which of the wanted paths is missing; `None` when nothing.
#[must_use]
pub fn difference(trees: &[Tree], wanted: &[String]) -> Option<String> {
    let first = trees.first()?;
    let mut missing = Vec::new();
    for (at, tree) in trees.iter().enumerate() {
        let lacks = wanted.iter().filter(|path| !tree.contains_key(*path));
        missing.extend(lacks.map(|path| format!("{path} at filer {at}")));
    }
    let all: std::collections::BTreeSet<&String> = trees.iter().flat_map(BTreeMap::keys).collect();
    let differing: Vec<&String> = all
        .iter()
        .filter(|path| {
            trees
                .iter()
                .any(|tree| tree.get(**path) != first.get(**path))
        })
        .copied()
        .collect();
    let some = |names: Vec<&str>| {
        names
            .into_iter()
            .take(SHOWN_MAX)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut out = Vec::new();
    if !missing.is_empty() {
        let shown = some(missing.iter().map(String::as_str).collect());
        out.push(format!(
            "{} acknowledged are missing: {shown}",
            missing.len()
        ));
    }
    if !differing.is_empty() {
        let shown = some(differing.iter().map(|path| path.as_str()).collect());
        out.push(format!(
            "{} of {} paths differ: {shown}",
            differing.len(),
            all.len()
        ));
    }
    (!out.is_empty()).then(|| out.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(rows: &[(&str, &str)]) -> Tree {
        let rows = rows.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        rows.collect()
    }

    #[test]
    fn what_differs_is_named_and_counted() {
        let a = tree(&[("/x", "directory"), ("/y", "1 bytes")]);
        let b = tree(&[("/x", "directory"), ("/y", "2 bytes"), ("/z", "directory")]);
        assert_eq!(difference(&[a.clone(), a.clone()], &[]), None);
        let why = difference(&[a.clone(), b], &[]).unwrap();
        assert_eq!(why, "2 of 3 paths differ: /y, /z");
        let why = difference(&[a.clone(), a], &["/w".to_owned()]).unwrap();
        assert!(
            why.starts_with("2 acknowledged are missing: /w at filer 0"),
            "{why}"
        );
    }
}
