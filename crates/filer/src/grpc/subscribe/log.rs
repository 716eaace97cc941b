// SPDX-License-Identifier: Apache-2.0
//! The changes of every origin as events: read from the journal once for all subscribers.
//!
//! The latest changes of each origin are kept decoded and shared, so that a thousand
//! subscribers at the end of the log read it once. Who is further behind reads the journal
//! itself, in pages whose size shrinks with the number of subscribers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dulse_merge::{Change, events};
use dulse_proto::filer::SubscribeMetadataResponse;
use dulse_replica::{Following, Shared};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::{FullPath, Origin, Stamp};
use parking_lot::Mutex;

use super::super::convert;
use super::source::Source;

/// Bytes of changes that are kept for all subscribers together.
const RECENT_BYTES_MAX: usize = 32 << 20;

/// Bytes of changes read from the journal at once for the shared end of the log.
const READ_BYTES: usize = 256 << 10;

/// Reads by which the shared end catches up with the log before a page is given.
const READS_MAX: usize = 8;

/// One change as its events.
pub(crate) struct Told {
    /// The last stamp of the change.
    pub(super) stamp: Stamp,
    /// Its events with their stamps, in order; none for changes of keys and members.
    pub(super) events: Vec<(Stamp, SubscribeMetadataResponse)>,
    bytes: usize,
}

impl Told {
    /// A change with these events, which take about `bytes` in memory.
    pub(crate) fn new(
        stamp: Stamp,
        events: Vec<(Stamp, SubscribeMetadataResponse)>,
        bytes: usize,
    ) -> Self {
        Self {
            stamp,
            events,
            bytes,
        }
    }

    /// A change with these events.
    #[cfg(test)]
    pub(super) fn of(stamp: Stamp, events: Vec<(Stamp, SubscribeMetadataResponse)>) -> Self {
        Self::new(stamp, events, 1)
    }
}

/// Changes of one origin behind a stamp, and how far they reach.
pub(crate) struct Page {
    pub(super) changes: Vec<Arc<Told>>,
    pub(super) reached: Stamp,
    /// ⚠ I9: what follows the stamp is no longer kept; the log goes on behind this one.
    pub(super) cut: Option<Stamp>,
}

impl Page {
    /// Changes, and how far they reach.
    pub(crate) fn whole(changes: Vec<Told>, reached: Stamp) -> Self {
        Self {
            changes: changes.into_iter().map(Arc::new).collect(),
            reached,
            cut: None,
        }
    }

    /// Takes out events; how far it reaches stays.
    pub(crate) fn leave_out(&mut self, is_out: impl Fn(&SubscribeMetadataResponse) -> bool) {
        for told in &mut self.changes {
            if told.events.iter().any(|(_, event)| is_out(event)) {
                let events = told.events.iter().filter(|(_, event)| !is_out(event));
                *told = Arc::new(Told::new(told.stamp, events.cloned().collect(), told.bytes));
            }
        }
    }

    /// What follows is no longer kept.
    pub(crate) fn cut(at: Stamp) -> Self {
        Self {
            changes: Vec::new(),
            reached: at,
            cut: Some(at),
        }
    }
}

/// The shared end of the log of one origin: every change in `(begin, end]`.
#[derive(Default)]
struct Recent {
    begin: Stamp,
    end: Stamp,
    changes: VecDeque<Arc<Told>>,
    bytes: usize,
}

/// The log as events.
pub(super) struct Log {
    source: Arc<dyn Source>,
    recent: Mutex<BTreeMap<Origin, Recent>>,
}

impl Log {
    pub(super) fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            recent: Mutex::default(),
        }
    }

    /// Changes of an origin behind `after` and at or below `until`, which is on disk here;
    /// about `max_bytes` of them.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub(super) fn page(
        &self,
        origin: Origin,
        after: Stamp,
        until: Stamp,
        max_bytes: usize,
    ) -> Result<Page, Error> {
        let mut all = self.recent.lock();
        let recent = all.entry(origin).or_default();
        if recent.changes.is_empty() && recent.end < after {
            (recent.begin, recent.end) = (after, after);
        }
        for _ in 0..READS_MAX {
            if recent.end >= until {
                break;
            }
            let read = self.source.read(origin, recent.end, until, READ_BYTES)?;
            recent.end = read.reached;
            if read.cut.is_some() {
                // The shared end begins where the log does; who is behind it is told below.
                *recent = Recent {
                    begin: recent.end,
                    end: recent.end,
                    ..Recent::default()
                };
            }
            recent.bytes += read.changes.iter().map(|told| told.bytes).sum::<usize>();
            recent.changes.extend(read.changes);
            recent.shrink();
        }
        if recent.end < after {
            *recent = Recent {
                begin: after,
                end: after,
                ..Recent::default()
            };
        }
        if after >= recent.begin && recent.end > after {
            return Ok(recent.page(after, until, max_bytes));
        }
        drop(all);
        self.source.read(origin, after, until, max_bytes)
    }
}

/// Reads a replica's journal.
pub(super) fn read_replica(
    shared: &Shared,
    origin: Origin,
    after: Stamp,
    until: Stamp,
    max_bytes: usize,
) -> Result<Page, Error> {
    let records = match shared.following(origin, after, max_bytes)? {
        Following::Changes(records) => records,
        Following::Cut(at) => return Ok(Page::cut(at)),
    };
    let mut changes = Vec::with_capacity(records.len());
    // None left: everything up to `until` was read.
    let mut reached = if records.is_empty() { until } else { after };
    for record in records {
        if record.stamp > until {
            reached = until;
            break;
        }
        let change = Change::decode(&record.payload).map_err(|e| {
            Error::new(Operation::Transfer, ErrorKind::Corrupt)
                .with("stamp", record.stamp)
                .source(e)
        })?;
        reached = change.stamp;
        changes.push(Told {
            stamp: change.stamp,
            events: events(&change)
                .into_iter()
                .map(|event| (event.stamp, message(&change, event)))
                .collect(),
            bytes: record.payload.len(),
        });
    }
    Ok(Page::whole(changes, reached))
}

impl Recent {
    fn shrink(&mut self) {
        while self.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes;
            self.begin = oldest.stamp;
        }
    }

    fn page(&self, after: Stamp, until: Stamp, max_bytes: usize) -> Page {
        let at = self.changes.partition_point(|told| told.stamp <= after);
        let (mut bytes, mut changes) = (0, Vec::new());
        for told in self.changes.range(at..) {
            if told.stamp > until {
                // Nothing of it lies between.
                return Page {
                    changes,
                    reached: until,
                    cut: None,
                };
            }
            if bytes >= max_bytes {
                let reached = changes.last().map_or(after, |t: &Arc<Told>| t.stamp);
                return Page {
                    changes,
                    reached,
                    cut: None,
                };
            }
            bytes += told.bytes;
            changes.push(Arc::clone(told));
        }
        Page {
            changes,
            reached: self.end.min(until),
            cut: None,
        }
    }
}

/// An event as upstream's message.
fn message(change: &Change, event: dulse_merge::Event) -> SubscribeMetadataResponse {
    let at = |path: Option<bytes::Bytes>, entry: Option<dulse_types::Entry>| {
        let path = FullPath::parse(std::str::from_utf8(&path?).ok()?).ok()?;
        Some((path, entry?))
    };
    let happened = dulse_namespace::Happened {
        stamp: event.stamp,
        old: at(event.old_path, event.old_entry),
        new: at(event.new_path, event.new_entry),
        delete_chunks: event.delete_chunks,
    };
    convert::event(
        &happened,
        change.origin,
        &change.signatures,
        change.is_from_other_cluster,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dulse_journal::MemDisk;
    use dulse_kv::MemoryEngine;
    use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, SystemClock};
    use dulse_store::{Step, Transaction};

    use super::*;

    /// I9: a subscriber behind the cut is told, one beyond it and the shared end go on.
    #[test]
    fn a_page_behind_the_cut_says_so() {
        let mut replica = Replica::open(ReplicaOptions {
            disk: Arc::new(MemDisk::new()),
            engine: Arc::new(MemoryEngine::new()),
            clock: Arc::new(SystemClock),
            random: 1 << 32 | 1,
            durability: Durability::Fsync,
            limits: Limits {
                segment_size_bytes: 1_000,
                log_budget_bytes: 0,
                ..Limits::STANDARD
            },
        })
        .unwrap();
        for n in 0..50_u8 {
            let step = Step::KvPut {
                key: vec![n].into(),
                value: vec![n; 100].into(),
            };
            let transaction = Transaction {
                steps: vec![step],
                ..Transaction::default()
            };
            replica.commit(vec![transaction]).remove(0).unwrap();
        }
        let shared = replica.shared();
        let (origin, last) = (shared.origin(), shared.vector().get(shared.origin()));
        replica.checkpoint().unwrap();
        replica.stable(shared.vector()).unwrap();
        let log = Log::new(shared.clone());
        let behind = log.page(origin, Stamp::ZERO, last, 1 << 20).unwrap();
        let cut = behind.cut.expect("the log was cut");
        assert!(cut > Stamp::ZERO && behind.changes.is_empty());
        let beyond = log.page(origin, cut, last, 1 << 20).unwrap();
        assert_eq!((beyond.cut, beyond.reached), (None, last));
        assert!(!beyond.changes.is_empty());
    }
}
