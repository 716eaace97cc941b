// SPDX-License-Identifier: Apache-2.0
//! What is told late, and behind what.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use dulse_journal::{Journal, JournalOptions, MemDisk};
use dulse_store::{EntryStore as _, ListRange, Step, Transaction};
use dulse_types::{Origin, Stamp};
use parking_lot::Mutex;

use super::*;
use crate::any::AnyShared as _;
use crate::backend::Held;
use crate::located::tests::{Memory, path};
use crate::log::Log;
use crate::record::Payload;
use crate::steps::Clocks;
use crate::store::{SharedOptions, SharedStore};

const ORIGIN: Origin = Origin(7 << 32 | 9);

/// A database in which another filer writes over `/a` as soon as somebody has looked at it.
struct Busy {
    memory: Memory,
    /// The other's stamp.
    other: AtomicI64,
    /// Whether it is not said what became of an attempt.
    is_silent: AtomicBool,
    /// Whether the answers to attempts are lost.
    is_lost: AtomicBool,
}

impl Busy {
    fn over(memory: Memory) -> Self {
        Self {
            memory,
            other: AtomicI64::new(0),
            is_silent: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
        }
    }
}

impl Backend for Busy {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        let value = self.memory.get(path).await;
        if path.as_str() == "/a" && self.other.load(Ordering::SeqCst) == 0 {
            // Time has gone by since the attempt was looked at.
            let mut stamp = 0;
            for _ in 0..10 {
                stamp = self.memory.clock_ns().await?;
            }
            self.other.store(stamp, Ordering::SeqCst);
            self.memory.put("/a", &row("another's"));
        }
        value
    }

    fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, Error>> + Send {
        self.memory.list(directory, range)
    }

    fn kv_get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        self.memory.kv_get(key)
    }

    async fn apply(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        self.memory.apply(work, held).await?;
        match self.is_lost.load(Ordering::SeqCst) {
            true => Err(Error::new(Operation::Commit, ErrorKind::Io).unknown_outcome()),
            false => Ok(()),
        }
    }

    async fn settle(&self, ticket: i64, path: Option<&FullPath>) -> Result<Settled, Error> {
        if self.is_silent.load(Ordering::SeqCst) {
            return Err(Error::new(Operation::Commit, ErrorKind::Io));
        }
        self.memory.settle(ticket, path).await
    }

    fn clock_ns(&self) -> impl Future<Output = Result<i64, Error>> + Send {
        self.memory.clock_ns()
    }
}

fn entry(content: &str) -> Entry {
    let fields = dulse_types::EntryFields {
        content: Bytes::copy_from_slice(content.as_bytes()),
        ..dulse_types::EntryFields::default()
    };
    fields.to_entry(&dulse_types::UnknownFields::default())
}

fn row(content: &str) -> Bytes {
    value::encode(&entry(content))
}

fn created(at: &str, content: &str) -> Event {
    Event {
        old: None,
        new: Some((path(at), entry(content))),
        delete_chunks: false,
    }
}

/// A filer with an attempt that made `/a` and `/b`, and was told nothing.
async fn left_open() -> (Committer<Busy>, Unsettled) {
    let options = JournalOptions {
        store: ORIGIN.0,
        segment_size_bytes: 1 << 20,
    };
    let (journal, _) = Journal::open(std::sync::Arc::new(MemDisk::new()), options).unwrap();
    let (log, _) = Log::open(journal, ORIGIN, 0).unwrap();
    let memory = Memory::at(1_000);
    memory.put("/a", &row("ours"));
    memory.put("/b", &row("ours"));
    let announced = Announced {
        events: vec![created("/a", "ours"), created("/b", "ours")],
        ..Announced::default()
    };
    let intent = Payload::Intent {
        ticket: 5,
        announced: announced.clone(),
    };
    let position = log.intend(&intent).await.unwrap();
    let committer = Committer {
        backend: Busy::over(memory),
        log,
        locks: crate::locks::Locks::default(),
        origin: ORIGIN,
        clocks: Clocks::default(),
        pending: Mutex::default(),
        unsettled: Mutex::default(),
        keeps_keys: AtomicBool::new(true),
    };
    let attempt = Unsettled {
        position,
        ticket: 5,
        announced,
    };
    (committer, attempt)
}

#[tokio::test]
async fn what_another_wrote_behind_the_look_is_told_behind_it() {
    let (filer, attempt) = left_open().await;
    let intent = OpenIntent {
        position: attempt.position,
        intended: Intended::Whole {
            ticket: attempt.ticket,
            announced: attempt.announced,
        },
    };
    settle_open(&filer, vec![intent]).await.unwrap();
    let told = filer.log.read_after(Stamp::ZERO, 1 << 20).unwrap();
    let [one] = &told[..] else {
        panic!("told once: {told:?}");
    };
    assert_eq!(one.announced.events[0], created("/a", "ours"));
    let other = filer.backend.other.load(Ordering::SeqCst);
    assert!(other > 0 && one.stamp < Stamp(other), "{one:?}, {other}");
}

#[tokio::test]
async fn what_nobody_could_say_is_asked_for_until_it_is_known() {
    let (filer, attempt) = left_open().await;
    let position = attempt.position;
    filer.unsettled.lock().push(attempt);
    filer.backend.is_silent.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        filer.resume_unsettled().await;
        assert_eq!(filer.unsettled.lock().len(), 1);
        assert!(filer.log.is_open(position));
    }
    filer.backend.is_silent.store(false, Ordering::SeqCst);
    filer.resume_unsettled().await;
    assert!(filer.unsettled.lock().is_empty() && !filer.log.has_open());
    let told = filer.log.read_after(Stamp::ZERO, 1 << 20).unwrap();
    assert_eq!(told.len(), 1);
    // Nothing is held back behind it.
    let now = filer.backend.memory.clock_ns().await.unwrap();
    assert_eq!(filer.log.promise(now), Stamp(now));
}

#[test]
fn a_filer_that_has_something_to_tell_later_is_not_sealed_in_order() {
    for (is_lost, is_over) in [(false, true), (true, false)] {
        let dir = tempfile::tempdir().unwrap();
        let options = SharedOptions {
            journal: dir.path().join("journal"),
            random: 7 << 32 | 9,
        };
        let backend = Busy::over(Memory::at(1_000));
        let store = SharedStore::open(&options, || async { Ok(backend) }).unwrap();
        store
            .committer()
            .backend
            .is_lost
            .store(is_lost, Ordering::SeqCst);
        store
            .committer()
            .backend
            .is_silent
            .store(is_lost, Ordering::SeqCst);
        let (done, told) = std::sync::mpsc::channel();
        let step = Step::Create {
            path: path("/x"),
            entry: entry("x"),
        };
        let transaction = Transaction {
            steps: vec![step],
            ..Transaction::default()
        };
        store.commit(transaction, Box::new(move |result| drop(done.send(result))));
        assert_eq!(told.recv().unwrap().is_ok(), is_over);
        assert_eq!(store.seal(), is_over);
    }
}
