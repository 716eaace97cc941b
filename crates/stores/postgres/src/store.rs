// SPDX-License-Identifier: Apache-2.0
//! The backend: reads, and what a transaction of ours becomes.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::{Object, Pool};
use dulse_shared::sql::{MAIN_TABLE, Place, behind, directory_of, key_row, place_of};
use dulse_shared::{Backend, Held, Settled, SharedOptions, SharedStore, Work};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use parking_lot::Mutex;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::config::{Config, Tables};
use crate::{error, pool};

/// Longest wait for the answer to a read, in all its tries.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(30);

/// Times a read is tried again on another connection: it changes nothing.
const READ_RETRIES_MAX: usize = 2;

/// Transactions whose number is remembered until somebody asks.
const NUMBERS_MAX: usize = 10_000;

/// Opens the store of a database: makes `filemeta` where it is missing, and the store's id.
///
/// # Errors
///
/// As [`SharedStore::open`].
pub fn open(config: Config, options: &SharedOptions) -> Result<SharedStore<Postgres>, Error> {
    SharedStore::open(options, move || Postgres::connect(config))
}

/// A database with upstream's tables.
pub struct Postgres {
    pub(crate) config: Config,
    pub(crate) pool: Pool,
    /// Tables that were there.
    pub(crate) tables: Mutex<HashSet<String>>,
    /// The database's numbers of transactions whose answer was lost, by ticket.
    pub(crate) numbers: Mutex<HashMap<i64, String>>,
    /// ` COLLATE "C"` where the database's own order is not that of bytes.
    collate: &'static str,
}

impl Postgres {
    /// Connects, and makes the main table where it is missing.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the server does not answer, `Invalid` for settings that cannot be.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let pool = pool::pool(&config)?;
        let mut store = Self {
            config,
            pool,
            tables: Mutex::default(),
            numbers: Mutex::default(),
            collate: "",
        };
        store.ensure(MAIN_TABLE).await?;
        store.collate = store.collation().await?;
        Ok(store)
    }

    /// How names must be compared to come in byte order. The index has the database's order:
    /// where that is another one, a listing sorts the directory.
    async fn collation(&self) -> Result<&'static str, Error> {
        let sql = "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database \
                   WHERE datname = current_database()";
        let rows = self.read(Operation::Open, sql, &[]).await?;
        let row = rows.first().ok_or_else(|| {
            Error::new(Operation::Open, ErrorKind::Io).with("because", "no current database")
        })?;
        let (collation, encoding): (String, String) = (get(row, 0)?, get(row, 1)?);
        if encoding != "UTF8" {
            let text = format!("the database's encoding is {encoding}; expected UTF8");
            return Err(Error::new(Operation::Open, ErrorKind::Invalid).with("because", text));
        }
        let is_bytes = ["C", "POSIX", "C.UTF-8", "C.utf8"].contains(&collation.as_str());
        if !is_bytes {
            tracing::warn!(
                collation,
                "the database does not sort by bytes: listings sort each directory as a whole; \
                 a database made with LOCALE 'C' lists faster"
            );
        }
        Ok(if is_bytes { "" } else { " COLLATE \"C\"" })
    }

    pub(crate) fn place(&self, path: &FullPath) -> Result<Place, Error> {
        place_of(self.config.tables, path)
    }

    /// Makes a table where it is missing.
    pub(crate) async fn ensure(&self, table: &str) -> Result<(), Error> {
        if self.tables.lock().contains(table) {
            return Ok(());
        }
        let invalid = |e| Error::new(Operation::Commit, ErrorKind::Invalid).source(e);
        let sql = self.config.create(table).map_err(invalid)?;
        let exists = "SELECT to_regclass($1)::text";
        let quoted = format!("\"{table}\"");
        let rows = self.read(Operation::Commit, exists, &[&quoted]).await?;
        let is_there = rows
            .first()
            .and_then(|row| row.try_get::<_, Option<String>>(0).ok().flatten());
        if is_there.is_none() {
            let client = self.client(Operation::Commit).await?;
            let made = tokio::time::timeout(READ_TIME_MAX, client.batch_execute(&sql)).await;
            match made {
                Ok(Ok(())) => {}
                // Two that make one table at once: the other one did.
                Ok(Err(error)) if is_made_already(&error) => {}
                Ok(Err(error)) => return Err(error::database(Operation::Commit, error)),
                Err(_) => return Err(error::late(Operation::Commit, READ_TIME_MAX)),
            }
        }
        self.tables.lock().insert(table.to_owned());
        Ok(())
    }

    pub(crate) async fn client(&self, operation: Operation) -> Result<Object, Error> {
        self.pool.get().await.map_err(|e| error::pool(operation, e))
    }

    /// Reads rows, on another connection when the first one was broken.
    pub(crate) async fn read(
        &self,
        operation: Operation,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let trying = async {
            let mut n_left = READ_RETRIES_MAX;
            loop {
                let result = async {
                    let client = self.client(operation).await?;
                    let statement = client.prepare_cached(sql).await;
                    let statement = statement.map_err(|e| error::reading(operation, e))?;
                    let rows = client.query(&statement, parameters).await;
                    rows.map_err(|e| error::reading(operation, e))
                };
                match result.await {
                    Err(error) if error.kind() == ErrorKind::Unavailable && n_left > 0 => {
                        n_left -= 1
                    }
                    other => return other,
                }
            }
        };
        let read = tokio::time::timeout(READ_TIME_MAX, trying).await;
        read.unwrap_or_else(|_| Err(error::late(operation, READ_TIME_MAX)))
    }

    /// The value of a row; a table that is not there has none.
    async fn value(&self, operation: Operation, at: &Place) -> Result<Option<Bytes>, Error> {
        let sql = format!(
            "SELECT meta FROM \"{}\" WHERE dirhash = $1 AND name = $2 AND directory = $3",
            at.table
        );
        let rows = self
            .read(operation, &sql, &[&at.dirhash, &at.name, &at.directory])
            .await;
        let rows = match rows {
            // The only statement that meets a missing table and is no commit.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.tables.lock().remove(&at.table);
                return Ok(None);
            }
            rows => rows?,
        };
        let value = rows
            .first()
            .map(|row| get::<Option<Vec<u8>>>(row, 0))
            .transpose()?;
        Ok(value.map(|value| Bytes::from(value.unwrap_or_default())))
    }

    /// Remembers a transaction whose answer may be lost.
    pub(crate) fn remember(&self, ticket: i64, number: String) {
        let mut numbers = self.numbers.lock();
        // Those that are never asked for are few; without a bound they would be a leak.
        if numbers.len() >= NUMBERS_MAX {
            numbers.clear();
        }
        numbers.insert(ticket, number);
    }
}

impl Backend for Postgres {
    fn name(&self) -> &'static str {
        match self.config.tables {
            Tables::One => "postgres",
            Tables::PerBucket => "postgres2",
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

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let place = directory_of(self.config.tables, directory.as_str());
        let Ok((table, inside)) = place else {
            return Ok(Vec::new());
        };
        let hash = crate::dirhash(inside);
        // From the greater of both: a start before the prefix begins at the prefix itself.
        let is_before = range.start < range.prefix;
        let (start, inclusive) = match is_before {
            true => (&range.prefix, true),
            false => (&range.start, range.inclusive),
        };
        let (collate, limit) = (self.collate, i64::try_from(range.limit).unwrap_or(i64::MAX));
        let compare = if inclusive { ">=" } else { ">" };
        let end = behind(&range.prefix);
        let until = match end {
            Some(_) => format!(" AND name{collate} < $5"),
            None => String::new(),
        };
        let sql = format!(
            "SELECT name, meta FROM \"{table}\" WHERE dirhash = $1 AND directory = $2 \
             AND name{collate} {compare} $3{until} ORDER BY name{collate} ASC LIMIT $4"
        );
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&hash, &inside, start, &limit];
        if let Some(end) = &end {
            parameters.push(end);
        }
        let rows = match self.read(Operation::List, &sql, &parameters).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.tables.lock().remove(&table);
                return Ok(Vec::new());
            }
            rows => rows?,
        };
        let row = |row: &Row| {
            let value: Option<Vec<u8>> = get(row, 1)?;
            Ok((get(row, 0)?, Bytes::from(value.unwrap_or_default())))
        };
        rows.iter().map(row).collect()
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
        let sql = format!("SELECT {CLOCK}");
        let rows = self.read(Operation::Find, &sql, &[]).await?;
        let us: i64 = rows.first().map_or(Ok(0), |row| get(row, 0))?;
        Ok(us.saturating_mul(1_000))
    }
}

/// The database's clock in microseconds since 1970, which is what it has.
pub(crate) const CLOCK: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// A column of a row.
pub(crate) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: usize,
) -> Result<T, Error> {
    row.try_get(column)
        .map_err(|e| Error::new(Operation::Find, ErrorKind::Corrupt).source(e))
}

/// `CREATE TABLE IF NOT EXISTS` of two at once: one of them meets the other's row of the catalog.
fn is_made_already(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::SqlState;
    let code = error.code();
    code == Some(&SqlState::UNIQUE_VIOLATION) || code == Some(&SqlState::DUPLICATE_TABLE)
}
