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

mod ask;
mod compare;
mod fetch;
mod merge;
mod ranges;
mod replace;
mod rest;

use std::sync::Arc;

use bytes::Bytes;
use dulse_merge::digest::{CONFLICTS_DIR, INODES_DIR, KV_DIR, Sum};
use dulse_merge::keys::Space;
use dulse_proto::repair::{
    BucketsReply, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest, KnownRequest,
    RowsReply, RowsRequest,
};
use dulse_replica::{Census, Repair, Repaired, Shared};

pub use compare::{Difference, Directory};
pub use rest::restore;

/// Differences of one round; the rest is found by the next.
pub const DIFFERENCES_MAX: usize = 20_000;

/// Rows taken in by one step, of however many directories: few enough that writers hardly wait
/// for it, and many, since each step is a batch of the engine and a pause.
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
    /// Questions asked.
    pub n_messages: u64,
    /// Bytes of questions.
    pub n_sent_bytes: u64,
    /// Bytes of answers.
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
    round.replace(&trusted)?;
    round.merge(&others)?;
    round.correct(&compared)?;
    Ok(round.report)
}

struct Round<'a, 'b> {
    report: Report,
    local: &'a mut dyn Local,
    peer: &'a mut dyn Peer,
    others: &'a mut [&'b mut dyn Peer],
}

impl Round<'_, '_> {
    /// A snapshot. None is held while something is taken in: an engine may have to copy what a
    /// snapshot still reads.
    fn census(&self) -> Result<Census, String> {
        self.local.shared().census().map_err(|e| e.to_string())
    }

    fn take_in(&mut self, repair: Repair) -> Result<(), String> {
        let done = self.local.repair(repair).map_err(|e| e.to_string())?;
        self.report.repaired.add(done);
        Ok(())
    }

    /// Takes a step in once it is big enough.
    fn take_in_full(&mut self, step: &mut Repair) -> Result<(), String> {
        let n_rows = step.restored.len() + step.replaced.len() + step.merged.len();
        match n_rows >= STEP_ROWS {
            true => self.take_in(std::mem::take(step)),
            false => Ok(()),
        }
    }

    /// ⚠ Corrects digest rows that do not fit their rows, once those are what the peer has, or
    /// all of them are merged with what a peer that is whole has: until then they are the witness.
    fn correct(&mut self, dirs: &[Directory]) -> Result<(), String> {
        for dirs in dirs.chunks(STEP_ROWS) {
            let mut corrected = Vec::new();
            for dir in dirs {
                corrected.extend(self.correction(dir)?.map(|sum| (dir.name.clone(), sum)));
            }
            if !corrected.is_empty() {
                self.take_in(Repair {
                    corrected,
                    ..Repair::default()
                })?;
            }
        }
        Ok(())
    }

    /// What the digest row of a directory lacks, where it may be corrected.
    fn correction(&mut self, dir: &Directory) -> Result<Option<Sum>, String> {
        let fail = |e: dulse_store::Error| e.to_string();
        let (stored, counted) = {
            let census = self.census()?;
            let stored = census.stored(&dir.name).map_err(fail)?;
            (stored, census.counted(&dir.name).map_err(fail)?)
        };
        if stored == counted {
            return Ok(None);
        }
        let theirs = self.sums_of(&dir.name)?;
        let is_equal = theirs.counted == counted && theirs.stored == counted;
        let is_merged = dir.is_peer_whole()
            && !dir.is_trusted()
            && dir.damaged().is_none()
            && !self.report.repaired.left.contains(&dir.name);
        let lacking = Sum {
            sum: counted.sum.wrapping_sub(stored.sum),
            count: counted.count - stored.count,
        };
        Ok((is_equal || is_merged).then_some(lacking))
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
