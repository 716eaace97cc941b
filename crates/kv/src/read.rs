// SPDX-License-Identifier: Apache-2.0
//! Reading rows: what an engine implements, and what is made of it.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

use crate::Error;

/// A row: key and value.
pub type Row = (Bytes, Bytes);

/// Takes one row of a scan, key and value, and says whether to go on.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Which end of a range a scan begins at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// The least key first.
    Ascending,
    /// The greatest key first.
    Descending,
}

/// Reads of one consistent state.
///
/// - Keys and values are any bytes, also none; keys are ordered bytewise.
/// - A scan shows each row of the range once, in order, all of one state: no half batch.
/// - A range is half open; one whose end is not above its start is empty, not an error.
/// - Rows are shown as the engine holds them, without copies; a scan that the visitor
///   stops reads little further, so its cost is what was shown.
/// - A visitor must not read through the same reader: an engine may hold a lock.
pub trait Read: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Shows the rows with keys in `range` to the visitor until it breaks.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`; rows may have been shown before.
    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error>;
}

/// What callers make of [`Read`].
pub trait ReadExt: Read {
    /// At most `limit` rows with keys in `from..to`, ascending.
    ///
    /// The rows share one buffer, so keeping one keeps all of them in memory.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        collect(self, from..to, Order::Ascending, limit)
    }

    /// At most `limit` rows with keys in `from..to`, descending: the last ones.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        collect(self, from..to, Order::Descending, limit)
    }
}

impl<R: Read + ?Sized> ReadExt for R {}

/// Rows in one buffer: two allocations for a listing instead of two for each row.
fn collect<R: Read + ?Sized>(
    read: &R,
    range: Range<&[u8]>,
    order: Order,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut buffer = Vec::new();
    // Where key and value of each row end in the buffer.
    let mut ends: Vec<(usize, usize)> = Vec::new();
    read.visit(range, order, &mut |key, value| {
        buffer.extend_from_slice(key);
        let key_end = buffer.len();
        buffer.extend_from_slice(value);
        ends.push((key_end, buffer.len()));
        if ends.len() < limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    let buffer = Bytes::from(buffer);
    let mut start = 0;
    let rows = ends.into_iter().map(|(key_end, end)| {
        let row = (buffer.slice(start..key_end), buffer.slice(key_end..end));
        start = end;
        row
    });
    Ok(rows.collect())
}
