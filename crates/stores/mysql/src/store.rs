// SPDX-License-Identifier: Apache-2.0
//! The backend: reads, and what a transaction of ours becomes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_shared::sql::{MAIN_TABLE, Place, Tables, key_row, place_of};
use dulse_shared::{Backend, Held, Settled, SharedOptions, SharedStore, Work};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use mysql_async::prelude::{FromValue, Queryable};
use mysql_async::{Row, Value};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::apply::Lost;
use crate::config::Config;
use crate::error::{NO_TABLE, database, late, number, reading};
use crate::pool::{Client, Pool};
use crate::traces::{self, Traces};

/// Longest wait for the answer to a read, in all its tries.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(30);

/// Times a read is tried again on another connection: it changes nothing.
const READ_RETRIES_MAX: usize = 2;

/// The database's clock in microseconds since 1970, whatever its time zone.
pub(crate) const CLOCK: &str =
    "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))";

/// Opens the store of a database: makes `filemeta` where it is missing, and the store's id.
///
/// # Errors
///
/// As [`SharedStore::open`].
pub fn open(config: Config, options: &SharedOptions) -> Result<SharedStore<MySql>, Error> {
    SharedStore::open(options, move || MySql::connect(config))
}

/// How names of a table come in byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// By its index, nearly.
    Index,
    /// Each listing sorts its directory.
    Sort,
}

/// A database with upstream's tables.
pub struct MySql {
    pub(crate) config: Config,
    pub(crate) pool: Arc<Pool>,
    pub(crate) traces: Traces,
    /// Tables that were there.
    pub(crate) tables: Mutex<HashMap<String, Order>>,
    /// Attempts whose answer was lost, by ticket.
    pub(crate) lost: Mutex<HashMap<i64, Lost>>,
}

impl MySql {
    /// Connects, and makes the main table where it is missing.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the server does not answer, `Invalid` for settings that cannot be.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let traces = Traces::new();
        let store = Self {
            pool: Pool::new(&config, traces)?,
            config,
            traces,
            tables: Mutex::default(),
            lost: Mutex::default(),
        };
        store.ensure(MAIN_TABLE).await?;
        store.remove_old_traces().await;
        Ok(store)
    }

    pub(crate) fn place(&self, path: &FullPath) -> Result<Place, Error> {
        place_of(self.config.tables, path)
    }

    pub(crate) async fn client(&self, operation: Operation) -> Result<Client<'_>, Error> {
        self.pool.get(operation).await
    }

    /// Makes a table where it is missing.
    pub(crate) async fn ensure(&self, table: &str) -> Result<(), Error> {
        let operation = match table {
            MAIN_TABLE => Operation::Open,
            _ => Operation::Commit,
        };
        if self.order(table, operation).await?.is_some() {
            return Ok(());
        }
        let invalid = |e| Error::new(operation, ErrorKind::Invalid).source(e);
        let sql = self.config.create(table).map_err(invalid)?;
        let mut client = self.client(operation).await?;
        let made = timeout(READ_TIME_MAX, client.conn().query_drop(&sql)).await;
        made.map_err(|_| late(operation, READ_TIME_MAX))?
            .map_err(|e| database(operation, e).with("table", table))?;
        client.give_back();
        let order = self.order(table, operation).await?;
        order.map(drop).ok_or_else(|| {
            let text = format!("createTable made no table `{table}`");
            Error::new(operation, ErrorKind::Invalid).with("because", text)
        })
    }

    /// How the names of a table are sorted; none where there is no such table.
    pub(crate) async fn order(
        &self,
        table: &str,
        operation: Operation,
    ) -> Result<Option<Order>, Error> {
        if let Some(order) = self.tables.lock().get(table) {
            return Ok(Some(*order));
        }
        let sql = "SELECT `CHARACTER_SET_NAME`, `COLLATION_NAME` FROM information_schema.COLUMNS \
                   WHERE `TABLE_SCHEMA` = DATABASE() AND `TABLE_NAME` = ? \
                   AND `COLUMN_NAME` = 'name'";
        let rows = self.read(operation, sql, vec![table.into()]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let (charset, collation): (Option<String>, Option<String>) =
            (column(row, 0)?, column(row, 1)?);
        let (charset, collation) = (charset.unwrap_or_default(), collation.unwrap_or_default());
        if !charset.starts_with("utf8") {
            let text = format!(
                "the column `name` of the table `{table}` has the character set `{charset}`; \
                 expected utf8mb4"
            );
            return Err(Error::new(operation, ErrorKind::Invalid).with("because", text));
        }
        let order = match collation.ends_with("_bin") {
            true => Order::Index,
            false => Order::Sort,
        };
        if order == Order::Sort {
            tracing::warn!(
                table,
                collation,
                "names that are one in this collation, such as `a` and `A`, cannot lie in one \
                 directory, and listings sort each directory as a whole; convert the column \
                 `name` to utf8mb4_bin"
            );
        }
        self.tables.lock().insert(table.to_owned(), order);
        Ok(Some(order))
    }

    /// Tables may have gone.
    pub(crate) fn forget<'a>(&self, tables: impl IntoIterator<Item = &'a str>) {
        let mut known = self.tables.lock();
        for table in tables {
            known.remove(table);
        }
    }

    /// Reads rows, on another connection when the first one was broken.
    pub(crate) async fn read(
        &self,
        operation: Operation,
        sql: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let trying = async {
            let mut n_left = READ_RETRIES_MAX;
            loop {
                match self.read_once(operation, sql, parameters.clone()).await {
                    Err(error) if error.kind() == ErrorKind::Unavailable && n_left > 0 => {
                        n_left -= 1;
                    }
                    other => return other,
                }
            }
        };
        let read = timeout(READ_TIME_MAX, trying).await;
        read.unwrap_or_else(|_| Err(late(operation, READ_TIME_MAX)))
    }

    async fn read_once(
        &self,
        operation: Operation,
        sql: &str,
        parameters: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let mut client = self.client(operation).await?;
        let read = client.conn().exec(sql, parameters).await;
        match read {
            Ok(rows) => {
                client.give_back();
                Ok(rows)
            }
            Err(error) => {
                if matches!(error, mysql_async::Error::Server(_)) {
                    client.give_back();
                }
                Err(reading(operation, error))
            }
        }
    }

    /// The value of a row; a table that is not there has none.
    async fn value(&self, operation: Operation, at: &Place) -> Result<Option<Bytes>, Error> {
        let sql = format!(
            "SELECT `meta`, `name` FROM `{}` WHERE `dirhash` = ? AND `name` = ? \
             AND `directory` = ?",
            at.table
        );
        let parameters = vec![at.dirhash.into(), (&at.name).into(), (&at.directory).into()];
        let rows = match self.read(operation, &sql, parameters).await {
            // The only statement that meets a missing table and is no commit.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.forget([at.table.as_str()]);
                return Ok(None);
            }
            rows => rows?,
        };
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        // To the database `a` and `a ` are one name.
        if column::<String>(row, 1)? != at.name {
            return Ok(None);
        }
        let value: Option<Vec<u8>> = column(row, 0)?;
        Ok(Some(value.unwrap_or_default().into()))
    }

    /// Rows of processes that ended long ago go; if they cannot, they do no harm.
    async fn remove_old_traces(&self) {
        let removing = async {
            let mut client = self.client(Operation::Open).await?;
            let removed = client.conn().query_drop(traces::remove_old()).await;
            removed.map_err(|e| database(Operation::Open, e))?;
            client.give_back();
            Ok::<_, Error>(())
        };
        if let Ok(Err(error)) = timeout(READ_TIME_MAX, removing).await {
            tracing::debug!(%error, "rows of former processes stay");
        }
    }
}

impl Backend for MySql {
    fn name(&self) -> &'static str {
        match self.config.tables {
            Tables::One => "mysql",
            Tables::PerBucket => "mysql2",
        }
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        if path.is_root() {
            return Ok(None);
        }
        let at = match self.place(path) {
            // What upstream cannot store is not there.
            Err(error) if error.kind() == ErrorKind::Invalid => return Ok(None),
            at => at?,
        };
        self.value(Operation::Find, &at).await
    }

    fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, Error>> + Send {
        self.rows(directory, range)
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.value(Operation::KvGet, &key_row(key)).await
    }

    fn apply(
        &self,
        work: &Work,
        held: &Held<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.transact(work, held)
    }

    fn settle(
        &self,
        ticket: i64,
        _: Option<&FullPath>,
    ) -> impl Future<Output = Result<Settled, Error>> + Send {
        self.ask_what_became(ticket)
    }

    async fn clock_ns(&self) -> Result<i64, Error> {
        let rows = self.read(Operation::Find, CLOCK, Vec::new()).await?;
        let us: i64 = rows.first().map_or(Ok(0), |row| column(row, 0))?;
        Ok(us.saturating_mul(1_000))
    }
}

/// A column of a row.
pub(crate) fn column<T: FromValue>(row: &Row, at: usize) -> Result<T, Error> {
    let corrupt = || Error::new(Operation::Find, ErrorKind::Corrupt);
    match row.get_opt(at) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(corrupt().source(error)),
        None => Err(corrupt().with("because", "a row lacks a column")),
    }
}

/// Whether an error says that there is no such table.
pub(crate) fn is_no_table(error: &mysql_async::Error) -> bool {
    number(error) == Some(NO_TABLE)
}
