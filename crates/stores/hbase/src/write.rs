// SPDX-License-Identifier: Apache-2.0
//! One row, compared and written.
//!
//! A cell has versions, each with the server's clock in milliseconds, and to delete is to hide
//! those up to a time. So a cell that is put in the very millisecond of an ordinary delete is
//! hidden by it, though the server says that it was put. Ours hide what they have read and
//! nothing later: up to that version's own time, and only once that millisecond is over.

use std::time::Duration;

use bytes::Bytes;
use dulse_hbase_client::{CellValue, Condition, Mutation, Put};
use dulse_shared::{At, RowWrite, value};
use dulse_store::{Error, Operation};

use crate::error::of;
use crate::layout::{COLUMN, ENTRIES, KEYS, key_row, row_of};
use crate::store::Hbase;

/// After this the server's clock shows a later millisecond than a version that was read: twice
/// what it takes when both clocks run alike.
const TICK: Duration = Duration::from_millis(2);

impl Hbase {
    /// Writes a row, if it is as it was read; gives whether it was.
    pub(crate) async fn write_row(&self, write: &RowWrite) -> Result<bool, Error> {
        let (row, family) = match &write.at {
            At::Path(path) => (row_of(path)?, ENTRIES),
            At::Key(key) => (key_row(key)?, KEYS),
        };
        if write.before == write.after {
            // Nobody could tell it from a look, and a version less is made.
            let cell = self.cell(Operation::Commit, &row, family).await?;
            return Ok(cell.map(|cell| cell.value) == write.before);
        }
        match (&write.before, &write.after) {
            (Some(before), None) => self.remove(&row, family, before).await,
            (before, Some(after)) => self.put(write, &row, family, before.as_ref(), after).await,
            (None, None) => Ok(true),
        }
    }

    async fn put(
        &self,
        write: &RowWrite,
        row: &[u8],
        family: &[u8],
        before: Option<&Bytes>,
        after: &Bytes,
    ) -> Result<bool, Error> {
        let is_outlived = outlived(write);
        // A condition on no bytes holds where there is no cell, too: that is looked at here.
        let is_looked_at = is_outlived || before.is_some_and(Bytes::is_empty);
        let mut read = None;
        if is_looked_at {
            read = self.cell(Operation::Commit, row, family).await?;
            if read.as_ref().map(|cell| &cell.value) != before {
                return Ok(false);
            }
            tokio::time::sleep(TICK).await;
        }
        let condition = match before {
            None => Condition::Absent,
            Some(value) => Condition::Equal(value.clone()),
        };
        let mutation = Mutation::Put(Put {
            value: after.clone(),
            ttl_ms: (family == ENTRIES).then(|| ttl_ms(after)).flatten(),
        });
        let written = self
            .client
            .mutate(row, family, COLUMN, &mutation, Some(&condition));
        let is_written = written.await.map_err(|e| of(Operation::Commit, e))?;
        if let Some(cell) = read.filter(|_| is_written && is_outlived) {
            self.hide(row, family, &cell).await;
        }
        Ok(is_written)
    }

    /// Hides the version that was read, and looks whether that was all.
    ///
    /// Between the look and the deletion others may have changed the cell and changed it back:
    /// then a newer version has the same bytes, and it is hidden as well. A newer one with others
    /// was made where nothing was any more.
    async fn remove(&self, row: &[u8], family: &[u8], before: &Bytes) -> Result<bool, Error> {
        let condition = Condition::Equal(before.clone());
        let mut is_hidden = false;
        loop {
            let cell = self.cell(Operation::Commit, row, family).await;
            let cell = cell.map_err(|e| if is_hidden { e.unknown_outcome() } else { e })?;
            let Some(cell) = cell.filter(|cell| cell.value == *before) else {
                return Ok(is_hidden);
            };
            tokio::time::sleep(TICK).await;
            let mutation = Mutation::Delete(Some(cell.timestamp_ms));
            let hidden = self
                .client
                .mutate(row, family, COLUMN, &mutation, Some(&condition));
            let hidden = hidden.await.map_err(|e| of(Operation::Commit, e));
            match hidden {
                Ok(now) => is_hidden |= now,
                Err(error) if is_hidden => return Err(error.unknown_outcome()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Hides an older version that would show again when the one over it has expired.
    async fn hide(&self, row: &[u8], family: &[u8], cell: &CellValue) {
        let mutation = Mutation::Delete(Some(cell.timestamp_ms));
        if let Err(error) = self
            .client
            .mutate(row, family, COLUMN, &mutation, None)
            .await
        {
            tracing::warn!(%error, "an older version of an entry may show when it has expired");
        }
    }
}

/// How long the server shows a value, in milliseconds, as upstream tells it; none is for ever.
fn ttl_ms(value: &Bytes) -> Option<u64> {
    let seconds = value::decode(value.clone()).ok()?.ttl_sec();
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(seconds * 1_000)
}

/// Whether what is written goes before what it is written over would.
fn outlived(write: &RowWrite) -> bool {
    let (At::Path(_), Some(before), Some(after)) = (&write.at, &write.before, &write.after) else {
        return false;
    };
    let Some(after) = ttl_ms(after) else {
        return false;
    };
    ttl_ms(before).is_none_or(|before| before > after)
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
    fn values_last_as_long_as_they_say() {
        assert_eq!(ttl_ms(&lasting(0)), None);
        assert_eq!(ttl_ms(&lasting(-1)), None);
        assert_eq!(ttl_ms(&lasting(i32::MAX)), Some(2_147_483_647_000));
        assert_eq!(ttl_ms(&Bytes::from_static(b"\xff")), None);
    }

    #[test]
    fn what_would_show_again_is_known() {
        for (before, after, expect) in [
            (0, 0, false),
            (0, 5, true),
            (9, 5, true),
            (5, 5, false),
            (5, 9, false),
            (5, 0, false),
        ] {
            let write = RowWrite {
                at: At::Path(dulse_types::FullPath::parse("/a").unwrap()),
                before: Some(lasting(before)),
                after: Some(lasting(after)),
            };
            assert_eq!(outlived(&write), expect, "{before} {after}");
        }
    }
}
