// SPDX-License-Identifier: Apache-2.0
//! The table: reads, and the numbers of filers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use dulse_shared::{At, GroupMax, RowWrite, Rows, SharedOptions, SharedStore, Stepwise};
use dulse_store::{Error, ListRange, Operation};
use dulse_types::FullPath;
use futures::StreamExt;
use futures::stream;
use scylla::client::session::Session;
use scylla::response::PagingState;
use scylla::response::query_result::QueryResult;
use scylla::statement::prepared::PreparedStatement;

use crate::config::Config;
use crate::error::{answer, of, raising};
use crate::layout::{Place, bounds, number, number_place, numbers, place};
use crate::session::{Statements, connect, log_sync};
use crate::together::Lanes;

/// Rows of one answer.
const PAGE_ROWS_MAX: usize = 500;

/// Rows of one write.
pub(crate) const GROUP_ROWS_MAX: usize = 128;

/// Values of one write, in bytes.
pub(crate) const GROUP_BYTES_MAX: usize = 1 << 20;

/// Writes of one transaction under way at once.
const WRITES_MAX: usize = 16;

/// How long after its answer was lost a write may still be begun: a server drops what has waited
/// for 12 s (`native_transport_timeout`), and gives up what it has begun after 1.8 s
/// (`cas_contention_timeout`). What it has proposed by then is ended by [`Rows::settle`].
const LATE_MAX: Duration = Duration::from_secs(15);

/// Opens the store of a keyspace: makes the table where it is missing, and the store's id.
///
/// # Errors
///
/// As [`SharedStore::open`].
pub fn open(
    config: Config,
    options: &SharedOptions,
) -> Result<SharedStore<Stepwise<Cassandra>>, Error> {
    SharedStore::open(options, move || async move {
        Cassandra::connect(&config).await.map(Stepwise)
    })
}

/// Upstream's table in Cassandra.
pub struct Cassandra {
    pub(crate) session: Session,
    pub(crate) statements: Statements,
    pub(crate) super_large: BTreeSet<String>,
    pub(crate) lanes: Lanes,
}

impl Cassandra {
    /// Connects, and makes the table where it is missing.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no server answers, `Invalid` for settings that cannot be, a keyspace
    /// that is not there, and a table that is another.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let (session, statements) = connect(config).await?;
        if log_sync(&session).await.as_deref() == Some("periodic") {
            tracing::warn!(
                "Cassandra acknowledges what is not on its disk yet (`commitlog_sync: periodic`): \
                 where a quorum of servers fails at once, or the only one, the last seconds are \
                 lost; `batch` or `group` loses nothing"
            );
        }
        Ok(Self {
            session,
            statements,
            super_large: config.super_large.clone(),
            lanes: Lanes::default(),
        })
    }

    /// How the server that is asked brings what it acknowledges to its disk, `batch`, `group` or
    /// `periodic`; none where it does not say.
    pub async fn log_sync(&self) -> Option<String> {
        log_sync(&self.session).await
    }

    /// The value of a row, by a statement that asks for it.
    pub(crate) async fn value(
        &self,
        operation: Operation,
        statement: &PreparedStatement,
        place: &Place,
    ) -> Result<Option<Bytes>, Error> {
        let values = (place.dirhash, &place.directory, &place.name);
        let asked = self.session.execute_unpaged(statement, values).await;
        let rows = asked.map_err(|e| of(operation, e))?.into_rows_result();
        let rows = rows.map_err(|e| answer(operation, e))?;
        let first = rows.maybe_first_row::<(Option<Bytes>,)>();
        // A row without a value is what is left of one whose value has expired.
        Ok(first
            .map_err(|e| answer(operation, e))?
            .and_then(|(value,)| value))
    }

    /// The values of rows of one partition; none of those that are not there.
    async fn values(&self, rows: &[(usize, Place)]) -> Result<Vec<(usize, Option<Bytes>)>, Error> {
        let operation = Operation::Find;
        match rows {
            [] => Ok(Vec::new()),
            [(i, place)] => {
                let value = self.value(operation, &self.statements.find, place).await?;
                Ok(vec![(*i, value)])
            }
            [(_, first), ..] => {
                let names: Vec<&str> = rows.iter().map(|(_, place)| &place.name[..]).collect();
                let values = (first.dirhash, &first.directory, names);
                let find = &self.statements.find_all;
                let asked = self.session.execute_unpaged(find, values).await;
                let found = named(operation, asked.map_err(|e| of(operation, e))?)?;
                let found: BTreeMap<String, Bytes> = found.into_iter().collect();
                let value = |(i, place): &(usize, Place)| (*i, found.get(&place.name).cloned());
                Ok(rows.iter().map(value).collect())
            }
        }
    }

    async fn read(&self, operation: Operation, at: &At) -> Result<Option<Bytes>, Error> {
        match place(&self.super_large, at) {
            Ok(Some(place)) => self.value(operation, &self.statements.find, &place).await,
            // The root, and what Cassandra cannot have, are not there.
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// Names and values of a partition between two names, at most `limit`.
    async fn rows(
        &self,
        operation: Operation,
        from: &Place,
        behind: Option<&String>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let (mut out, mut state) = (Vec::new(), PagingState::start());
        while out.len() < limit {
            let n_rows = (limit - out.len()).min(PAGE_ROWS_MAX);
            let (dirhash, directory, name) = (from.dirhash, &from.directory, &from.name);
            let asked = match behind {
                None => {
                    let list = paged(&self.statements.list, n_rows);
                    let values = (dirhash, directory, name);
                    self.session.execute_single_page(&list, values, state).await
                }
                Some(behind) => {
                    let list = paged(&self.statements.list_before, n_rows);
                    let values = (dirhash, directory, name, behind);
                    self.session.execute_single_page(&list, values, state).await
                }
            };
            let (page, next) = asked.map_err(|e| of(operation, e))?;
            out.extend(named(operation, page)?);
            match next.into_paging_control_flow() {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue(next) => state = next,
            }
        }
        out.truncate(limit);
        Ok(out)
    }
}

fn paged(statement: &PreparedStatement, n_rows: usize) -> PreparedStatement {
    let mut statement = statement.clone();
    statement.set_page_size(n_rows as i32);
    statement
}

fn named(operation: Operation, page: QueryResult) -> Result<Vec<(String, Bytes)>, Error> {
    let page = page.into_rows_result().map_err(|e| answer(operation, e))?;
    let rows = page.rows::<(String, Option<Bytes>)>();
    let rows = rows.map_err(|e| answer(operation, e))?;
    let mut out = Vec::new();
    for row in rows {
        let (name, value) = row.map_err(|e| answer(operation, e))?;
        out.extend(value.map(|value| (name, value)));
    }
    Ok(out)
}

impl Rows for Cassandra {
    fn name(&self) -> &'static str {
        "cassandra2"
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        self.read(Operation::Find, &At::Path(path.clone())).await
    }

    /// Those of one partition in one question.
    async fn get_all(&self, paths: &[FullPath]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut values = vec![None; paths.len()];
        let mut partitions: BTreeMap<(i64, String), Vec<(usize, Place)>> = BTreeMap::new();
        for (i, path) in paths.iter().enumerate() {
            // The root, and what Cassandra cannot have, are not there.
            if let Ok(Some(place)) = place(&self.super_large, &At::Path(path.clone())) {
                let partition = (place.dirhash, place.directory.clone());
                partitions.entry(partition).or_default().push((i, place));
            }
        }
        let reads: Vec<_> = partitions.values().map(|rows| self.values(rows)).collect();
        let mut reads = stream::iter(reads).buffered(WRITES_MAX);
        while let Some(read) = reads.next().await {
            for (i, value) in read? {
                values[i] = value;
            }
        }
        Ok(values)
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let directory = directory.as_str();
        if self.super_large.contains(directory) {
            return Ok(Vec::new());
        }
        let (first, behind) = bounds(range);
        let from = Place {
            dirhash: dulse_shared::sql::dirhash(directory),
            directory: directory.to_owned(),
            name: first,
        };
        self.rows(Operation::List, &from, behind.as_ref(), range.limit)
            .await
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let at = At::Key(Bytes::copy_from_slice(key));
        self.read(Operation::KvGet, &at).await
    }

    async fn write(&self, group: &[RowWrite]) -> Result<bool, Error> {
        self.write_rows(group).await
    }

    fn group_max(&self) -> GroupMax {
        GroupMax {
            n_rows: GROUP_ROWS_MAX,
            n_bytes: GROUP_BYTES_MAX,
        }
    }

    fn groups(&self, directory: &FullPath) -> bool {
        !self.super_large.contains(directory.as_str())
    }

    fn writes_max(&self) -> usize {
        WRITES_MAX
    }

    fn late_max(&self) -> Duration {
        LATE_MAX
    }

    async fn settle(&self, rows: &[At]) -> Result<(), Error> {
        // One row of each partition: what was proposed is proposed of the partition.
        let mut partitions = std::collections::BTreeMap::new();
        for at in rows {
            if let Some(place) = place(&self.super_large, at)? {
                partitions.insert((place.dirhash, place.directory.clone()), place);
            }
        }
        for place in partitions.values() {
            let settle = &self.statements.settle;
            self.value(Operation::Find, settle, place).await?;
        }
        Ok(())
    }

    /// Written without a condition, under the stamp as the time of writing: whichever is the
    /// greater stays, in whatever order they come.
    async fn raise(&self, filer: u32, stamp: i64) -> Result<(), Error> {
        let place = number_place(filer);
        let value = Bytes::copy_from_slice(&stamp.to_be_bytes());
        // Of two of one microsecond the greater bytes stay, which is the greater stamp.
        let values = (
            place.dirhash,
            &place.directory,
            &place.name,
            value,
            stamp / 1_000,
        );
        let raise = &self.statements.raise;
        let asked = self.session.execute_unpaged(raise, values).await;
        asked.map(drop).map_err(raising)
    }

    async fn raised(&self) -> Result<Vec<(u32, i64)>, Error> {
        let rows = self
            .rows(Operation::KvGet, &numbers(), None, usize::MAX)
            .await?;
        let numbers = rows.iter().map(|(name, value)| number(name, value));
        numbers.filter_map(Result::transpose).collect()
    }
}
