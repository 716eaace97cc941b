// SPDX-License-Identifier: Apache-2.0
//! One round of repair against one peer: find what differs, fetch it, take it in.
//!
//! **A witness.** The digest row of a directory is kept up by every change and not by what
//! happens to the rows, so it says what this filer had. Where it equals the peer's, and the
//! peer's rows are what the peer's row says, the peer has exactly what was here: its rows
//! replace what is damaged, and what it lacks is a stray. That needs no equal vectors.
//!
//! **Else** both copies are merged by their versions, as the model merges changes. What is
//! absent on one side though covered is ambiguous: it may have been deleted and its grave
//! forgotten, or lost. So all members are asked, and all they know is merged: ⚠ a grave anywhere
//! means dead, else the data is kept. A member that does not answer is not waited for; should
//! it have the grave, it differs when it is back, and the grave wins then.
//!
//! A digest row that does not fit its rows is corrected only afterwards: until then it is the
//! only witness, and a crash in between loses nothing.

mod compare;
mod fetch;
mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use dulse_merge::digest::{CONFLICTS_DIR, INODES_DIR, KV_DIR, Sum};
use dulse_merge::keys::{Space, join_path};
use dulse_merge::repair::Tie;
use dulse_proto::repair::{
    BucketsReply, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest, KnownRequest,
    RowsReply, RowsRequest,
};
use dulse_replica::{
    Census, Foreign, Repair, Repaired, Replacement, Restored, Shared, identity_of, name_of,
};
use dulse_types::Identity;

pub use compare::{Difference, Directory};
pub use rest::restore;

/// Differences of one round; the rest is found by the next.
pub const DIFFERENCES_MAX: usize = 20_000;

/// Rows taken in by one step, so that writers hardly wait for it.
const STEP_ROWS: usize = 256;

/// What a peer answers; a message is for whoever reads the log.
pub trait Peer {
    /// See [`super::serve::buckets`].
    ///
    /// # Errors
    ///
    /// When it does not answer.
    fn buckets(&mut self) -> Result<BucketsReply, String>;
    /// See [`super::serve::directories`].
    ///
    /// # Errors
    ///
    /// When it does not answer.
    fn directories(&mut self, request: DirectoriesRequest) -> Result<DirectoriesReply, String>;
    /// See [`super::serve::items`].
    ///
    /// # Errors
    ///
    /// When it does not answer.
    fn items(&mut self, request: ItemsRequest) -> Result<ItemsReply, String>;
    /// See [`super::serve::rows`].
    ///
    /// # Errors
    ///
    /// When it does not answer.
    fn rows(&mut self, request: RowsRequest) -> Result<RowsReply, String>;
    /// See [`super::serve::known`].
    ///
    /// # Errors
    ///
    /// When it does not answer.
    fn known(&mut self, request: KnownRequest) -> Result<RowsReply, String>;
}

/// The own replica.
pub trait Local {
    /// For reading.
    fn shared(&self) -> Arc<Shared>;
    /// See [`dulse_replica::Replica::repair`]; it may take its time.
    ///
    /// # Errors
    ///
    /// As there.
    fn repair(&mut self, repair: Repair) -> Result<Repaired, dulse_store::Error>;
}

/// What is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Everything, from the buckets down.
    All,
    /// These directories of the digest.
    Directories(Vec<Bytes>),
}

/// What a round found and did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Directories that differed, or did not fit their digest row.
    pub n_directories: u64,
    /// Items that differed.
    pub n_items: u64,
    /// Rows fetched.
    pub n_rows: u64,
    /// Bytes of keys, hashes and rows that arrived.
    pub n_bytes: u64,
    /// What was taken in.
    pub repaired: Repaired,
    /// Whether more was left for another round.
    pub is_cut: bool,
    /// Members that did not answer where all are asked.
    pub n_silent: u64,
    /// Some of what differed, for the log.
    pub examples: Vec<String>,
}

/// Paths named in a report.
const EXAMPLES_MAX: usize = 5;

/// Runs one round against `peer`; `others` are the other members that can be asked.
///
/// Cost: one message of at most 110 KB where nothing differs; else as much as the differing
/// buckets, ranges and rows.
///
/// # Errors
///
/// When the peer does not answer or the own store fails; what was taken in before stays.
pub fn run(
    local: &mut dyn Local,
    peer: &mut dyn Peer,
    others: &mut [&mut dyn Peer],
    target: &Target,
) -> Result<Report, String> {
    let mut round = Round {
        report: Report::default(),
        left: BTreeSet::new(),
        local,
        peer,
        others,
    };
    let differing = match target {
        Target::All => round.find()?,
        Target::Directories(dirs) => dirs.clone(),
    };
    let mut compared = Vec::new();
    for dir in differing {
        if round.report.n_items >= DIFFERENCES_MAX as u64 {
            round.report.is_cut = true;
            break;
        }
        compared.push(round.compare(&dir)?);
    }
    // Order: what a trusted peer has first; else a stray would be merged with what it is
    // a stray of.
    let (trusted, others): (Vec<_>, Vec<_>) = compared.iter().partition(|dir| dir.is_trusted());
    for dir in trusted {
        round.replace(dir)?;
    }
    round.merge(&others)?;
    for dir in &compared {
        round.correct(dir)?;
    }
    Ok(round.report)
}

struct Round<'a, 'b> {
    report: Report,
    /// Directories of which something could not be merged: it says more than is applied here,
    /// or another damaged row stood in its way.
    left: BTreeSet<Bytes>,
    local: &'a mut dyn Local,
    peer: &'a mut dyn Peer,
    others: &'a mut [&'b mut dyn Peer],
}

impl Round<'_, '_> {
    fn census(&self) -> Result<Census, String> {
        self.local.shared().census().map_err(|e| e.to_string())
    }

    fn take_in(&mut self, repair: Repair) -> Result<(), String> {
        let done = self.local.repair(repair).map_err(|e| e.to_string())?;
        self.report.repaired.add(done);
        Ok(())
    }

    /// Makes a directory what the peer has there.
    fn replace(&mut self, dir: &Directory) -> Result<(), String> {
        if dir.differing.is_empty() {
            return Ok(());
        }
        let keys: Vec<Bytes> = dir.differing.iter().map(|d| d.key.clone()).collect();
        if let Some(space) = dir.space() {
            return self.restore(dir, space, &keys);
        }
        let mut names: Vec<Bytes> = keys
            .iter()
            .map(|key| key.slice(..name_of(key).len()))
            .collect();
        names.sort();
        names.dedup();
        for names in names.chunks(STEP_ROWS) {
            let census = self.census()?;
            let found = self.fetch_rows(&dir.name, names)?;
            let mut repair = Repair::default();
            for (name, rows) in names.iter().zip(found) {
                let path: Bytes = join_path(&dir.name, name).into();
                let seen = census.print_of(&path).map_err(|e| e.to_string())?;
                let is_name = |(key, _): &(Bytes, Bytes)| {
                    [Space::Entries, Space::Shadows]
                        .iter()
                        .any(|space| key.first() == Some(&(*space as u8)))
                };
                let (rows, beside): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_name);
                repair.replaced.push(Replacement { path, seen, rows });
                repair.merged.extend(beside.into_iter().map(|row| Foreign {
                    row,
                    tie: Tie::Ours,
                    paths: Vec::new(),
                }));
            }
            self.take_in(repair)?;
        }
        Ok(())
    }

    /// The same for what is no name.
    fn restore(&mut self, dir: &Directory, space: Space, keys: &[Bytes]) -> Result<(), String> {
        for keys in keys.chunks(STEP_ROWS) {
            let census = self.census()?;
            let found = self.fetch_rows(&dir.name, keys)?;
            let mut repair = Repair::default();
            for (key, rows) in keys.iter().zip(found) {
                let whole: Bytes = space.key(key).into();
                let seen = census.rows_by_key(&[space], key);
                let seen = seen.map_err(|e| e.to_string())?;
                let theirs = rows.into_iter().find(|(key, _)| *key == whole);
                let value = theirs.map(|(_, value)| value);
                // Whether an inode counts hangs on its names, which are repaired themselves.
                if value.is_none() && space == Space::Inodes {
                    continue;
                }
                repair.restored.push(Restored {
                    key: whole,
                    seen: seen.into_iter().next().map(|(_, value)| value),
                    value,
                });
            }
            self.take_in(repair)?;
        }
        Ok(())
    }

    /// Merges what differs in directories where nobody is trusted.
    fn merge(&mut self, dirs: &[&Directory]) -> Result<(), String> {
        let mut ambiguous = BTreeSet::new();
        let mut places: BTreeMap<Identity, Vec<Bytes>> = BTreeMap::new();
        for dir in dirs.iter().filter(|dir| dir.space().is_none()) {
            for difference in dir.differing.iter().filter(|d| d.is_ambiguous()) {
                if let Some(name) = identity_of(&difference.key) {
                    let path = join_path(&dir.name, name_of(&difference.key));
                    places.entry(name).or_default().push(path.into());
                    ambiguous.insert(name);
                }
            }
        }
        // ⚠ A name has one path: what is taken in here must not lie elsewhere here.
        if !ambiguous.is_empty() {
            let here = self.census()?.places_of(&ambiguous);
            for (name, paths) in here.map_err(|e| e.to_string())? {
                let known = places.entry(name).or_default();
                known.extend(paths);
                known.sort();
                known.dedup();
            }
        }
        for dir in dirs {
            let before = self.report.repaired;
            self.clear_damaged(dir)?;
            for step in dir.differing.chunks(STEP_ROWS) {
                self.merge_step(dir, step, &places)?;
            }
            let after = self.report.repaired;
            if (after.n_left, after.n_refused) != (before.n_left, before.n_refused) {
                self.left.insert(dir.name.clone());
            }
        }
        Ok(())
    }

    fn merge_step(
        &mut self,
        dir: &Directory,
        step: &[Difference],
        places: &BTreeMap<Identity, Vec<Bytes>>,
    ) -> Result<(), String> {
        let is_new = |d: &&Difference| d.ours.is_none();
        let is_taken = |d: &&Difference| !(dir.is_only_peer_damaged() && is_new(d));
        let there = step.iter().filter(is_taken).filter(|d| d.theirs.is_some());
        let keys: Vec<Bytes> = there.map(|d| d.key.clone()).collect();
        let tie = dir.tie();
        let mut rows = Vec::new();
        for (key, found) in keys.iter().zip(self.fetch_rows(&dir.name, &keys)?) {
            let of = identity_of(key).filter(|_| dir.space().is_none());
            rows.extend(found.into_iter().map(|row| (row, of)));
        }
        let ambiguous = step.iter().filter(is_taken).filter(|d| d.is_ambiguous());
        let ambiguous: Vec<&Difference> = ambiguous.collect();
        rows.extend(self.ask_all(dir, &ambiguous, places)?);
        let merged = rows.into_iter().map(|(row, of)| Foreign {
            row,
            tie,
            paths: of
                .and_then(|of| places.get(&of))
                .cloned()
                .unwrap_or_default(),
        });
        let repair = Repair {
            merged: merged.collect(),
            ..Repair::default()
        };
        self.take_in(repair)
    }

    /// Rows of ours that do not decode give way to what a peer that is whole has there.
    fn clear_damaged(&mut self, dir: &Directory) -> Result<(), String> {
        match dir.damaged().filter(|_| dir.is_peer_whole()) {
            Some(damaged) => self.replace(&damaged),
            None => Ok(()),
        }
    }

    /// ⚠ Corrects a digest row that does not fit its rows, once those are what the peer has, or
    /// all of them are merged with what a peer that is whole has: until then it is the witness.
    fn correct(&mut self, dir: &Directory) -> Result<(), String> {
        let census = self.census()?;
        let fail = |e: dulse_store::Error| e.to_string();
        let stored = census.stored(&dir.name).map_err(fail)?;
        let counted = census.counted(&dir.name).map_err(fail)?;
        if stored == counted {
            return Ok(());
        }
        let theirs = self.sums_of(&dir.name)?;
        let is_equal = theirs.counted == counted && theirs.stored == counted;
        let is_merged = dir.is_peer_whole()
            && !dir.is_trusted()
            && dir.damaged().is_none()
            && !self.left.contains(&dir.name);
        if !is_equal && !is_merged {
            return Ok(());
        }
        let lacking = Sum {
            sum: counted.sum.wrapping_sub(stored.sum),
            count: counted.count - stored.count,
        };
        self.take_in(Repair {
            corrected: vec![(dir.name.clone(), lacking)],
            ..Repair::default()
        })
    }
}

/// The space that a directory of the digest stands for; `None` for one of the tree.
fn space_of(dir: &[u8]) -> Option<Space> {
    match dir {
        INODES_DIR => Some(Space::Inodes),
        KV_DIR => Some(Space::Kv),
        CONFLICTS_DIR => Some(Space::Conflicts),
        _ => None,
    }
}
