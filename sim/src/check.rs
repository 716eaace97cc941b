// SPDX-License-Identifier: Apache-2.0
//! What must hold, while things happen and when they are quiet.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use dulse_merge::Change;
use dulse_merge::digest::{BUCKETS, Sum};
use dulse_proto::replication::Heartbeat;
use dulse_replica::Applied;
use dulse_replication::convert;
use dulse_store::ListRange;
use dulse_types::{Entry, FullPath};

use crate::filer::{Filer, Running};

/// I8: what a subscriber was told to be complete stays complete.
pub(crate) fn above_watermark(
    running: &Running,
    changes: &[Bytes],
    applied: &[Applied],
) -> Result<(), String> {
    for (payload, result) in changes.iter().zip(applied) {
        let change = Change::decode(payload).map_err(|e| e.to_string())?;
        if *result == Applied::Now && change.stamp <= running.watermark {
            return Err(format!(
                "I8: a change of {} at {} arrived below the watermark {}",
                change.origin, change.stamp, running.watermark
            ));
        }
    }
    Ok(())
}

/// I1 on the way: equal vectors, equal digests.
pub(crate) fn same_digest(running: &Running, beat: &Heartbeat) -> Result<(), String> {
    let (applied, sum) = running.shared().digest();
    let is_level = applied == convert::vector(&beat.applied);
    if is_level && beat.digest[..] != sum.sum.to_be_bytes() {
        return Err(format!("I1: equal vectors {applied}, unequal digests"));
    }
    Ok(())
}

/// I7's ground: what a filer holds for stable is on disk at every member that has begun.
pub(crate) fn stability(filers: &mut [Filer], f: usize, now: u64) -> Result<(), String> {
    let Some(running) = &mut filers[f].running else {
        return Ok(());
    };
    let stable = running.stable(now)?;
    for (n, other) in filers.iter().enumerate() {
        let Some(running) = &other.running else {
            continue;
        };
        let shared = running.shared();
        if n != f && !shared.is_fresh() && !shared.durable_vector().includes(&stable) {
            return Err(format!(
                "I7: filer {f} holds {stable} for stable, filer {n} has {} on disk",
                shared.durable_vector()
            ));
        }
    }
    Ok(())
}

/// Whether all are ready and have the same changes.
pub(crate) fn is_level(filers: &[Filer]) -> bool {
    let vectors: Vec<_> = filers
        .iter()
        .filter_map(|f| f.running.as_ref().map(|r| r.shared().vector()))
        .collect();
    filers.iter().all(Filer::is_ready)
        && vectors.len() == filers.len()
        && vectors.windows(2).all(|w| w[0] == w[1])
}

/// What keeps them apart, in words.
pub(crate) fn why_not_level(filers: &[Filer]) -> String {
    let mut why = "no progress after healing:".to_owned();
    for (n, filer) in filers.iter().enumerate() {
        let Some(running) = &filer.running else {
            continue;
        };
        let vector = running.shared().vector();
        let phase = running.core.phase();
        // Writing to a string cannot fail.
        let _ = write!(
            why,
            "\n  filer {n} {:?} {phase:?} {vector}",
            running.core.not_ready()
        );
        for peer in running.core.peers(&vector) {
            let _ = write!(why, "\n    {peer:?}");
        }
    }
    why
}

/// I1 and I5 at rest.
pub(crate) fn agree(filers: &[Filer]) -> Result<(), String> {
    let running: Vec<_> = filers.iter().filter_map(|f| f.running.as_ref()).collect();
    let digests: Vec<_> = running.iter().map(|r| r.shared().digest()).collect();
    if digests.windows(2).any(|w| w[0] != w[1]) {
        return Err(format!("I1: equal vectors, unequal digests: {digests:?}"));
    }
    for filer in &running {
        recount(filer)?;
    }
    let trees: Result<Vec<_>, String> = running.iter().map(|r| dump(r)).collect();
    if trees?.windows(2).any(|w| w[0] != w[1]) {
        return Err("I1: equal digests, unequal trees".to_owned());
    }
    Ok(())
}

/// I1's ground: each directory's digest is the sum of its rows.
fn recount(running: &Running) -> Result<(), String> {
    let shared = running.shared();
    let digests = shared.directory_digests(0, BUCKETS);
    for (_, dir, kept) in digests.map_err(|e| e.to_string())? {
        if dir.first() != Some(&b'/') {
            continue;
        }
        let mut counted = Sum::default();
        for (_, _, hash) in shared.directory_rows(&dir).map_err(|e| e.to_string())? {
            counted.add(hash);
        }
        if counted != kept {
            let dir = String::from_utf8_lossy(&dir);
            return Err(format!("I1: the digest of {dir} is not that of its rows"));
        }
    }
    Ok(())
}

/// The tree as clients see it; every entry lies in a directory that is shown (I5).
fn dump(running: &Running) -> Result<BTreeMap<String, Entry>, String> {
    let shared = running.shared();
    let mut out = BTreeMap::new();
    let mut open = vec![FullPath::root()];
    while let Some(dir) = open.pop() {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: true,
            limit: dulse_store::LIST_MAX,
        };
        let rows = shared.list(&dir, &range).map_err(|e| e.to_string())?;
        for row in rows {
            let path = FullPath::of(dir.as_str(), &row.name).map_err(|e| e.to_string())?;
            let found = shared.find(&path).map_err(|e| e.to_string())?;
            if found.map(|f| f.entry) != Some(row.entry.clone()) {
                return Err(format!("I5: {path} is listed but not found alike"));
            }
            if row.entry.is_dir() {
                open.push(path.clone());
            }
            out.insert(path.to_string(), row.entry);
        }
    }
    Ok(out)
}
