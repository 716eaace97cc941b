// SPDX-License-Identifier: Apache-2.0
//! Rows that do not depend on one another, written in one go to all servers, and their names with
//! them: each server is sent what it has in one pipeline.
//!
//! In rounds, since one write at a time is on a lane: a round has one row of each slot at most. It
//! notes the doubts of all new names, writes all rows, and then puts the names among the names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use dulse_shared::{At, RowWrite, value};
use dulse_store::{Error, ErrorKind, Operation, Outcome};
use dulse_types::FullPath;
use futures::StreamExt;
use futures::stream;

use super::lanes::LaneWrite;
use super::names::doubt_of;
use super::slots::slot_of;
use super::store::{RedisCluster, later};

/// Rows of one round: what is sent and changed under the lock on the names of a directory takes a
/// small part of the time that the lock lasts.
const ROUND_ROWS_MAX: usize = 256;

/// Bytes of values of one round; one row alone may have more.
const ROUND_BYTES_MAX: usize = 4 << 20;

/// How long the doubts of a round are noted at most: none of them is old when its row is made.
const DOUBTS_TIME_MAX: Duration = Duration::from_secs(120);

/// Directories whose names are brought in step at once.
const DIRECTORIES_MAX: usize = 16;

/// One row, ready to be written.
struct Ready<'a> {
    /// Which of the rows that were asked for.
    at: usize,
    row: LaneWrite<'a>,
    /// Its directory and its name, of an entry.
    name: Option<(FullPath, &'a str)>,
    /// Noted before it is made, where it is new.
    doubt: Vec<u8>,
}

impl Ready<'_> {
    fn comes(&self) -> bool {
        self.name.is_some() && self.row.write.before.is_none() && self.row.write.after.is_some()
    }

    fn n_bytes(&self) -> usize {
        let both = [&self.row.write.before, &self.row.write.after];
        both.into_iter().flatten().map(bytes::Bytes::len).sum()
    }
}

impl RedisCluster {
    /// Makes, replaces or removes entries and keys, and keeps names in step; gives what became of
    /// each.
    pub(super) async fn write_rows(&self, rows: &[&RowWrite]) -> Vec<Result<bool, Error>> {
        let mut out: Vec<Option<Result<bool, Error>>> = Vec::with_capacity(rows.len());
        let mut ready = Vec::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            match self.ready(at, row) {
                Ok(row) => {
                    ready.push(row);
                    out.push(None);
                }
                Err(error) => out.push(Some(Err(error))),
            }
        }
        let slots: Vec<u16> = ready.iter().map(|row| slot_of(&row.row.key)).collect();
        let sizes: Vec<usize> = ready.iter().map(Ready::n_bytes).collect();
        let mut ready: Vec<Option<Ready<'_>>> = ready.into_iter().map(Some).collect();
        for round in rounds(&slots, &sizes) {
            let round = round.into_iter().filter_map(|i| ready[i].take()).collect();
            for (at, made) in self.write_round(round).await {
                out[at] = Some(made);
            }
        }
        let lost = || {
            // Each row is in one round.
            Err(Error::new(Operation::Commit, ErrorKind::Io).unknown_outcome())
        };
        out.into_iter()
            .map(|made| made.unwrap_or_else(lost))
            .collect()
    }

    fn ready<'a>(&self, at: usize, write: &'a RowWrite) -> Result<Ready<'a>, Error> {
        let (key, ttl_s, name) = match &write.at {
            At::Key(key) => (self.config().pair_key(key), 0, None),
            At::Path(path) => {
                let (Some(directory), false) = (path.parent(), path.is_root()) else {
                    let error = Error::new(Operation::Commit, ErrorKind::Invalid);
                    return Err(error.with("because", "the root has no row"));
                };
                let ttl_s = match &write.after {
                    Some(row) => value::decode(row.clone())?.ttl_sec().max(0),
                    None => 0,
                };
                let name = Some((directory, path.name()));
                (self.config().row_key(path), ttl_s, name)
            }
        };
        let doubt = name.as_ref().map(|(_, name)| doubt_of(name));
        Ok(Ready {
            at,
            row: LaneWrite { key, write, ttl_s },
            name,
            doubt: doubt.unwrap_or_default(),
        })
    }

    async fn write_round(&self, mut round: Vec<Ready<'_>>) -> Vec<(usize, Result<bool, Error>)> {
        let mut out = Vec::with_capacity(round.len());
        // Order: noted before any row is made.
        let began = Instant::now();
        let noted = doubts(&round)
            .into_iter()
            .map(|(directory, doubts)| async move {
                let noted = self.doubt(&directory, &doubts).await;
                (directory, noted)
            });
        let noted: Vec<_> = noted.collect();
        let noted: Vec<_> = stream::iter(noted)
            .buffered(DIRECTORIES_MAX)
            .collect()
            .await;
        for (directory, noted) in noted {
            if let Err(error) = noted {
                let is_there = |row: &Ready<'_>| row.comes() && row.is_in(&directory);
                let refused = round.iter().filter(|row| is_there(row));
                out.extend(refused.map(|row| (row.at, Err(error.repeated()))));
                round.retain(|row| !is_there(row));
            }
        }
        if began.elapsed() > DOUBTS_TIME_MAX {
            // A listing ends a doubt that is old and has no row: a row behind that is listed by
            // nobody.
            let text = "the servers that have the names answer too slowly";
            let error = Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", text);
            out.extend(round.iter().map(|row| (row.at, Err(error.repeated()))));
            return out;
        }
        let (ats, doubtful): (Vec<usize>, Vec<Option<Name>>) =
            round.iter().map(|row| (row.at, Name::of(row))).unzip();
        let rows: Vec<LaneWrite<'_>> = round.into_iter().map(|row| row.row).collect();
        let made = self.lanes.write(&self.nodes, &self.places, &rows).await;
        let mut names: BTreeMap<String, Changed> = BTreeMap::new();
        for (name, made) in doubtful.into_iter().zip(&made) {
            let Some(name) = name else { continue };
            let changed = names.entry(name.directory).or_default();
            match (made, name.doubt) {
                // What is left is a name without a row, which listings take out, too.
                (Ok(true), None) if name.goes => drop(changed.gone.insert(name.name)),
                // Its name is looked at until it is among the names.
                (Ok(true), Some(doubt)) => changed.come.push((name.name, doubt)),
                (Err(error), Some(_)) if error.outcome() == Outcome::Unknown => {}
                (_, Some(doubt)) => changed.not_made.push(doubt),
                (_, None) => {}
            }
        }
        let kept = names
            .iter()
            .map(|(directory, changed)| self.keep_names(directory, changed));
        let kept: Vec<_> = kept.collect();
        stream::iter(kept)
            .buffered(DIRECTORIES_MAX)
            .collect::<Vec<()>>()
            .await;
        out.extend(ats.into_iter().zip(made));
        out
    }

    /// Brings the names of a directory in step with rows that were written.
    async fn keep_names(&self, directory: &str, changed: &Changed) {
        if !changed.not_made.is_empty() {
            let ends = changed.not_made.iter().map(|doubt| (&doubt[..], false));
            later(self.end(directory, &ends.collect()).await);
        }
        if !changed.come.is_empty() {
            later(self.have_rows(directory, &changed.come).await);
        }
        later(self.clean(directory, &changed.gone).await);
    }
}

impl Ready<'_> {
    fn is_in(&self, directory: &str) -> bool {
        self.name
            .as_ref()
            .is_some_and(|(of, _)| of.as_str() == directory)
    }
}

/// An entry's name.
struct Name {
    directory: String,
    name: String,
    goes: bool,
    /// Where it is new.
    doubt: Option<Vec<u8>>,
}

impl Name {
    fn of(row: &Ready<'_>) -> Option<Self> {
        let (directory, name) = row.name.as_ref()?;
        Some(Self {
            directory: directory.as_str().to_owned(),
            name: (*name).to_owned(),
            goes: row.row.write.after.is_none(),
            doubt: row.comes().then(|| row.doubt.clone()),
        })
    }
}

/// What became of the names in a directory.
#[derive(Default)]
struct Changed {
    /// New ones, and their doubts.
    come: Vec<(String, Vec<u8>)>,
    gone: BTreeSet<String>,
    /// Doubts of those that were not made.
    not_made: Vec<Vec<u8>>,
}

/// The doubts of new names, by directory.
fn doubts(round: &[Ready<'_>]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut doubts: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for row in round.iter().filter(|row| row.comes()) {
        if let Some((directory, _)) = &row.name {
            let of = doubts.entry(directory.as_str().to_owned());
            of.or_default().push(row.doubt.clone());
        }
    }
    doubts
}

/// Which rows are written together.
fn rounds(slots: &[u16], sizes: &[usize]) -> Vec<Vec<usize>> {
    let (mut out, mut left) = (Vec::new(), (0..slots.len()).collect::<Vec<usize>>());
    while !left.is_empty() {
        let (mut round, mut taken, mut n_bytes) = (Vec::new(), BTreeSet::new(), 0);
        left.retain(|i| {
            let has_room = round.is_empty()
                || round.len() < ROUND_ROWS_MAX && n_bytes + sizes[*i] <= ROUND_BYTES_MAX;
            // ⚠ A lane knows its last write alone: of two of one slot whose answers are lost, the
            // first would be taken for one that was not made.
            if !has_room || !taken.insert(slots[*i]) {
                return true;
            }
            round.push(*i);
            n_bytes += sizes[*i];
            false
        });
        out.push(round);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_of_one_slot_are_written_together() {
        let rounds = rounds(&[7, 8, 7, 9, 7, 8], &[1; 6]);
        assert_eq!(rounds, [vec![0, 1, 3], vec![2, 5], vec![4]]);
    }

    #[test]
    fn a_round_is_bounded_and_a_large_row_is_alone() {
        let slots: Vec<u16> = (0..600).collect();
        let lens: Vec<usize> = rounds(&slots, &[1; 600]).iter().map(Vec::len).collect();
        assert_eq!(lens, [256, 256, 88]);
        let large = ROUND_BYTES_MAX + 1;
        let all = rounds(&[1, 2, 3], &[1, large, 1]);
        assert_eq!(all, [vec![0, 2], vec![1]]);
    }
}
