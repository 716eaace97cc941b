// SPDX-License-Identifier: Apache-2.0
//! Two filers side by side.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use anyhow::Result;
use bytes::Bytes;
use dulse_proto::status::{DirectoryDigest, RowHash};
use dulse_types::ServerAddress;

use super::side::Side;

/// Most differing paths that are kept and printed; the rest are counted.
const PATHS_MAX: usize = 1_000;

/// Paths at which filers differ.
#[derive(Default)]
pub(super) struct Differences {
    paths: BTreeSet<String>,
    n_more: u64,
}

impl Differences {
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    pub(super) fn paths(&self) -> &BTreeSet<String> {
        &self.paths
    }

    /// Those that are not kept; one that differs at several filers may count for each.
    pub(super) fn n_more(&self) -> u64 {
        self.n_more
    }

    fn add(&mut self, path: String) {
        if self.paths.len() < PATHS_MAX {
            self.paths.insert(path);
        } else if !self.paths.contains(&path) {
            self.n_more += 1;
        }
    }
}

/// Finds where two filers differ. Cost: one message where they are equal; else the directories
/// of the buckets and the names of the directories that differ.
pub(super) async fn compare(
    a: &ServerAddress,
    b: &ServerAddress,
    found: &mut Differences,
) -> Result<()> {
    let (mut a, mut b) = (Side::new(a).await?, Side::new(b).await?);
    let (ours, theirs) = (a.buckets().await?, b.buckets().await?);
    let all: BTreeSet<u32> = ours.keys().chain(theirs.keys()).copied().collect();
    for bucket in all {
        if ours.get(&bucket) != theirs.get(&bucket) {
            directories(&mut a, &mut b, bucket, found).await?;
        }
    }
    Ok(())
}

async fn directories(
    a: &mut Side,
    b: &mut Side,
    bucket: u32,
    found: &mut Differences,
) -> Result<()> {
    let mut ours = a.directories(bucket, bucket + 1).await?;
    let mut theirs = b.directories(bucket, bucket + 1).await?;
    let key = |row: &DirectoryDigest| row.directory.clone();
    loop {
        let (x, y) = match order(ours.next.as_ref().map(key), theirs.next.as_ref().map(key)) {
            None => return Ok(()),
            Some(Ordering::Less) => (ours.take().await?, None),
            Some(Ordering::Greater) => (None, theirs.take().await?),
            Some(Ordering::Equal) => (ours.take().await?, theirs.take().await?),
        };
        let figures = |row: &DirectoryDigest| (row.sum.clone(), row.count);
        if x.as_ref().map(figures) != y.as_ref().map(figures)
            && let Some(row) = x.or(y)
        {
            names(a, b, &row.directory, found).await?;
        }
    }
}

async fn names(
    a: &mut Side,
    b: &mut Side,
    directory: &Bytes,
    found: &mut Differences,
) -> Result<()> {
    let mut ours = a.names(directory).await?;
    let mut theirs = b.names(directory).await?;
    let mut is_explained = false;
    let key = |row: &RowHash| (row.name.clone(), row.identity.clone());
    loop {
        let (x, y) = match order(ours.next.as_ref().map(key), theirs.next.as_ref().map(key)) {
            None => break,
            Some(Ordering::Less) => (ours.take().await?, None),
            Some(Ordering::Greater) => (None, theirs.take().await?),
            Some(Ordering::Equal) => (ours.take().await?, theirs.take().await?),
        };
        let hash = |row: &RowHash| row.hash.clone();
        if x.as_ref().map(hash) != y.as_ref().map(hash)
            && let Some(row) = x.or(y)
        {
            is_explained = true;
            found.add(path(directory, &row.name));
        }
    }
    if !is_explained {
        // Rows that are no names, or a sum that does not fit its rows.
        found.add(title(directory));
    }
    Ok(())
}

/// Which of two streams goes on; `None` when both are at their end.
fn order<K: Ord>(ours: Option<K>, theirs: Option<K>) -> Option<Ordering> {
    match (ours, theirs) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some(x), Some(y)) => Some(x.cmp(&y)),
    }
}

fn path(directory: &[u8], name: &[u8]) -> String {
    let (directory, name) = (
        String::from_utf8_lossy(directory),
        String::from_utf8_lossy(name),
    );
    let slash = if directory.ends_with('/') { "" } else { "/" };
    format!("{directory}{slash}{name}")
}

/// What is counted under a directory of the digest, docs/formats/rows.md.
fn title(directory: &[u8]) -> String {
    match directory {
        b"" => "(contents of hard-linked files)".to_owned(),
        b"\x01kv" => "(key-value pairs)".to_owned(),
        b"\x01conflicts" => "(conflict records)".to_owned(),
        directory => format!("{}/ (its sum)", String::from_utf8_lossy(directory)),
    }
}
