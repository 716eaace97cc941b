// SPDX-License-Identifier: Apache-2.0
//! One attempt as one transaction of the database, and what became of it.
//!
//! Order: what is looked at is locked and compared; rows are written; the connection's own row
//! is written and the clock is read; then the commit is sent. Only a commit that was sent and
//! not answered leaves anything unknown: before it every failure means that nothing was written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use dulse_shared::sql::{bucket_is_valid, bucket_of, directory_of, key_row};
use dulse_shared::{Guard, Held, Settled, Work, Write};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::FullPath;
use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};
use tokio::time::timeout;

use crate::batch::{Statement, parts, run};
use crate::error::{NO_SUCH_THREAD, database, late, number};
use crate::pool::Client;
use crate::store::{CLOCK, MySql, column, is_no_table};
use crate::traces;

/// Longest wait for everything before the commit.
const WORK_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest wait for the answer to a commit.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(30);

/// Longest wait for the end of what failed.
const ROLLBACK_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest wait for a bucket's table to go.
const DROP_TIME_MAX: Duration = Duration::from_secs(15);

/// Attempts that are remembered until somebody asks.
const LOST_MAX: usize = 10_000;

/// Bytes of a message beside the value in it.
const MESSAGE_OVERHEAD: usize = 16 << 10;

/// An attempt whose answer was lost.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// Number of its connection, which no other gets before this is settled.
    number: u32,
    /// Tables of buckets that went, if it was made.
    buckets: Vec<String>,
}

impl MySql {
    /// See [`dulse_shared::Backend::apply`].
    pub(crate) async fn transact(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        let statements = self.statements(work)?;
        let tables: BTreeSet<&str> = statements.iter().map(Statement::table).collect();
        for table in &tables {
            self.ensure(table).await?;
        }
        let buckets: Vec<String> = work.writes.iter().filter_map(|w| self.bucket(w)).collect();
        let mut client = self.client(Operation::Commit).await?;
        too_large(&statements, client.packet_bytes_max())?;
        let working = self.work(&mut client, work, &statements, held);
        let worked = timeout(WORK_TIME_MAX, working).await;
        if let Err(error) = worked.unwrap_or_else(|_| Err(late(Operation::Commit, WORK_TIME_MAX))) {
            if error.kind() == ErrorKind::Conflict {
                // One of them may have gone with its bucket.
                self.forget(tables);
            }
            give_up(client, &error).await;
            return Err(error);
        }
        self.commit(client, work.ticket, &buckets).await?;
        for bucket in buckets {
            self.drop_table(&bucket).await;
        }
        Ok(())
    }

    async fn commit(
        &self,
        mut client: Client<'_>,
        ticket: i64,
        buckets: &[String],
    ) -> Result<(), Error> {
        let committing = client.conn().query_drop("COMMIT");
        let error = match timeout(COMMIT_TIME_MAX, committing).await {
            Ok(Ok(())) => {
                client.give_back();
                return Ok(());
            }
            // It was chosen to be taken back: such an answer says that nothing was made.
            Ok(Err(error)) if matches!(number(&error), Some(1205 | 1213)) => {
                let error = database(Operation::Commit, error);
                give_up(client, &error).await;
                return Err(error);
            }
            Ok(Err(error)) => database(Operation::Commit, error),
            Err(_) => late(Operation::Commit, COMMIT_TIME_MAX),
        };
        let lost = Lost {
            number: client.number(),
            buckets: buckets.to_vec(),
        };
        client.keep_number();
        let mut all = self.lost.lock();
        // Those that are never asked for are few; without a bound they would be a leak.
        if all.len() >= LOST_MAX {
            all.clear();
        }
        all.insert(ticket, lost);
        Err(error.unknown_outcome())
    }

    /// Everything but the commit.
    async fn work(
        &self,
        client: &mut Client<'_>,
        work: &Work,
        statements: &[Statement],
        held: &Held<'_>,
    ) -> Result<(), Error> {
        let failed = |e| database(Operation::Commit, e);
        let number = client.number();
        let conn = client.conn();
        conn.query_drop("START TRANSACTION").await.map_err(failed)?;
        for part in parts(statements) {
            run(conn, part).await?;
        }
        let sql = format!("{}; {CLOCK}", self.traces.leave(number, work.ticket));
        let mut answers = conn.query_iter(sql).await.map_err(failed)?;
        answers.collect::<Row>().await.map_err(failed)?;
        let clock: Vec<Row> = answers.collect().await.map_err(failed)?;
        answers.drop_result().await.map_err(failed)?;
        let us: i64 = clock.first().map_or(Ok(0), |row| column(row, 0))?;
        // Everything that is written is locked by now, and nobody sees it yet.
        held(us.saturating_mul(1_000)).await?;
        Ok(())
    }

    /// The table of a bucket that goes.
    fn bucket(&self, write: &Write) -> Option<String> {
        let Write::RemoveDirectory(path) = write else {
            return None;
        };
        let (bucket, rest) = bucket_of(self.config.tables, path.as_str())?;
        (rest.is_empty() && bucket_is_valid(bucket)).then(|| bucket.to_owned())
    }

    /// What is done, in an order that does not depend on paths: rows that go make room for names
    /// that are the same to the database.
    fn statements(&self, work: &Work) -> Result<Vec<Statement>, Error> {
        let mut keys: HashMap<&Bytes, bool> = HashMap::new();
        let (mut going, mut changed, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for guard in &work.guards {
            if let Guard::Key(key, value) = guard {
                keys.insert(key, value.is_some());
            }
        }
        let mut inserted = HashSet::new();
        for write in &work.writes {
            match write {
                Write::Insert(path, value) => {
                    inserted.insert(path);
                    made.push(Statement::Insert(self.place(path)?, value.clone()));
                }
                Write::Replace(path, value) => {
                    changed.push(Statement::Replace(self.place(path)?, value.clone()));
                }
                Write::Remove(path) | Write::RemoveDirectory(path) => {
                    going.push(Statement::Remove(self.place(path)?));
                }
                Write::PutKey(key, value) => match keys.get(key) {
                    Some(true) => changed.push(Statement::Replace(key_row(key), value.clone())),
                    _ => made.push(Statement::Insert(key_row(key), value.clone())),
                },
                Write::RemoveKey(key) => going.push(Statement::Forget(key_row(key))),
            }
        }
        let mut out = Vec::new();
        for guard in &work.guards {
            match guard {
                // That nothing is there shows when the row is made.
                Guard::Absent(path) if inserted.contains(path) => {}
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
        for mut writes in [going, changed, made] {
            writes.sort_by(|a, b| a.table().cmp(b.table()));
            out.append(&mut writes);
        }
        Ok(out)
    }

    fn directory(&self, path: &FullPath) -> Result<(String, String), Error> {
        let (table, inside) = directory_of(self.config.tables, path.as_str())?;
        Ok((table, inside.to_owned()))
    }

    /// Drops the table of a bucket that is gone, unless somebody has made the bucket again and
    /// something in it. Statements like this one are in no transaction here: what cannot be
    /// dropped stays, an empty table.
    async fn drop_table(&self, table: &str) {
        self.forget([table]);
        let dropping = async {
            let failed = |e| database(Operation::Commit, e);
            let mut client = self.client(Operation::Commit).await?;
            let conn = client.conn();
            // Whoever writes in it waits, and finds it gone or with his row in it.
            match conn
                .query_drop(format!("LOCK TABLES `{table}` WRITE"))
                .await
            {
                Err(error) if is_no_table(&error) => {
                    client.give_back();
                    return Ok(());
                }
                locked => locked.map_err(failed)?,
            }
            let sql = format!("SELECT 1 FROM `{table}` LIMIT 1");
            let found: Option<u8> = conn.query_first(sql).await.map_err(failed)?;
            if found.is_none() {
                conn.query_drop(format!("DROP TABLE `{table}`"))
                    .await
                    .map_err(failed)?;
            }
            conn.query_drop("UNLOCK TABLES").await.map_err(failed)?;
            client.give_back();
            Ok(())
        };
        let dropped = timeout(DROP_TIME_MAX, dropping).await;
        let dropped = dropped.unwrap_or_else(|_| Err(late(Operation::Commit, DROP_TIME_MAX)));
        if let Err(error) = dropped {
            let because = error.repeated();
            tracing::warn!(table, %error, %because, "the empty table of a removed bucket stays");
        }
    }

    /// See [`dulse_shared::Backend::settle`].
    pub(crate) async fn ask_what_became(&self, ticket: i64) -> Result<Settled, Error> {
        let Some(lost) = self.lost.lock().get(&ticket).cloned() else {
            // Of an earlier process: its row may have been written over, and others may have
            // written what it wrote.
            let (sql, parameters) = traces::all();
            let is_there = self.finds(ticket, &sql, parameters).await?;
            return Ok(match is_there {
                true => Settled::Perhaps,
                false => Settled::Over,
            });
        };
        let (sql, parameters) = traces::one(&self.traces.row(lost.number));
        self.end(&lost).await;
        let is_there = self.finds(ticket, &sql, parameters).await?;
        self.lost.lock().remove(&ticket);
        self.pool.free(lost.number);
        if !is_there {
            return Ok(Settled::NotApplied);
        }
        for bucket in &lost.buckets {
            self.drop_table(bucket).await;
        }
        Ok(Settled::Applied)
    }

    /// Whether a row says that an attempt was made; waits until no attempt is under way on any
    /// of them.
    async fn finds(&self, ticket: i64, sql: &str, parameters: Vec<Value>) -> Result<bool, Error> {
        // A wait for a lock that took too long: not over yet, and `Unavailable`.
        let rows = self.read(Operation::Commit, sql, parameters).await?;
        for row in &rows {
            let value: Option<Vec<u8>> = column(row, 0)?;
            if value.is_some_and(|value| traces::says(&value, ticket)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends the connection of a lost attempt at the server, if it is still there: it would wait
    /// for words of ours that cannot come, and hold what it has locked. A commit that the server
    /// is at is made, or not, all the same.
    async fn end(&self, lost: &Lost) {
        let ending = async {
            let failed = |e| database(Operation::Commit, e);
            let mut client = self.client(Operation::Commit).await?;
            let name = self.traces.lock(lost.number);
            let holder: Option<Option<u32>> = client
                .conn()
                .exec_first("SELECT IS_USED_LOCK(?)", (name,))
                .await
                .map_err(failed)?;
            if let Some(Some(id)) = holder {
                match client.conn().query_drop(format!("KILL {id}")).await {
                    Err(error) if number(&error) == Some(NO_SUCH_THREAD) => {}
                    killed => killed.map_err(failed)?,
                }
            }
            client.give_back();
            Ok::<_, Error>(())
        };
        if let Ok(Err(error)) = timeout(ROLLBACK_TIME_MAX, ending).await {
            tracing::debug!(%error, "the connection of a lost attempt cannot be ended");
        }
    }
}

/// Takes back what an attempt did; a connection on which that cannot be done is closed, and the
/// server takes it back.
async fn give_up(mut client: Client<'_>, error: &Error) {
    // Nothing is said on a connection that is broken or late.
    if error.kind() == ErrorKind::Unavailable {
        return;
    }
    let rollback = client.conn().query_drop("ROLLBACK");
    if let Ok(Ok(())) = timeout(ROLLBACK_TIME_MAX, rollback).await {
        client.give_back();
    }
}

/// What the server takes no message for is refused before anything is done.
fn too_large(statements: &[Statement], packet_bytes_max: usize) -> Result<(), Error> {
    let n_bytes = statements.iter().map(Statement::n_bytes).max().unwrap_or(0);
    if n_bytes + MESSAGE_OVERHEAD <= packet_bytes_max || packet_bytes_max == 0 {
        return Ok(());
    }
    let text = format!(
        "an entry of {n_bytes} bytes is above the server's max_allowed_packet of \
         {packet_bytes_max}; raise it"
    );
    Err(Error::new(Operation::Commit, ErrorKind::Invalid).with("because", text))
}
