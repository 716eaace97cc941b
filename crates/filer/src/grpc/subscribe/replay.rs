// SPDX-License-Identifier: Apache-2.0
//! The state in place of a log that does not reach back far enough.

use std::collections::VecDeque;
use std::sync::Arc;

use dulse_namespace::Happened;
use dulse_proto::filer::SubscribeMetadataResponse;
use dulse_replica::Shared;
use dulse_store::{Error, ListRange, Listed};
use dulse_types::{Entry, FullPath, Stamp, Vector};

use super::super::convert;
use super::source::Source;

/// Entries read at once.
const PART_MAX: usize = 256;

/// Whether this filer's log lacks events at or above `since`: it came by a transfer of the
/// state, or what it had was dropped. ⚠ Or whether events below it may not have been told: the
/// subscriber may come from a member that had been shut out and went on apart from the others.
///
/// # Errors
///
/// `Corrupt`, `Io`.
pub fn is_older_than_log(shared: &Shared, since: Stamp, is_local: bool) -> Result<bool, Error> {
    if !is_local && shared.is_from_apart(since) {
        return Ok(true);
    }
    // What is applied and not on disk yet is in no log that can be read: compared with that, a
    // cursor just below a peer's first change behind a transfer looked too old.
    for (origin, last) in shared.durable_vector().iter() {
        if is_local && origin != shared.origin() {
            continue;
        }
        let first = shared.changes_after(origin, Stamp::ZERO, 1)?;
        let begin = first.first().map_or(last, |record| record.prev);
        if begin > Stamp::ZERO && since <= begin {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A walk over the tree as it is: directories before what is in them, a part of each
/// directory of one path in memory.
pub(super) struct Replay {
    source: Arc<dyn Source>,
    open: Vec<Open>,
    /// `ts_ns` of the last event; they count up from the cursor.
    ts: Stamp,
    /// Where the log goes on. ⚠ Read before the walk: what happens meanwhile is told again.
    vector: Vector,
}

/// A directory that is being walked.
struct Open {
    dir: FullPath,
    rows: VecDeque<Listed>,
    /// Behind which name it goes on; `None` when the rows are its last.
    next: Option<String>,
}

impl Open {
    fn new(dir: FullPath) -> Self {
        Self {
            dir,
            rows: VecDeque::new(),
            next: Some(String::new()),
        }
    }
}

impl Replay {
    pub(super) fn new(source: Arc<dyn Source>, since: Stamp) -> Self {
        Self {
            open: vec![Open::new(FullPath::root())],
            ts: since,
            vector: source.durable(),
            source,
        }
    }

    /// The next entries as events; `None` at the end.
    pub(super) fn next_part(&mut self) -> Result<Option<Vec<SubscribeMetadataResponse>>, Error> {
        let own = self.source.origin();
        let mut events = Vec::new();
        while events.len() < PART_MAX {
            let Some((path, entry)) = self.next_entry()? else {
                break;
            };
            self.ts = self.ts.next();
            let happened = Happened {
                stamp: self.ts,
                old: None,
                new: Some((path, entry)),
                delete_chunks: false,
            };
            events.push(convert::event(&happened, own, &[], false));
        }
        Ok((!events.is_empty()).then_some(events))
    }

    fn next_entry(&mut self) -> Result<Option<(FullPath, Entry)>, Error> {
        while let Some(open) = self.open.last_mut() {
            if let Some(row) = open.rows.pop_front() {
                let Ok(path) = FullPath::of(open.dir.as_str(), &row.name) else {
                    continue;
                };
                if row.entry.is_dir() {
                    self.open.push(Open::new(path.clone()));
                }
                return Ok(Some((path, row.entry)));
            }
            let Some(start) = open.next.take() else {
                self.open.pop();
                continue;
            };
            let range = ListRange {
                prefix: String::new(),
                start,
                inclusive: false,
                limit: PART_MAX,
            };
            let rows = self.source.list(&open.dir, &range)?;
            let last = rows.last().filter(|_| rows.len() >= PART_MAX);
            open.next = last.map(|row| row.name.clone());
            open.rows = rows.into();
        }
        Ok(None)
    }

    /// Where the log goes on, and the stamp of the marker that ends the walk.
    pub(super) fn end(&self) -> (Vector, Stamp) {
        (self.vector.clone(), self.ts.next())
    }
}

#[cfg(test)]
mod tests {
    use dulse_journal::MemDisk;
    use dulse_kv::MemoryEngine;
    use dulse_merge::MemberStep;
    use dulse_replica::Clock;
    use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, SystemClock};
    use dulse_store::{Step, Transaction};
    use dulse_types::{EntryFields, Origin};

    use super::*;

    fn create(replica: &mut Replica, path: &str) {
        let mut fields = EntryFields::default();
        fields.attrs_mut().file_mode = 0o644;
        let step = Step::Create {
            path: FullPath::parse(path).unwrap(),
            entry: fields.to_entry(&Default::default()),
        };
        let transaction = Transaction {
            steps: vec![step],
            ..Transaction::default()
        };
        replica.commit(vec![transaction]).remove(0).unwrap();
    }

    /// I8: what the others wrote meanwhile it was not told there, and would never be.
    #[test]
    fn who_followed_a_member_that_was_shut_out_and_went_on_takes_the_state() {
        let clock = Arc::new(SystemClock);
        let mut replica = Replica::open(ReplicaOptions {
            disk: Arc::new(MemDisk::new()),
            engine: Arc::new(MemoryEngine::new()),
            clock: clock.clone(),
            random: 1 << 32 | 1,
            durability: Durability::Fsync,
            limits: Limits::STANDARD,
        })
        .unwrap();
        let (removed, left, member) = (Origin(7), Origin(8), Origin(9));
        for (origin, end) in [(removed, true), (left, false)] {
            let cut = Stamp::ZERO;
            let step = match end {
                true => MemberStep::Remove {
                    member: origin,
                    cut,
                },
                false => MemberStep::Leave { member: origin },
            };
            replica.member(step).unwrap();
        }
        create(&mut replica, "/d");
        let shared = replica.shared();
        let is_too_old = |since| is_older_than_log(&shared, since, false).unwrap();
        let since = Stamp(clock.now_ns());
        shared.met(left).unwrap();
        shared.met(member).unwrap();
        assert!(!is_too_old(since), "nobody went on apart from the others");
        shared.met(removed).unwrap();
        assert!(is_too_old(since), "it may come from there");
        assert!(
            !is_older_than_log(&shared, since, true).unwrap(),
            "its own are all there"
        );
        let later = Stamp(since.0 + 60_000_000_000);
        assert!(!is_too_old(later), "that one goes on no more");
    }

    /// The walk may have passed where something happens before it has ended.
    #[test]
    fn what_happens_during_the_walk_is_told_again() {
        let mut replica = Replica::open(ReplicaOptions {
            disk: Arc::new(MemDisk::new()),
            engine: Arc::new(MemoryEngine::new()),
            clock: Arc::new(SystemClock),
            random: 1 << 32 | 1,
            durability: Durability::Fsync,
            limits: Limits::STANDARD,
        })
        .unwrap();
        for n in 0..3 {
            create(&mut replica, &format!("/d/{n}"));
        }
        let shared = replica.shared();
        let before = shared.durable_vector();
        let mut replay = Replay::new(shared.clone(), Stamp(10));
        let part = replay.next_part().unwrap().expect("entries");
        assert_eq!(part.len(), 4, "the directory and what is in it");
        create(&mut replica, "/a");
        assert_eq!(replay.next_part().unwrap().map(|part| part.len()), None);
        assert_eq!(replay.end(), (before, Stamp(15)));
    }
}
