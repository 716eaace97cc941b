// SPDX-License-Identifier: Apache-2.0
//! A database whatever its type, where several kinds are used side by side.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use dulse_store::{Error, ListRange};
use dulse_types::FullPath;

use crate::backend::{Backend, Held, Settled, Work};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Any [`Backend`] whose database has transactions.
pub struct Erased(Box<dyn Database>);

impl Erased {
    /// Of a backend. One that is written row by row is none: its rows are not passed on.
    ///
    /// # Panics
    ///
    /// When it has no transactions.
    #[must_use]
    pub fn new(backend: impl Backend) -> Self {
        assert!(backend.rows().is_none(), "it has transactions");
        Self(Box::new(backend))
    }
}

/// [`Backend`] with its futures in boxes. A call of a database takes longer than a box.
trait Database: Send + Sync {
    fn its_name(&self) -> &'static str;
    fn row<'a>(&'a self, path: &'a FullPath) -> Answer<'a, Option<Bytes>>;
    fn rows_in<'a>(
        &'a self,
        directory: &'a FullPath,
        range: &'a ListRange,
    ) -> Answer<'a, Vec<(String, Bytes)>>;
    fn value<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Bytes>>;
    fn make<'a, 'h: 'a>(&'a self, work: &'a Work, held: &'a Held<'h>) -> Answer<'a, ()>;
    fn became<'a>(&'a self, ticket: i64, path: Option<&'a FullPath>) -> Answer<'a, Settled>;
    fn now_ns(&self) -> Answer<'_, i64>;
}

impl<B: Backend> Database for B {
    fn its_name(&self) -> &'static str {
        self.name()
    }

    fn row<'a>(&'a self, path: &'a FullPath) -> Answer<'a, Option<Bytes>> {
        Box::pin(self.get(path))
    }

    fn rows_in<'a>(
        &'a self,
        directory: &'a FullPath,
        range: &'a ListRange,
    ) -> Answer<'a, Vec<(String, Bytes)>> {
        Box::pin(self.list(directory, range))
    }

    fn value<'a>(&'a self, key: &'a [u8]) -> Answer<'a, Option<Bytes>> {
        Box::pin(self.kv_get(key))
    }

    fn make<'a, 'h: 'a>(&'a self, work: &'a Work, held: &'a Held<'h>) -> Answer<'a, ()> {
        Box::pin(self.apply(work, held))
    }

    fn became<'a>(&'a self, ticket: i64, path: Option<&'a FullPath>) -> Answer<'a, Settled> {
        Box::pin(self.settle(ticket, path))
    }

    fn now_ns(&self) -> Answer<'_, i64> {
        Box::pin(self.clock_ns())
    }
}

impl Backend for Erased {
    fn name(&self) -> &'static str {
        self.0.its_name()
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        self.0.row(path).await
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        self.0.rows_in(directory, range).await
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.0.value(key).await
    }

    async fn apply(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        self.0.make(work, held).await
    }

    async fn settle(&self, ticket: i64, path: Option<&FullPath>) -> Result<Settled, Error> {
        self.0.became(ticket, path).await
    }

    async fn clock_ns(&self) -> Result<i64, Error> {
        self.0.now_ns().await
    }
}
