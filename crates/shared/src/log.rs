// SPDX-License-Identifier: Apache-2.0
//! The journal of a filer on a shared store: intents before, outcomes after, in order of stamps.
//!
//! An intent is on disk before the database is asked. A stamp is given while the database holds
//! everything that is written, so that of two filers' changes of one path the later has the
//! greater one; outcomes are written in order of stamps, so whoever reads them never meets one
//! below what it has seen. What no outcome follows is read back when the filer starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use dulse_journal::{Checkpoint, Journal, JournalError, Record, RecordKind};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::{Origin, Stamp};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::backend::Guard;
use crate::record::{Announced, Payload};
use crate::rows::RowWrite;

mod writing;

use writing::{Answer, Job, write};

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// What a transaction did, as subscribers are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Stamp of its last event; the others have those before it, one each.
    pub stamp: Stamp,
    /// Stamp of the announcement before it; zero for the first.
    pub prev: Stamp,
    /// What it did.
    pub announced: Announced,
}

impl Announcement {
    /// Stamp of an event.
    #[must_use]
    pub fn stamp_of(&self, event: usize) -> Stamp {
        let n_behind = self.announced.events.len().saturating_sub(event + 1);
        Stamp(self.stamp.0.saturating_sub(n_behind as i64))
    }
}

/// An intent whose outcome is not in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OpenIntent {
    pub(crate) position: u64,
    pub(crate) intended: Intended,
}

/// What an intent says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Intended {
    /// One transaction of the database.
    Whole { ticket: i64, announced: Announced },
    /// Rows, one after another.
    Steps {
        announced: Announced,
        checks: Vec<Guard>,
        rows: Vec<RowWrite>,
    },
}

/// How an intent ended.
pub(crate) enum Ending {
    Applied,
    Seen(Announced),
    Void,
}

enum Slot {
    /// The database has not answered.
    Open,
    /// It has, of the intent at a position; its turn comes when all below have ended.
    Ended(Record, u64, Answer),
    /// Nothing is to be written.
    Nothing,
}

#[derive(Default)]
struct Order {
    /// The greatest stamp given, or promised not to be given any more.
    last: Stamp,
    /// The last stamp of an outcome handed to the writer.
    written: Stamp,
    /// No later outcome is at or below it.
    promised: Stamp,
    /// By last stamp; what is at the front and ended goes to the writer.
    slots: BTreeMap<Stamp, Slot>,
    /// Positions of intents without an outcome.
    open: BTreeSet<u64>,
    /// Intents that are on their way to the disk, by their numbers: positions that they are not
    /// before.
    queued: BTreeMap<Stamp, u64>,
}

/// The log.
pub(crate) struct Log {
    journal: Arc<Journal>,
    origin: Origin,
    /// Intents are of an origin of their own, which no filer has: its upper half is 0.
    intents: Origin,
    /// Order: held while jobs are sent, so that the writer has them in order of stamps.
    order: Mutex<Order>,
    next_intent: Mutex<Stamp>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    written: watch::Sender<Stamp>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log of a filer; gives what it must read back.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub(crate) fn open(
        journal: Journal,
        origin: Origin,
        checkpoint: u64,
    ) -> Result<(Self, Vec<OpenIntent>), Error> {
        let intents = Origin(origin.0 & u64::from(u32::MAX));
        let open = unfinished(&journal, checkpoint, intents)?;
        let lasts = journal.lasts();
        let last = lasts.get(origin);
        let (jobs, queue) = mpsc::channel::<Job>();
        let journal = Arc::new(journal);
        let writing = Arc::clone(&journal);
        let thread = std::thread::Builder::new()
            .name("shared-journal".to_owned())
            .spawn(move || write(&writing, &queue))
            .map_err(|e| Error::new(Operation::Open, ErrorKind::Io).source(e))?;
        let order = Order {
            last,
            written: last,
            open: open.iter().map(|intent| intent.position).collect(),
            ..Order::default()
        };
        let log = Self {
            journal,
            origin,
            intents,
            order: Mutex::new(order),
            next_intent: Mutex::new(lasts.get(intents).next()),
            jobs: Mutex::new(Some(jobs)),
            written: watch::Sender::new(last),
            thread: Mutex::new(Some(thread)),
        };
        Ok((log, open))
    }

    /// Who this filer is.
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Writes an intent; gives its position, once it is on disk.
    ///
    /// - `intent`: [`Payload::Intent`] or [`Payload::Steps`].
    pub(crate) async fn intend(&self, intent: &Payload) -> Result<u64, Error> {
        let payload = intent.encode();
        let (number, answered) = {
            // Held while the job is sent, so that intents are in order of their numbers.
            let mut next = self.next_intent.lock();
            let number = *next;
            let record = self.intent_record(&mut next, payload);
            // ⚠ Before it can be on disk: the next start looks from the checkpoint on.
            let not_before = self.journal.end();
            self.order.lock().queued.insert(number, not_before);
            (number, self.send(vec![record]))
        };
        let written = answered.await.unwrap_or_else(|_| Err(stopped()));
        let mut order = self.order.lock();
        order.queued.remove(&number);
        let position = written?;
        order.open.insert(position);
        Ok(position)
    }

    /// Gives `n` stamps, not below the database's clock; the last of them is returned. They are
    /// held back until they are ended.
    pub(crate) fn stamps(&self, n: u32, clock_ns: i64) -> Stamp {
        let mut order = self.order.lock();
        let first = Stamp(clock_ns.max(order.last.0.saturating_add(1)));
        let last = first.plus(n.max(1) - 1);
        order.last = last;
        order.slots.insert(last, Slot::Open);
        last
    }

    /// The greatest stamp that was given.
    pub(crate) fn last(&self) -> Stamp {
        self.order.lock().last
    }

    /// Ends what has stamps; returns when its outcome is on disk, behind all with lower stamps.
    pub(crate) async fn end(
        &self,
        stamp: Stamp,
        position: Option<u64>,
        ending: Ending,
    ) -> Result<(), Error> {
        let payload = match (position, ending) {
            (Some(position), Ending::Applied) => Some((position, Payload::Applied { position })),
            (Some(position), Ending::Seen(announced)) => {
                let seen = Payload::Seen {
                    position,
                    announced,
                };
                Some((position, seen))
            }
            _ => None,
        };
        let (answer, answered) = oneshot::channel();
        {
            let mut order = self.order.lock();
            let slot = match payload {
                Some((intent, payload)) => {
                    let record = Record {
                        kind: RecordKind::Change,
                        origin: self.origin,
                        stamp,
                        prev: Stamp::ZERO,
                        payload: payload.encode(),
                    };
                    Slot::Ended(record, intent, answer)
                }
                None => {
                    let _ = answer.send(Ok(0));
                    Slot::Nothing
                }
            };
            order.slots.insert(stamp, slot);
            self.flush(&mut order);
        }
        answered.await.unwrap_or_else(|_| Err(stopped()))?;
        if let Some(position) = position {
            self.close(position);
        }
        Ok(())
    }

    /// Ends an intent that came to nothing.
    pub(crate) async fn void(&self, position: u64) -> Result<(), Error> {
        let payload = Payload::Void { position }.encode();
        let answered = {
            let mut next = self.next_intent.lock();
            let record = self.intent_record(&mut next, payload);
            self.send(vec![record])
        };
        answered.await.unwrap_or_else(|_| Err(stopped()))?;
        self.close(position);
        Ok(())
    }

    /// No later outcome here has a stamp at or below it, if `clock_ns` was read from the
    /// database before the call.
    pub(crate) fn promise(&self, clock_ns: i64) -> Stamp {
        let mut order = self.order.lock();
        order.last = order.last.max(Stamp(clock_ns));
        // What is under way has stamps below `last`, and what the writer has cannot be read yet;
        // all are above what was promised before.
        let readable = *self.written.borrow();
        let now = if order.slots.is_empty() && readable >= order.written {
            order.last
        } else {
            readable
        };
        order.promised = order.promised.max(now);
        order.promised
    }

    /// Whether something that was begun has no outcome yet.
    pub(crate) fn has_open(&self) -> bool {
        let order = self.order.lock();
        !order.open.is_empty() || !order.queued.is_empty()
    }

    /// Whether the intent at a position has no outcome yet.
    pub(crate) fn is_open(&self, position: u64) -> bool {
        self.order.lock().open.contains(&position)
    }

    /// What it takes on disk.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.journal.size_bytes()
    }

    /// Whether it takes no more.
    pub(crate) fn has_failed(&self) -> bool {
        self.journal.is_poisoned()
    }

    /// Told the stamp of each outcome that is on disk.
    pub(crate) fn written(&self) -> watch::Receiver<Stamp> {
        self.written.subscribe()
    }

    /// Announcements behind a stamp, in order, up to about `max_bytes`.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub(crate) fn read_after(
        &self,
        after: Stamp,
        max_bytes: usize,
    ) -> Result<Vec<Announcement>, Error> {
        let records = self
            .journal
            .read_origin_after(self.origin, after, READ_BYTES.min(max_bytes))
            .map_err(journal)?;
        let (mut out, mut n_bytes) = (Vec::new(), 0);
        for record in records {
            let announced = match Payload::decode(&record.payload).map_err(corrupt)? {
                // Dropped meanwhile, as its outcome is.
                Payload::Applied { position } if position < self.journal.begin() => continue,
                Payload::Applied { position } => match intent_at(&self.journal, position) {
                    Err(_) if position < self.journal.begin() => continue,
                    intent => intent?,
                },
                Payload::Seen { announced, .. } => announced,
                Payload::Intent { .. } | Payload::Steps { .. } | Payload::Void { .. } => continue,
            };
            let size = |event: &crate::record::Event| {
                let both = [&event.old, &event.new];
                both.into_iter()
                    .flatten()
                    .map(|(_, e)| e.raw().len())
                    .sum::<usize>()
            };
            n_bytes += announced.events.iter().map(size).sum::<usize>();
            out.push(Announcement {
                stamp: record.stamp,
                prev: record.prev,
                announced,
            });
            if n_bytes >= max_bytes {
                break;
            }
        }
        Ok(out)
    }

    /// Drops whole segments below what is open and at or below `until`, oldest first, while
    /// the log has more than `budget_bytes` or they are older than `oldest`.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub(crate) fn trim(&self, oldest: Stamp, budget_bytes: u64) -> Result<u64, Error> {
        self.checkpoint()?;
        let floor = self.floor();
        let mut freed = 0;
        while let Some(segment) = self.journal.oldest() {
            let is_due = segment.newest < oldest || self.journal.size_bytes() > budget_bytes;
            if !is_due || segment.end > floor {
                break;
            }
            freed += self.journal.drop_before(segment.end).map_err(journal)?;
        }
        Ok(freed)
    }

    /// Ends the thread after what is queued.
    pub(crate) fn stop(&self) {
        self.jobs.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            // A panic aborts the process.
            let _ = thread.join();
        }
        if let Err(error) = self.checkpoint() {
            tracing::warn!(%error, "the next start reads more of the journal than it had to");
        }
    }

    /// Position below which no intent is open.
    fn floor(&self) -> u64 {
        let order = self.order.lock();
        let open = order.open.first().into_iter();
        let lowest = open.chain(order.queued.values()).min().copied();
        // Order: read while nothing can be queued.
        lowest.unwrap_or_else(|| self.journal.synced())
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let position = self.floor();
        let checkpoint = Checkpoint {
            position,
            content: Vec::new(),
        };
        self.journal.write_checkpoint(&checkpoint).map_err(journal)
    }

    fn intent_record(&self, next: &mut Stamp, payload: bytes::Bytes) -> Record {
        let stamp = *next;
        *next = next.next();
        Record {
            kind: RecordKind::Intent,
            origin: self.intents,
            stamp,
            prev: Stamp(stamp.0 - 1),
            payload,
        }
    }

    fn close(&self, position: u64) {
        self.order.lock().open.remove(&position);
    }

    /// Hands outcomes at the front to the writer, in order.
    fn flush(&self, order: &mut Order) {
        while let Some(entry) = order.slots.first_entry() {
            if matches!(entry.get(), Slot::Open) {
                break;
            }
            let (stamp, slot) = entry.remove_entry();
            let Slot::Ended(mut record, intent, answer) = slot else {
                continue;
            };
            record.prev = order.written;
            order.written = stamp;
            let written = self.written.clone();
            let (own, on_disk) = oneshot::channel();
            self.send_job(Job {
                records: vec![record],
                outcome_of: Some(intent),
                answer: own,
            });
            // The writer answers in order, so the watch only rises.
            let told = move |result: Result<u64, Error>| {
                if result.is_ok() {
                    written.send_if_modified(|last| {
                        let is_new = stamp > *last;
                        *last = stamp.max(*last);
                        is_new
                    });
                }
                let _ = answer.send(result);
            };
            tokio::spawn(async move { told(on_disk.await.unwrap_or_else(|_| Err(stopped()))) });
        }
    }

    fn send(&self, records: Vec<Record>) -> oneshot::Receiver<Result<u64, Error>> {
        let (answer, answered) = oneshot::channel();
        self.send_job(Job {
            records,
            outcome_of: None,
            answer,
        });
        answered
    }

    fn send_job(&self, job: Job) {
        let jobs = self.jobs.lock();
        if let Some(jobs) = &*jobs {
            // Without its writer the answer is dropped, which whoever waits for it is told.
            let _ = jobs.send(job);
        }
    }
}

/// What the intent at a position is to announce.
fn intent_at(journal: &Journal, position: u64) -> Result<Announced, Error> {
    let records = journal
        .read(position, journal.end(), 1)
        .map_err(self::journal)?;
    let payload = records
        .first()
        .map(|(record, _)| Payload::decode(&record.payload));
    match payload {
        Some(Ok(Payload::Intent { announced, .. } | Payload::Steps { announced, .. })) => {
            Ok(announced)
        }
        Some(Err(error)) => Err(corrupt(error)),
        _ => Err(Error::new(Operation::Find, ErrorKind::Corrupt).with(
            "because",
            format!("no intent at position {position} of the journal"),
        )),
    }
}

/// Intents from a position on that have no outcome.
fn unfinished(journal: &Journal, from: u64, intents: Origin) -> Result<Vec<OpenIntent>, Error> {
    let end = journal.end();
    let mut at = from.max(journal.begin());
    let mut open = BTreeMap::new();
    while at < end {
        let records = journal.read(at, end, READ_BYTES).map_err(self::journal)?;
        if records.is_empty() {
            break;
        }
        for (record, behind) in records {
            let position = behind - record.size();
            at = behind;
            if !matches!(record.kind, RecordKind::Intent | RecordKind::Change) {
                continue;
            }
            let intended = match Payload::decode(&record.payload).map_err(corrupt)? {
                Payload::Intent { ticket, announced } => Intended::Whole { ticket, announced },
                Payload::Steps {
                    announced,
                    checks,
                    rows,
                } => Intended::Steps {
                    announced,
                    checks,
                    rows,
                },
                Payload::Void { position }
                | Payload::Applied { position }
                | Payload::Seen { position, .. } => {
                    open.remove(&position);
                    continue;
                }
            };
            if record.origin == intents {
                open.insert(position, OpenIntent { position, intended });
            }
        }
    }
    Ok(open.into_values().collect())
}

pub(crate) fn journal(error: JournalError) -> Error {
    let kind = match &error {
        error if error.is_full() => ErrorKind::DiskFull,
        JournalError::TooLarge(_) => ErrorKind::TooLarge,
        JournalError::Poisoned => ErrorKind::Unavailable,
        JournalError::Disk(_) => ErrorKind::Io,
        _ => ErrorKind::Corrupt,
    };
    Error::new(Operation::Commit, kind).source(error)
}

fn corrupt(error: dulse_types::wire::WireError) -> Error {
    Error::new(Operation::Find, ErrorKind::Corrupt).source(error)
}

pub(crate) fn stopped() -> Error {
    Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", "the store is stopping")
}

#[cfg(test)]
mod tests;
