// SPDX-License-Identifier: Apache-2.0
//! One attempt as one transaction of the database, and what became of it.
//!
//! Order: the attempt's own lock; what is looked at is locked and compared; rows are written; the
//! clock is read; then the commit is sent. Only a commit that was sent and not answered leaves
//! anything unknown: before it every failure means that nothing was written.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::{Object, Transaction};
use dulse_shared::sql::{Place, bucket_is_valid, bucket_of, directory_of, key_row};
use dulse_shared::{Guard, Held, Settled, Work, Write, is_directory};
use dulse_store::{Error, ErrorKind, Operation, Outcome};
use dulse_types::FullPath;
use futures::future::try_join_all;

use crate::error::{database, late};
use crate::store::{CLOCK, Postgres, get};

/// Longest wait for everything before the commit.
const WORK_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest wait for the answer to a commit.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(30);

/// Statements that are on their way at a time.
const PIPELINE_MAX: usize = 256;

/// One statement of an attempt and what must come of it.
enum Statement {
    /// The row at the place is locked and compared.
    Compare(Place, Option<Bytes>),
    /// The row is locked against everybody who would change it, and is a directory's.
    Hold(Place),
    Count(String, String, u64),
    Insert(Place, Bytes),
    Replace(Place, Bytes),
    Remove(Place),
    Put(Place, Bytes),
    Forget(Place),
}

impl Postgres {
    /// See [`dulse_shared::Backend::apply`].
    pub(crate) async fn transact(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        let statements = self.statements(work)?;
        let mut tables = BTreeSet::new();
        for statement in &statements {
            tables.insert(statement.table());
        }
        for table in &tables {
            self.ensure(table).await?;
        }
        let mut client = self.client(Operation::Commit).await?;
        let result = self.attempt(&mut client, work, &statements, held).await;
        let Err(error) = &result else {
            let gone = work
                .writes
                .iter()
                .filter_map(|write| self.bucket_table(write));
            self.forget(gone);
            self.numbers.lock().remove(&work.ticket);
            return Ok(());
        };
        if error.kind() == ErrorKind::Conflict {
            // One of them may have gone with its bucket.
            self.forget(tables.iter().copied());
        } else {
            // What may be under way on it must not be met by the next one.
            drop(Object::take(client));
        }
        if error.outcome() == Outcome::NotApplied {
            self.numbers.lock().remove(&work.ticket);
        }
        result
    }

    fn forget<'a>(&self, tables: impl Iterator<Item = &'a str>) {
        let mut known = self.tables.lock();
        for table in tables {
            known.remove(table);
        }
    }

    async fn attempt(
        &self,
        client: &mut Object,
        work: &Work,
        statements: &[Statement],
        held: &Held<'_>,
    ) -> Result<(), Error> {
        let working = self.work(client, work, statements, held);
        let worked = tokio::time::timeout(WORK_TIME_MAX, working).await;
        let transaction = worked.map_err(|_| late(Operation::Commit, WORK_TIME_MAX))??;
        let committed = tokio::time::timeout(COMMIT_TIME_MAX, transaction.commit()).await;
        committed_or_unknown(committed)
    }

    /// Everything but the commit.
    async fn work<'a>(
        &self,
        client: &'a mut Object,
        work: &Work,
        statements: &[Statement],
        held: &Held<'_>,
    ) -> Result<Transaction<'a>, Error> {
        let failed = |e| database(Operation::Commit, e);
        let transaction = client.transaction().await.map_err(failed)?;
        let sql = "SELECT pg_advisory_xact_lock($1)::text, pg_current_xact_id()::text";
        let lock = transaction.prepare_cached(sql).await.map_err(failed)?;
        let row = transaction
            .query_one(&lock, &[&work.ticket])
            .await
            .map_err(failed)?;
        self.remember(work.ticket, get(&row, 1)?);
        for part in statements.chunks(PIPELINE_MAX) {
            for sql in part.iter().map(Statement::sql).collect::<BTreeSet<_>>() {
                transaction.prepare_cached(&sql).await.map_err(failed)?;
            }
            // Order: futures are polled, and so their statements sent, one after the other.
            try_join_all(part.iter().map(|statement| statement.run(&transaction))).await?;
        }
        for write in &work.writes {
            if let Some(table) = self.bucket_table(write) {
                let sql = format!("DROP TABLE IF EXISTS \"{table}\"");
                transaction.batch_execute(&sql).await.map_err(failed)?;
            }
        }
        let clock = transaction.prepare_cached(&format!("SELECT {CLOCK}")).await;
        let row = transaction
            .query_one(&clock.map_err(failed)?, &[])
            .await
            .map_err(failed)?;
        let us: i64 = get(&row, 0)?;
        // Everything that is written is locked by now, and nobody sees it yet.
        held(us.saturating_mul(1_000)).await?;
        Ok(transaction)
    }

    /// The table of a bucket that goes.
    fn bucket_table<'a>(&self, write: &'a Write) -> Option<&'a str> {
        let Write::RemoveDirectory(path) = write else {
            return None;
        };
        let (bucket, rest) = bucket_of(self.config.tables, path.as_str())?;
        (rest.is_empty() && bucket_is_valid(bucket)).then_some(bucket)
    }

    fn statements(&self, work: &Work) -> Result<Vec<Statement>, Error> {
        let mut out = Vec::with_capacity(work.guards.len() + work.writes.len());
        for guard in &work.guards {
            match guard {
                Guard::Absent(path) => match self.place(path) {
                    Ok(place) => out.push(Statement::Compare(place, None)),
                    // Where nothing can be, nothing is.
                    Err(error) if error.kind() == ErrorKind::Invalid => {}
                    Err(error) => return Err(error),
                },
                Guard::Same(path, value) => {
                    out.push(Statement::Compare(self.place(path)?, Some(value.clone())));
                }
                Guard::Directory(path) => out.push(Statement::Hold(self.place(path)?)),
                Guard::Names(path, n) => {
                    let (table, inside) = self.directory(path)?;
                    out.push(Statement::Count(table, inside, *n));
                }
                Guard::Key(key, value) => {
                    out.push(Statement::Compare(key_row(key), value.clone()));
                }
            }
        }
        for write in &work.writes {
            out.push(match write {
                Write::Insert(path, value) => Statement::Insert(self.place(path)?, value.clone()),
                Write::Replace(path, value) => Statement::Replace(self.place(path)?, value.clone()),
                Write::Remove(path) | Write::RemoveDirectory(path) => {
                    Statement::Remove(self.place(path)?)
                }
                Write::PutKey(key, value) => Statement::Put(key_row(key), value.clone()),
                Write::RemoveKey(key) => Statement::Forget(key_row(key)),
            });
        }
        Ok(out)
    }

    fn directory(&self, path: &FullPath) -> Result<(String, String), Error> {
        let (table, inside) = directory_of(self.config.tables, path.as_str())?;
        Ok((table, inside.to_owned()))
    }

    /// See [`dulse_shared::Backend::settle`].
    pub(crate) async fn ask_what_became(&self, ticket: i64) -> Result<Settled, Error> {
        // The attempt holds this lock until it is over.
        let sql = "SELECT pg_advisory_xact_lock($1)::text";
        self.read(Operation::Commit, sql, &[&ticket]).await?;
        let Some(number) = self.numbers.lock().get(&ticket).cloned() else {
            return Ok(Settled::Over);
        };
        let sql = "SELECT pg_xact_status($1::text::xid8)";
        let rows = self.read(Operation::Commit, sql, &[&number]).await?;
        let status: Option<String> = rows.first().map_or(Ok(None), |row| get(row, 0))?;
        match status.as_deref() {
            // The number of one that a killed server had not written down yet goes to another
            // transaction behind the restart, and that one may have been committed.
            Some("committed") => Ok(Settled::Perhaps),
            Some("aborted") => Ok(Settled::NotApplied),
            // The lock goes a moment before the status comes.
            Some("in progress") => {
                let text = "the transaction is not over yet";
                Err(Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", text))
            }
            _ => Ok(Settled::Over),
        }
    }
}

impl Statement {
    fn table(&self) -> &str {
        match self {
            Self::Compare(at, _)
            | Self::Hold(at)
            | Self::Insert(at, _)
            | Self::Replace(at, _)
            | Self::Remove(at)
            | Self::Put(at, _)
            | Self::Forget(at) => &at.table,
            Self::Count(table, ..) => table,
        }
    }

    fn sql(&self) -> String {
        let table = self.table();
        let at = "WHERE dirhash = $1 AND name = $2 AND directory = $3";
        let values = "(dirhash, name, directory, meta) VALUES ($1, $2, $3, $4)";
        match self {
            // ⚠ `FOR UPDATE`: nobody changes it before the commit.
            Self::Compare(..) => {
                format!("SELECT sha256(meta) = sha256($4) FROM \"{table}\" {at} FOR UPDATE")
            }
            // Shared with others who make entries in it, not with who removes or moves it.
            Self::Hold(_) => format!("SELECT meta FROM \"{table}\" {at} FOR SHARE"),
            Self::Count(..) => {
                format!("SELECT count(*) FROM \"{table}\" WHERE dirhash = $1 AND directory = $2")
            }
            Self::Insert(..) => format!("INSERT INTO \"{table}\" {values}"),
            Self::Replace(..) => format!("UPDATE \"{table}\" SET meta = $4 {at}"),
            Self::Remove(_) | Self::Forget(_) => format!("DELETE FROM \"{table}\" {at}"),
            Self::Put(..) => format!(
                "INSERT INTO \"{table}\" {values} ON CONFLICT (dirhash, name) \
                 DO UPDATE SET directory = EXCLUDED.directory, meta = EXCLUDED.meta"
            ),
        }
    }

    async fn run(&self, transaction: &Transaction<'_>) -> Result<(), Error> {
        let failed = |e| database(Operation::Commit, e);
        let statement = transaction
            .prepare_cached(&self.sql())
            .await
            .map_err(failed)?;
        let changed = || Error::new(Operation::Commit, ErrorKind::Conflict);
        let n_rows = match self {
            Self::Compare(at, value) => {
                let bytes = value.as_deref().unwrap_or_default();
                let found = transaction
                    .query_opt(&statement, &[&at.dirhash, &at.name, &at.directory, &bytes])
                    .await
                    .map_err(failed)?;
                let is_same = found.map(|row| get::<Option<bool>>(&row, 0)).transpose()?;
                let holds = match (value, is_same) {
                    (None, found) => found.is_none(),
                    (Some(_), found) => found.flatten() == Some(true),
                };
                return if holds {
                    Ok(())
                } else {
                    Err(changed().with("path", at.shown()))
                };
            }
            Self::Hold(at) => {
                let found = transaction
                    .query_opt(&statement, &[&at.dirhash, &at.name, &at.directory])
                    .await
                    .map_err(failed)?;
                let value = found
                    .map(|row| get::<Option<Vec<u8>>>(&row, 0))
                    .transpose()?;
                let value = value.flatten().map(Bytes::from);
                let holds = value.is_some_and(is_directory);
                return if holds {
                    Ok(())
                } else {
                    Err(changed().with("path", at.shown()))
                };
            }
            Self::Count(_, directory, n) => {
                let hash = crate::dirhash(directory);
                let row = transaction.query_one(&statement, &[&hash, directory]).await;
                let there: i64 = get(&row.map_err(failed)?, 0)?;
                let holds = u64::try_from(there) == Ok(*n);
                return if holds {
                    Ok(())
                } else {
                    Err(changed().with("path", directory))
                };
            }
            Self::Insert(at, value) | Self::Replace(at, value) | Self::Put(at, value) => {
                let value = &value[..];
                transaction
                    .execute(&statement, &[&at.dirhash, &at.name, &at.directory, &value])
                    .await
            }
            Self::Remove(at) | Self::Forget(at) => {
                transaction
                    .execute(&statement, &[&at.dirhash, &at.name, &at.directory])
                    .await
            }
        };
        // A key may have gone; everything else was compared before.
        let is_done = n_rows.map_err(failed)? == 1 || matches!(self, Self::Forget(_));
        if is_done { Ok(()) } else { Err(changed()) }
    }
}

/// An answer that says no is one; none, or that the server is going, leaves it unknown.
fn committed_or_unknown(
    committed: Result<Result<(), tokio_postgres::Error>, tokio::time::error::Elapsed>,
) -> Result<(), Error> {
    match committed {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let is_answer = error.as_db_error().is_some_and(|e| e.severity() == "ERROR");
            let error = database(Operation::Commit, error);
            Err(if is_answer {
                error
            } else {
                error.unknown_outcome()
            })
        }
        Err(_) => Err(late(Operation::Commit, COMMIT_TIME_MAX).unknown_outcome()),
    }
}
