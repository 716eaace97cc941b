// SPDX-License-Identifier: Apache-2.0
//! Rows of one partition, compared and written at once.
//!
//! What upstream inserts is a row with a value in it, and either may expire without the other.
//! Ours are values alone, which take their row with them; where a value is to expire that is
//! written over another, the row is made to expire with it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dulse_shared::{At, RowWrite, value};
use dulse_store::{Error, ErrorKind, Operation};
use scylla::serialize::value::SerializeValue;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};

use crate::error::{answer, invalid, of};
use crate::layout::{Place, place};
use crate::session::REQUEST_TIME_MAX;
use crate::store::Cassandra;
use crate::together::Asks;

/// The last second that Cassandra can let something expire in, in its older form that is still
/// the default, less a day for clocks that are apart.
const EXPIRY_MAX_S: i64 = i32::MAX as i64 - 86_400;

/// A value of a statement.
type Bound<'a> = Box<dyn SerializeValue + Send + Sync + 'a>;

impl Cassandra {
    /// Writes rows of one partition, if each is as it was read; gives whether they were.
    pub(crate) async fn write_rows(&self, group: &[RowWrite]) -> Result<bool, Error> {
        let mut placed = Vec::with_capacity(group.len());
        for row in group {
            let place = place(&self.super_large, &row.at)?;
            let place = place.ok_or_else(|| invalid(Operation::Commit, "the root has no row"))?;
            placed.push((row.clone(), place));
        }
        let Some((first, at)) = placed.first() else {
            return Ok(true);
        };
        if placed.len() == 1 && first.before == first.after {
            // Nobody could tell it from a look.
            let find = &self.statements.find;
            // Reading changes nothing: an error of it is no unknown write.
            return Ok(self.value(Operation::Find, find, at).await? == first.before);
        }
        if placed.iter().any(|(_, place)| !place.is_beside(at)) {
            let text = "rows of several partitions are not written at once";
            return Err(invalid(Operation::Commit, text));
        }
        self.lanes.write(self, placed, REQUEST_TIME_MAX).await
    }

    fn statements_of<'a>(
        &'a self,
        row: &'a RowWrite,
        place: &'a Place,
        now_s: i64,
    ) -> Vec<(&'a PreparedStatement, Vec<Bound<'a>>)> {
        let key = || -> [Bound<'a>; 3] {
            [
                Box::new(place.dirhash),
                Box::new(&place.directory),
                Box::new(&place.name),
            ]
        };
        let statements = &self.statements;
        let Some(after) = &row.after else {
            let mut values = Vec::from(key());
            values.push(Box::new(&row.before));
            return vec![(&statements.remove, values)];
        };
        let ttl_s = match &row.at {
            At::Path(_) => ttl_s(after, now_s),
            At::Key(_) => 0,
        };
        let mut values: Vec<Bound<'a>> = vec![Box::new(ttl_s), Box::new(after)];
        values.extend(key());
        values.push(Box::new(&row.before));
        let mut out = vec![(&statements.put, values)];
        if ttl_s > 0 && row.before.is_some() {
            let mut values = Vec::from(key());
            values.push(Box::new(ttl_s));
            out.push((&statements.mark, values));
        }
        out
    }
}

impl Asks for Cassandra {
    async fn ask(&self, rows: &[(RowWrite, Place)]) -> Result<bool, Error> {
        let now_s = now_s();
        let asked: Vec<(&PreparedStatement, Vec<Bound<'_>>)> = rows
            .iter()
            .flat_map(|(row, place)| self.statements_of(row, place, now_s))
            .collect();
        let result = match &asked[..] {
            [(statement, values)] => self.session.execute_unpaged(statement, values).await,
            _ => {
                let mut batch = Batch::new(BatchType::Unlogged);
                let mut all = Vec::with_capacity(asked.len());
                for (statement, values) in &asked {
                    batch.append_statement((*statement).clone());
                    all.push(values);
                }
                self.session.batch(&batch, all).await
            }
        };
        let rows = result
            .map_err(|e| of(Operation::Commit, e))?
            .into_rows_result();
        let rows = rows.map_err(|e| answer(Operation::Commit, e))?;
        let first = rows.first_row::<Row>();
        let first = first.map_err(|e| answer(Operation::Commit, e))?;
        match first.columns.first() {
            Some(Some(CqlValue::Boolean(is_applied))) => Ok(*is_applied),
            _ => {
                let text = "a conditional write was not answered with whether it was made";
                let error = Error::new(Operation::Commit, ErrorKind::Io).with("because", text);
                Err(error.unknown_outcome())
            }
        }
    }
}

/// How long the server shows a value, in seconds, as upstream tells it; 0 is for ever, also where
/// the server could not let it expire so late.
fn ttl_s(value: &Bytes, now_s: i64) -> i32 {
    let ttl_s = value::decode(value.clone()).map_or(0, |entry| entry.ttl_sec());
    let is_known = ttl_s > 0 && now_s.saturating_add(ttl_s.into()) <= EXPIRY_MAX_S;
    if is_known { ttl_s } else { 0 }
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use dulse_types::EntryFields;
    use dulse_types::entry::UnknownFields;

    use super::*;

    fn lasting(seconds: i32) -> Bytes {
        let mut fields = EntryFields::default();
        fields.attrs_mut().ttl_sec = seconds;
        value::encode(&fields.to_entry(&UnknownFields::default()))
    }

    #[test]
    fn values_last_as_long_as_they_say_and_the_server_can_count() {
        let now_s = 1_800_000_000;
        assert_eq!(ttl_s(&lasting(0), now_s), 0);
        assert_eq!(ttl_s(&lasting(-1), now_s), 0);
        assert_eq!(ttl_s(&lasting(60), now_s), 60);
        assert_eq!(ttl_s(&lasting(i32::MAX), now_s), 0);
        assert_eq!(ttl_s(&lasting(1), EXPIRY_MAX_S), 0);
        assert_eq!(ttl_s(&Bytes::from_static(b"\xff"), now_s), 0);
    }
}
