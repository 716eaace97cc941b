// SPDX-License-Identifier: Apache-2.0
//! A real database behind a connection whose answers are lost on demand.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use dulse_shared::{Backend, Held, Settled, SharedStore, Work};
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
        let lost = || Error::new(Operation::Commit, ErrorKind::Unavailable).unknown_outcome();
        match self.fault.swap(SOUND, Ordering::SeqCst) {
            MADE_AND_LOST => {
                self.inner.apply(work, held).await?;
                Err(lost())
            }
            LOST_BEFORE => Err(lost()),
            _ => self.inner.apply(work, held).await,
        }
    }
    async fn settle(&self, ticket: i64) -> Result<Settled, Error> {
        match self.answer.load(Ordering::SeqCst) {
            TRUTH => self.inner.settle(ticket).await,
            OVER => self.inner.settle(ticket).await.map(|_| Settled::Over),
            _ => Err(Error::new(Operation::Commit, ErrorKind::Io)),
        }
    }
    fn clock_ns(&self) -> impl Future<Output = Result<i64, Error>> + Send {
        self.inner.clock_ns()
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
