// SPDX-License-Identifier: Apache-2.0
//! A real database behind a connection whose answers are lost on demand.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dulse_shared::{At, Backend, GroupMax, Held, RowWrite, Rows, Settled, SharedStore, Work};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;

use crate::filers::{Server, Shared};

/// What happens to the next attempt of a [`Faulty`] backend.
pub(crate) const SOUND: u8 = 0;
pub(crate) const MADE_AND_LOST: u8 = 1;
pub(crate) const LOST_BEFORE: u8 = 2;

/// What it says when it is asked what became of an attempt.
pub(crate) const SILENT: u8 = 0;
pub(crate) const TRUTH: u8 = 1;
/// That it is over, and no more.
pub(crate) const OVER: u8 = 2;

pub(crate) struct Faulty<B> {
    inner: B,
    fault: Arc<AtomicU8>,
    answer: Arc<AtomicU8>,
    /// Rows whose write was lost, where rows are written one by one.
    lost: Mutex<Vec<At>>,
}

fn lost() -> Error {
    Error::new(Operation::Commit, ErrorKind::Unavailable).unknown_outcome()
}

impl<B: Backend> Backend for Faulty<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn get(&self, path: &FullPath) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        self.inner.get(path)
    }
    fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, Error>> + Send {
        self.inner.list(directory, range)
    }
    fn kv_get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        self.inner.kv_get(key)
    }
    async fn apply(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        match self.fault.swap(SOUND, Ordering::SeqCst) {
            MADE_AND_LOST => {
                self.inner.apply(work, held).await?;
                Err(lost())
            }
            LOST_BEFORE => Err(lost()),
            _ => self.inner.apply(work, held).await,
        }
    }
    async fn settle(&self, ticket: i64, path: Option<&FullPath>) -> Result<Settled, Error> {
        match self.answer.load(Ordering::SeqCst) {
            TRUTH => self.inner.settle(ticket, path).await,
            OVER => self.inner.settle(ticket, path).await.map(|_| Settled::Over),
            _ => Err(Error::new(Operation::Commit, ErrorKind::Io)),
        }
    }
    fn clock_ns(&self) -> impl Future<Output = Result<i64, Error>> + Send {
        self.inner.clock_ns()
    }
    fn rows(&self) -> Option<&impl Rows> {
        self.inner.rows().is_some().then_some(self)
    }
}

impl<B: Backend> Faulty<B> {
    fn its_rows(&self) -> &impl Rows {
        self.inner.rows().expect("asked of one that has them alone")
    }

    /// What became of a lost write is read from its rows: who says nothing lets nobody read them.
    fn silent(&self, at: &At) -> Result<(), Error> {
        let is_silent = self.answer.load(Ordering::SeqCst) == SILENT;
        let lost = self.lost.lock().expect("no thread has panicked here");
        match is_silent && lost.contains(at) {
            true => Err(Error::new(Operation::Find, ErrorKind::Io)),
            false => Ok(()),
        }
    }
}

/// Rows are written one by one where the database has no transactions: a fault is then one of the
/// next write.
impl<B: Backend> Rows for Faulty<B> {
    fn name(&self) -> &'static str {
        self.its_rows().name()
    }
    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        self.silent(&At::Path(path.clone()))?;
        self.its_rows().get(path).await
    }
    fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, Error>> + Send {
        self.its_rows().list(directory, range)
    }
    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.silent(&At::Key(Bytes::copy_from_slice(key)))?;
        self.its_rows().kv_get(key).await
    }
    async fn write(&self, group: &[RowWrite]) -> Result<bool, Error> {
        let fault = self.fault.swap(SOUND, Ordering::SeqCst);
        if fault != LOST_BEFORE {
            let made = self.its_rows().write(group).await?;
            if fault == SOUND {
                return Ok(made);
            }
        }
        let mut rows = self.lost.lock().expect("no thread has panicked here");
        rows.extend(group.iter().map(|row| row.at.clone()));
        Err(lost())
    }
    fn group_max(&self) -> GroupMax {
        self.its_rows().group_max()
    }
    fn groups(&self, directory: &FullPath) -> bool {
        self.its_rows().groups(directory)
    }
    fn writes_max(&self) -> usize {
        self.its_rows().writes_max()
    }
    /// What is lost here is lost at once.
    fn late_max(&self) -> Duration {
        Duration::ZERO
    }
    fn raise(&self, filer: u32, stamp: i64) -> impl Future<Output = Result<(), Error>> + Send {
        self.its_rows().raise(filer, stamp)
    }
    fn raised(&self) -> impl Future<Output = Result<Vec<(u32, i64)>, Error>> + Send {
        self.its_rows().raised()
    }
}

/// The first filer of a store, with answers that are lost.
pub(crate) struct Broken<S: Server> {
    pub(crate) store: Arc<SharedStore<Faulty<S::Backend>>>,
    pub(crate) fault: Arc<AtomicU8>,
    pub(crate) answer: Arc<AtomicU8>,
}

impl<S: Server> Broken<S> {
    pub(crate) fn on(shared: &Shared<S>) -> Self {
        let (fault, answer) = (
            Arc::new(AtomicU8::new(SOUND)),
            Arc::new(AtomicU8::new(SILENT)),
        );
        let connecting = S::connect(shared.config.clone());
        let (its_fault, its_answer) = (Arc::clone(&fault), Arc::clone(&answer));
        let connect = move || async move {
            Ok(Faulty {
                inner: connecting.await?,
                fault: its_fault,
                answer: its_answer,
                lost: Mutex::default(),
            })
        };
        let store = SharedStore::open(&shared.options(1), connect).expect("it opens");
        Self {
            store: Arc::new(store),
            fault,
            answer,
        }
    }
}
