// SPDX-License-Identifier: Apache-2.0
//! Statements of one transaction. Those of one kind go together, many rows in one: each
//! statement is a round trip.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use dulse_shared::is_directory;
use dulse_shared::sql::{Place, dirhash};
use dulse_store::{Error, ErrorKind, Operation};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use crate::error::{DUPLICATE, database, number};
use crate::store::column;

/// Rows of one statement: few different numbers, since each is prepared for itself.
const SIZES: [usize; 3] = [64, 8, 1];

/// Bytes of values that go together.
const BYTES_MAX: usize = 512 << 10;

/// One row's part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Statement {
    /// The row is locked and compared.
    Compare(Place, Option<Bytes>),
    /// The row is locked against everybody who would change it, and is a directory's.
    Hold(Place),
    /// The directory has this many rows, which are locked.
    Count(String, String, u64),
    Remove(Place),
    /// The row goes if it is there.
    Forget(Place),
    Replace(Place, Bytes),
    Insert(Place, Bytes),
}

impl Statement {
    pub(crate) fn table(&self) -> &str {
        match self {
            Self::Compare(at, _)
            | Self::Hold(at)
            | Self::Remove(at)
            | Self::Forget(at)
            | Self::Replace(at, _)
            | Self::Insert(at, _) => &at.table,
            Self::Count(table, ..) => table,
        }
    }

    /// Bytes that are sent.
    pub(crate) fn n_bytes(&self) -> usize {
        match self {
            Self::Replace(_, value) | Self::Insert(_, value) => value.len(),
            _ => 0,
        }
    }

    fn goes_with(&self, other: &Self) -> bool {
        let is_many = matches!(self, Self::Compare(..) | Self::Remove(_) | Self::Insert(..));
        let is_same = std::mem::discriminant(self) == std::mem::discriminant(other);
        is_many && is_same && self.table() == other.table()
    }
}

/// Parts that go together, in order.
pub(crate) fn parts(all: &[Statement]) -> Vec<&[Statement]> {
    let mut out = Vec::new();
    for alike in all.chunk_by(Statement::goes_with) {
        let mut rest = alike;
        while !rest.is_empty() {
            let fits = |n: &usize| {
                let n_bytes: usize = rest.iter().take(*n).map(Statement::n_bytes).sum();
                *n <= rest.len() && n_bytes <= BYTES_MAX
            };
            let n = SIZES.into_iter().find(fits).unwrap_or(1);
            let (part, behind) = rest.split_at(n);
            out.push(part);
            rest = behind;
        }
    }
    out
}

fn changed() -> Error {
    Error::new(Operation::Commit, ErrorKind::Conflict)
}

fn failed(error: mysql_async::Error) -> Error {
    database(Operation::Commit, error)
}

/// Runs one part.
pub(crate) async fn run(conn: &mut Conn, part: &[Statement]) -> Result<(), Error> {
    let Some(first) = part.first() else {
        return Ok(());
    };
    let table = first.table();
    let n = part.len();
    match first {
        Statement::Compare(..) => compare(conn, table, part).await,
        Statement::Hold(at) => {
            let sql = format!(
                "SELECT `meta`, `name` FROM `{table}` WHERE `dirhash` = ? AND `name` = ? \
                 AND `directory` = ? LOCK IN SHARE MODE"
            );
            let row: Option<Row> = conn.exec_first(sql, at_values(at)).await.map_err(failed)?;
            let holds = match &row {
                None => false,
                Some(row) => {
                    let value: Option<Vec<u8>> = column(row, 0)?;
                    let is_it = column::<String>(row, 1)? == at.name;
                    is_it && is_directory(value.unwrap_or_default().into())
                }
            };
            holds
                .then_some(())
                .ok_or_else(|| changed().with("path", at.shown()))
        }
        Statement::Count(_, directory, expected) => {
            // A locking read sees what was committed last, where another would see what was when
            // the transaction began.
            let sql = format!(
                "SELECT COUNT(*) FROM `{table}` WHERE `dirhash` = ? AND `directory` = ? \
                 LOCK IN SHARE MODE"
            );
            let parameters: Vec<Value> = vec![dirhash(directory).into(), directory.into()];
            let there: Option<u64> = conn.exec_first(sql, parameters).await.map_err(failed)?;
            (there == Some(*expected))
                .then_some(())
                .ok_or_else(|| changed().with("path", directory))
        }
        Statement::Remove(_) | Statement::Forget(_) => {
            let sql = format!("DELETE FROM `{table}` WHERE {}", any(n));
            let parameters = part
                .iter()
                .flat_map(|one| place(one).map(key_values))
                .flatten();
            conn.exec_drop(sql, parameters.collect::<Vec<_>>())
                .await
                .map_err(failed)?;
            // A key may have gone; everything else was compared before.
            let is_done = conn.affected_rows() == n as u64 || matches!(first, Statement::Forget(_));
            is_done.then_some(()).ok_or_else(changed)
        }
        Statement::Replace(at, value) => {
            let sql = format!(
                "UPDATE `{table}` SET `meta` = ? WHERE `dirhash` = ? AND `name` = ? \
                 AND `directory` = ?"
            );
            let mut parameters: Vec<Value> = vec![value.to_vec().into()];
            parameters.extend(at_values(at));
            conn.exec_drop(sql, parameters).await.map_err(failed)?;
            (conn.affected_rows() == 1)
                .then_some(())
                .ok_or_else(|| changed().with("path", at.shown()))
        }
        Statement::Insert(..) => insert(conn, table, part).await,
    }
}

/// Where one of several rows is, by its key: `n` times.
fn any(n: usize) -> String {
    vec!["(`dirhash` = ? AND `name` = ?)"; n].join(" OR ")
}

fn place(statement: &Statement) -> Option<&Place> {
    match statement {
        Statement::Compare(at, _)
        | Statement::Hold(at)
        | Statement::Remove(at)
        | Statement::Forget(at)
        | Statement::Replace(at, _)
        | Statement::Insert(at, _) => Some(at),
        Statement::Count(..) => None,
    }
}

fn key_values(at: &Place) -> [Value; 2] {
    [at.dirhash.into(), (&at.name).into()]
}

fn at_values(at: &Place) -> Vec<Value> {
    vec![at.dirhash.into(), (&at.name).into(), (&at.directory).into()]
}

async fn compare(conn: &mut Conn, table: &str, part: &[Statement]) -> Result<(), Error> {
    // ⚠ Nobody changes them before the commit.
    let lock = "FOR UPDATE";
    // By the primary key whatever the optimizer thinks: rows it looks at are locked.
    let sql = format!(
        "SELECT `dirhash`, `name`, `directory`, SHA2(`meta`, 256) FROM `{table}` \
         FORCE INDEX (PRIMARY) WHERE {} {lock}",
        any(part.len())
    );
    let keys = part.iter().filter_map(place).flat_map(key_values);
    let rows: Vec<Row> = conn
        .exec(sql, keys.collect::<Vec<_>>())
        .await
        .map_err(failed)?;
    let mut there = HashMap::new();
    for row in &rows {
        let at: (i64, String, String) = (column(row, 0)?, column(row, 1)?, column(row, 2)?);
        there.insert(at, column::<Option<String>>(row, 3)?);
    }
    for one in part {
        let Statement::Compare(at, value) = one else {
            continue;
        };
        let key = (at.dirhash, at.name.clone(), at.directory.clone());
        let holds = match (value, there.get(&key)) {
            (None, found) => found.is_none(),
            (Some(_), None) => false,
            (Some(value), Some(found)) => {
                let expected = match value.is_empty() {
                    // Upstream writes no row without a value.
                    true if found.is_none() => None,
                    _ => Some(hex(digest(&SHA256, value).as_ref())),
                };
                *found == expected
            }
        };
        if !holds {
            return Err(changed().with("path", at.shown()));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn insert(conn: &mut Conn, table: &str, part: &[Statement]) -> Result<(), Error> {
    let rows = vec!["(?,?,?,?)"; part.len()].join(",");
    let sql = format!("INSERT INTO `{table}` (`dirhash`,`name`,`directory`,`meta`) VALUES {rows}");
    let mut parameters: Vec<Value> = Vec::with_capacity(part.len() * 4);
    for one in part {
        if let Statement::Insert(at, value) = one {
            parameters.extend(at_values(at));
            parameters.push(value.to_vec().into());
        }
    }
    let inserted = conn.exec_drop(sql, parameters).await;
    match inserted {
        Ok(()) => Ok(()),
        Err(error) if number(&error) == Some(DUPLICATE) => Err(in_the_way(conn, table, part).await),
        Err(error) => Err(failed(error)),
    }
}

/// Why a row cannot be made: one like it came meanwhile, or there is one of another name that is
/// the same to the database, and always will be.
async fn in_the_way(conn: &mut Conn, table: &str, part: &[Statement]) -> Error {
    let sql = format!("SELECT `name` FROM `{table}` WHERE `dirhash` = ? AND `name` = ?");
    for at in part.iter().filter_map(place) {
        let found: Result<Option<String>, _> =
            conn.exec_first(&*sql, key_values(at).to_vec()).await;
        match found {
            Ok(Some(name)) if name != at.name => {
                let text = format!(
                    "the collation of the table `{table}` takes {:?} and {name:?}, which is \
                     there, for one name",
                    at.name
                );
                let error = Error::new(Operation::Commit, ErrorKind::Invalid);
                return error.with("path", at.shown()).with("because", text);
            }
            Ok(_) => {}
            Err(error) => return failed(error),
        }
    }
    changed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> Place {
        Place {
            table: "t".to_owned(),
            dirhash: 1,
            name: name.to_owned(),
            directory: "/d".to_owned(),
        }
    }

    #[test]
    fn rows_of_one_kind_go_together_in_few_sizes() {
        let value = Bytes::from_static(b"x");
        let mut all: Vec<Statement> = (0..75)
            .map(|n| Statement::Compare(at(&n.to_string()), None))
            .collect();
        all.push(Statement::Replace(at("r"), value.clone()));
        all.push(Statement::Replace(at("s"), value.clone()));
        all.push(Statement::Insert(at("i"), value));
        let sizes: Vec<usize> = parts(&all).iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [64, 8, 1, 1, 1, 1, 1, 1]);
        assert_eq!(parts(&all).concat(), all, "none is left out");
    }

    #[test]
    fn large_values_go_alone() {
        let value = Bytes::from(vec![0; BYTES_MAX]);
        let all: Vec<Statement> = (0..9)
            .map(|n| Statement::Insert(at(&n.to_string()), value.clone()))
            .collect();
        assert!(parts(&all).iter().all(|part| part.len() == 1));
    }
}
