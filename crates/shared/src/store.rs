// SPDX-License-Identifier: Apache-2.0
//! The store itself: reads wait for the database, writes are done on threads of its own.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use dulse_journal::{Journal, JournalOptions, RealDisk, store_of};
use dulse_store::{
    Commit, Done, EntryStore, Error, ErrorKind, Found, ListRange, Listed, Operation, Transaction,
};
use dulse_types::{FullPath, Origin, Stamp};
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use crate::any::AnyShared;
use crate::backend::{Backend, Guard, Held, Location, Settled, Work, Write};
use crate::commit::Committer;
use crate::locks::Locks;
use crate::log::{Announcement, Log, journal, stopped};
use crate::plan::{STORE_ID_KEY, token};
use crate::settle::settle_open;
use crate::steps::Clocks;
use crate::value;

mod located;

/// Transactions under way; more are refused as `Unavailable`.
const COMMITS_MAX: usize = 4_096;

/// Threads that talk to the database.
const N_THREADS: usize = 2;

/// Bytes of a segment of the journal.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Longest wait for the threads to end.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks for what can be ended.
const RESUME_PAUSE: Duration = Duration::from_millis(500);

/// How a filer opens a shared store.
#[derive(Clone, Debug)]
pub struct SharedOptions {
    /// Where this filer's journal lies; its own, not shared.
    pub journal: PathBuf,
    /// 64 random bits: who this filer is, if it has no journal yet, and the store's id, if it
    /// has none.
    pub random: u64,
}

/// The task that ends what was begun.
struct Resuming {
    task: JoinHandle<()>,
    /// Dropped, it ends between two rounds.
    stop: oneshot::Sender<()>,
}

/// A store that several filers share.
pub struct SharedStore<B: Backend> {
    committer: Arc<Committer<B>>,
    commits: Arc<Semaphore>,
    /// Nothing begins any more.
    is_sealed: AtomicBool,
    /// Ends what was begun and could not be ended.
    resuming: Mutex<Option<Resuming>>,
    runtime: Option<Runtime>,
    /// Whether opening it made it.
    is_new: bool,
}

impl<B: Backend> SharedStore<B> {
    /// Opens the store: connects, learns the store's id or makes it, opens this filer's journal
    /// and settles what an earlier run left open. Blocks; not for asynchronous callers.
    ///
    /// - `connect`: makes the backend; runs on the store's own threads, as all its calls do.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the database does not answer, `Invalid` when the journal belongs to
    /// another store, `Corrupt`, `Io`.
    pub fn open<F>(
        options: &SharedOptions,
        connect: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, Error>
    where
        F: Future<Output = Result<B, Error>> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(N_THREADS)
            .thread_name("shared-store")
            .enable_all()
            .build()
            .map_err(|e| Error::new(Operation::Open, ErrorKind::Io).source(e))?;
        let random = options.random;
        let opening = async move {
            let backend = connect().await?;
            let (id, is_new) = store_id(&backend, random).await?;
            Ok::<_, Error>((backend, id, is_new))
        };
        let (backend, id, is_new) = wait(runtime.handle(), opening)?;
        let (log, open) = open_log(options, id)?;
        let origin = log.origin();
        let committer = Arc::new(Committer {
            backend,
            log,
            locks: Locks::default(),
            origin,
            clocks: Clocks::default(),
            pending: Mutex::default(),
            unsettled: Mutex::default(),
            keeps_keys: AtomicBool::new(true),
        });
        let settling = Arc::clone(&committer);
        wait(runtime.handle(), async move {
            if let Some(rows) = settling.backend.rows() {
                settling.clocks.open(rows).await?;
            }
            settle_open(&settling, open).await
        })?;
        let (stop, stopped) = oneshot::channel();
        let task = runtime.spawn(resume(Arc::downgrade(&committer), stopped));
        tracing::info!(
            store = committer.backend.name(),
            %origin,
            signature = origin.signature(),
            "shared store opened: other filers on it are known by this signature"
        );
        Ok(Self {
            committer,
            commits: Arc::new(Semaphore::new(COMMITS_MAX)),
            is_sealed: AtomicBool::new(false),
            resuming: Mutex::new(Some(Resuming { task, stop })),
            runtime: Some(runtime),
            is_new,
        })
    }

    /// What this filer did, behind a stamp and in order, up to about `max_bytes`.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn announcements(
        &self,
        after: Stamp,
        max_bytes: usize,
    ) -> Result<Vec<Announcement>, Error> {
        self.committer.log.read_after(after, max_bytes)
    }

    /// Told the stamp of each announcement once it can be read.
    #[must_use]
    pub fn announced(&self) -> watch::Receiver<Stamp> {
        self.committer.log.written()
    }

    /// No later announcement of this filer has a stamp at or below it.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the database does not answer.
    pub fn promise(&self) -> Result<Stamp, Error> {
        let committer = Arc::clone(&self.committer);
        let clock = self.ask(async move { committer.backend.clock_ns().await })?;
        Ok(self.committer.log.promise(clock))
    }

    /// Drops announcements that are older than `oldest`, and the oldest above a budget.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub fn trim(&self, oldest: Stamp, budget_bytes: u64) -> Result<u64, Error> {
        self.committer.log.trim(oldest, budget_bytes)
    }

    #[cfg(test)]
    pub(crate) fn committer(&self) -> &Committer<B> {
        &self.committer
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let runtime = self.runtime.as_ref().ok_or_else(stopped)?;
        wait(runtime.handle(), work)
    }
}

impl<B: Backend> AnyShared for SharedStore<B> {
    fn name(&self) -> &'static str {
        self.committer.backend.name()
    }

    fn seal(&self) -> bool {
        let Some(runtime) = &self.runtime else {
            return true;
        };
        self.is_sealed.store(true, Ordering::SeqCst);
        let (commits, resuming) = (Arc::clone(&self.commits), self.resuming.lock().take());
        let sealing = async move {
            end(resuming).await;
            let all = commits.acquire_many(COMMITS_MAX as u32);
            Ok(tokio::time::timeout(STOP_TIME_MAX, all).await.is_ok())
        };
        let is_over = wait(runtime.handle(), sealing).unwrap_or(false);
        // ⚠ What has no outcome is told later.
        is_over && !self.committer.log.has_open()
    }

    fn is_new(&self) -> bool {
        self.is_new
    }

    fn keep_no_keys(&self) {
        self.committer.keeps_keys.store(false, Ordering::SeqCst);
    }

    fn locations(&self) -> &[Location] {
        self.committer.backend.locations()
    }

    fn announcements(&self, after: Stamp, max_bytes: usize) -> Result<Vec<Announcement>, Error> {
        self.announcements(after, max_bytes)
    }

    fn announced(&self) -> watch::Receiver<Stamp> {
        self.announced()
    }

    fn promise(&self) -> Result<Stamp, Error> {
        self.promise()
    }

    fn promise_from(&self, seen: Stamp) -> Stamp {
        self.committer.log.promise(seen.0)
    }

    fn trim(&self, oldest: Stamp, budget_bytes: u64) -> Result<u64, Error> {
        self.trim(oldest, budget_bytes)
    }

    fn journal_bytes(&self) -> u64 {
        self.committer.log.size_bytes()
    }

    fn n_unsettled(&self) -> usize {
        self.committer.pending.lock().len() + self.committer.unsettled.lock().len()
    }

    fn journal_failed(&self) -> bool {
        self.committer.log.has_failed()
    }
}

impl<B: Backend> EntryStore for SharedStore<B> {
    fn find(&self, path: &FullPath) -> Result<Option<Found>, Error> {
        let (committer, path) = (Arc::clone(&self.committer), path.clone());
        self.ask(async move {
            match committer.backend.get(&path).await? {
                None => Ok(None),
                Some(row) => found(&committer.backend, row).await.map(Some),
            }
        })
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        let committer = Arc::clone(&self.committer);
        let (directory, range) = (directory.clone(), range.clone());
        self.ask(async move {
            let rows = committer.backend.list(&directory, &range).await?;
            let mut out = Vec::with_capacity(rows.len());
            for (name, row) in rows {
                let found = found(&committer.backend, row).await?;
                out.push(Listed {
                    name,
                    entry: found.entry,
                });
            }
            Ok(out)
        })
    }

    fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let (committer, key) = (Arc::clone(&self.committer), key.to_vec());
        self.ask(async move { committer.backend.kv_get(&key).await })
    }

    fn commit(&self, transaction: Transaction, done: Done) {
        let Some(runtime) = &self.runtime else {
            return done(Err(stopped()));
        };
        let Ok(permit) = Arc::clone(&self.commits).try_acquire_owned() else {
            let text = format!("{COMMITS_MAX} transactions are under way already");
            let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
            return done(Err(error.with("because", text)));
        };
        // Order: behind the permit. Whoever seals waits for all permits once it has said so.
        if self.is_sealed.load(Ordering::SeqCst) {
            return done(Err(stopped()));
        }
        let committer = Arc::clone(&self.committer);
        runtime.spawn(async move {
            let result: Result<Commit, Error> = committer.commit(&transaction).await;
            // Order: whoever waits for all permits finds the journal free.
            drop(committer);
            drop(permit);
            done(result);
        });
    }

    fn origin(&self) -> Origin {
        self.committer.origin
    }
}

impl<B: Backend> Drop for SharedStore<B> {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // What is under way ends first: its outcome belongs into the journal.
        let commits = Arc::clone(&self.commits);
        let resuming = self.resuming.get_mut().take();
        let idle = async move {
            end(resuming).await;
            let all = commits.acquire_many(COMMITS_MAX as u32);
            // Too long: what is left is settled at the next start.
            let _ = tokio::time::timeout(STOP_TIME_MAX, all).await;
            Ok(())
        };
        // Nothing else can fail here.
        let _ = wait(runtime.handle(), idle);
        self.committer.log.stop();
        runtime.shutdown_background();
    }
}

/// Ends what resumes; what it leaves is left to the next start.
async fn end(resuming: Option<Resuming>) {
    let Some(Resuming { mut task, stop }) = resuming else {
        return;
    };
    drop(stop);
    // A round that is cut off holds stamps, and with them what is told behind them.
    if tokio::time::timeout(STOP_TIME_MAX, &mut task)
        .await
        .is_err()
    {
        task.abort();
        let _ = task.await;
    }
}

/// Ends what was begun when the database went away, as soon as it is back.
async fn resume<B: Backend>(committer: Weak<Committer<B>>, mut stopped: oneshot::Receiver<()>) {
    while tokio::time::timeout(RESUME_PAUSE, &mut stopped)
        .await
        .is_err()
    {
        let Some(committer) = committer.upgrade() else {
            return;
        };
        match committer.backend.rows() {
            Some(rows) => committer.resume_pending(rows).await,
            None => committer.resume_unsettled().await,
        }
    }
}

/// Waits for work on the store's own threads. A thread of another runtime hands its other tasks
/// to a new one meanwhile.
fn wait<T: Send + 'static>(
    handle: &Handle,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let (answer, answered) = mpsc::sync_channel(1);
    handle.spawn(async move {
        // Who asked waits.
        let _ = answer.send(work.await);
    });
    let receive = || answered.recv().unwrap_or_else(|_| Err(stopped()));
    match Handle::try_current() {
        Ok(current) if current.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(receive)
        }
        _ => receive(),
    }
}

/// The entry of a row, with what it shares with other names.
async fn found<B: Backend>(backend: &B, row: Bytes) -> Result<Found, Error> {
    let entry = value::decode(row.clone())?;
    let id = value::fields(&entry)?.hard_link_id;
    if id.is_empty() {
        return Ok(Found {
            entry,
            token: token(&row, None),
            n_links: 1,
        });
    }
    let shared = backend.kv_get(&id).await?;
    let token = token(&row, shared.as_deref());
    let entry = match shared {
        Some(shared) => value::decode(shared)?,
        None => entry,
    };
    let n_links = u32::try_from(value::fields(&entry)?.hard_link_counter).unwrap_or(1);
    Ok(Found {
        entry,
        token,
        n_links: n_links.max(1),
    })
}

/// The id of the store: what the first filer on it wrote; and whether that was this one, now.
pub(crate) async fn store_id<B: Backend>(backend: &B, random: u64) -> Result<(u32, bool), Error> {
    let key = Bytes::from_static(STORE_ID_KEY);
    let text = "the store's id cannot be written";
    let mut failed = Error::new(Operation::Open, ErrorKind::Unavailable).with("because", text);
    for _ in 0..2 {
        if let Some(value) = backend.kv_get(&key).await? {
            let id: Option<[u8; 4]> = value[..].try_into().ok();
            let id = id.map(u32::from_be_bytes).filter(|id| *id != 0);
            return id.map(|id| (id, false)).ok_or_else(|| {
                let text = format!(
                    "filer.store.id has {} bytes; expected 4, not zero",
                    value.len()
                );
                Error::new(Operation::Open, ErrorKind::Corrupt).with("because", text)
            });
        }
        let id = (random as u32).max(1);
        let work = Work {
            ticket: random.cast_signed(),
            guards: vec![Guard::Key(key.clone(), None)],
            writes: vec![Write::PutKey(
                key.clone(),
                Bytes::copy_from_slice(&id.to_be_bytes()),
            )],
        };
        let held: &Held<'_> = &|_| crate::backend::held();
        match backend.apply(&work, held).await {
            Ok(()) => return Ok((id, true)),
            // Another filer was faster, or nobody knows: it is read again.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) if backend.settle(work.ticket, None).await? == Settled::NotApplied => {
                return Err(error);
            }
            Err(error) => {
                failed = Error::new(Operation::Open, ErrorKind::Unavailable)
                    .with("because", text)
                    .source(error);
            }
        }
    }
    Err(failed)
}

/// Opens this filer's journal, or begins one under a new slot.
fn open_log(options: &SharedOptions, id: u32) -> Result<(Log, Vec<crate::log::OpenIntent>), Error> {
    let disk = RealDisk::open(&options.journal).map_err(|e| {
        let kind = match e.is_locked() {
            true => ErrorKind::Unavailable,
            false => ErrorKind::Io,
        };
        Error::new(Operation::Open, kind).source(e)
    })?;
    let known = store_of(&disk).map_err(journal)?.map(Origin);
    if let Some(known) = known.filter(|known| known.0 as u32 != id) {
        let text = format!(
            "{} is the journal of a filer on the store with signature {}, and this store has {}; \
             give this store a directory of its own",
            options.journal.display(),
            known.signature(),
            id.cast_signed(),
        );
        return Err(Error::new(Operation::Open, ErrorKind::Invalid).with("because", text));
    }
    let slot = ((options.random >> 32) as u32).max(1);
    let origin = known.or_else(|| Origin::new(slot, id)).ok_or_else(|| {
        Error::new(Operation::Open, ErrorKind::Corrupt).with("because", "the store's id is 0")
    })?;
    let journal_options = JournalOptions {
        store: origin.0,
        segment_size_bytes: SEGMENT_BYTES,
    };
    let (opened, recovery) = Journal::open(Arc::new(disk), journal_options).map_err(journal)?;
    let from = recovery
        .checkpoint
        .map_or(0, |checkpoint| checkpoint.position);
    Log::open(opened, origin, from)
}
