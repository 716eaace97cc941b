// SPDX-License-Identifier: Apache-2.0
//! The plan of a transaction that is written row by row. Each value stands once, in front, and
//! rows, checks and events name it by its number: most values are an event's entry as well.

use std::collections::HashMap;

use bytes::Bytes;
use dulse_types::Entry;
use dulse_types::wire::{Reader, WireError, Writer};

use super::{
    Announced, DELETE_CHUNKS, EVENTS_MAX, Event, HAS_NEW, HAS_OLD, Payload, bounded, path,
};
use crate::backend::Guard;
use crate::rows::{At, RowWrite};

/// Rows, and checks, of one plan: two per event, and keys.
const ROWS_MAX: u64 = 4 * EVENTS_MAX as u64;

/// Values of one plan.
const VALUES_MAX: u64 = 8 * EVENTS_MAX as u64;

const ABSENT: u8 = 1;
const SAME: u8 = 2;
const DIRECTORY: u8 = 3;
const NAMES: u8 = 4;
const KEY: u8 = 5;

const ROW_PATH: u8 = 1;
const ROW_KEY: u8 = 2;

pub(super) fn write(out: &mut Writer, announced: &Announced, checks: &[Guard], rows: &[RowWrite]) {
    let (mut values, mut body) = (Values::default(), Writer::new());
    announced.write_head(&mut body);
    body.varint(announced.events.len() as u64);
    for event in &announced.events {
        let mut flags = 0;
        for (is_set, flag) in [
            (event.old.is_some(), HAS_OLD),
            (event.new.is_some(), HAS_NEW),
            (event.delete_chunks, DELETE_CHUNKS),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        body.u8(flags);
        for (path, entry) in [&event.old, &event.new].into_iter().flatten() {
            body.bytes(path.as_str().as_bytes());
            values.write(&mut body, entry.raw());
        }
    }
    body.varint(checks.len() as u64);
    for check in checks {
        let (kind, at) = match check {
            Guard::Absent(path) => (ABSENT, path.as_str().as_bytes()),
            Guard::Same(path, _) => (SAME, path.as_str().as_bytes()),
            Guard::Directory(path) => (DIRECTORY, path.as_str().as_bytes()),
            Guard::Names(path, _) => (NAMES, path.as_str().as_bytes()),
            Guard::Key(key, _) => (KEY, &key[..]),
        };
        body.u8(kind);
        body.bytes(at);
        match check {
            Guard::Same(_, value) => values.write(&mut body, value),
            Guard::Names(_, n) => body.varint(*n),
            Guard::Key(_, value) => values.write_any(&mut body, value.as_ref()),
            Guard::Absent(_) | Guard::Directory(_) => {}
        }
    }
    body.varint(rows.len() as u64);
    for row in rows {
        let (kind, at) = match &row.at {
            At::Path(path) => (ROW_PATH, path.as_str().as_bytes()),
            At::Key(key) => (ROW_KEY, &key[..]),
        };
        body.u8(kind);
        body.bytes(at);
        values.write_any(&mut body, row.before.as_ref());
        values.write_any(&mut body, row.after.as_ref());
    }
    out.varint(values.list.len() as u64);
    for value in &values.list {
        out.bytes_u32(value);
    }
    out.raw(body.as_slice());
}

pub(super) fn read(input: &mut Reader<'_>) -> Result<Payload, WireError> {
    let mut values = Vec::new();
    for _ in 0..bounded("values", input.varint()?, VALUES_MAX)? {
        let length = input.u32_be()? as usize;
        values.push(Bytes::copy_from_slice(input.raw(length)?));
    }
    let values = &values[..];
    let (is_from_other_cluster, signatures) = Announced::read_head(input)?;
    let mut events = Vec::new();
    for _ in 0..bounded("events", input.varint()?, EVENTS_MAX as u64)? {
        let flags = input.u8()?;
        let mut side = |flag| match flags & flag {
            0 => Ok(None),
            _ => Ok::<_, WireError>(Some((path(input)?, entry(input, values)?))),
        };
        events.push(Event {
            old: side(HAS_OLD)?,
            new: side(HAS_NEW)?,
            delete_chunks: flags & DELETE_CHUNKS != 0,
        });
    }
    let mut checks = Vec::new();
    for _ in 0..bounded("checks", input.varint()?, ROWS_MAX)? {
        checks.push(match input.u8()? {
            ABSENT => Guard::Absent(path(input)?),
            SAME => Guard::Same(path(input)?, value(input, values)?),
            DIRECTORY => Guard::Directory(path(input)?),
            NAMES => Guard::Names(path(input)?, input.varint()?),
            KEY => Guard::Key(
                Bytes::copy_from_slice(input.bytes()?),
                any_value(input, values)?,
            ),
            other => return Err(bad("check", other.into())),
        });
    }
    let mut rows = Vec::new();
    for _ in 0..bounded("rows", input.varint()?, ROWS_MAX)? {
        let at = match input.u8()? {
            ROW_PATH => At::Path(path(input)?),
            ROW_KEY => At::Key(Bytes::copy_from_slice(input.bytes()?)),
            other => return Err(bad("row", other.into())),
        };
        rows.push(RowWrite {
            at,
            before: any_value(input, values)?,
            after: any_value(input, values)?,
        });
    }
    Ok(Payload::Steps {
        announced: Announced {
            signatures,
            is_from_other_cluster,
            events,
        },
        checks,
        rows,
    })
}

/// Values by number, each once.
#[derive(Default)]
struct Values {
    numbers: HashMap<Bytes, u64>,
    list: Vec<Bytes>,
}

impl Values {
    /// Writes the number of a value.
    fn write(&mut self, out: &mut Writer, value: &Bytes) {
        out.varint(self.number(value));
    }

    fn number(&mut self, value: &Bytes) -> u64 {
        *self.numbers.entry(value.clone()).or_insert_with(|| {
            self.list.push(value.clone());
            self.list.len() as u64 - 1
        })
    }

    /// Writes 0 for none, else the number of a value and 1.
    fn write_any(&mut self, out: &mut Writer, value: Option<&Bytes>) {
        let Some(value) = value else {
            return out.varint(0);
        };
        out.varint(self.number(value) + 1);
    }
}

fn value(input: &mut Reader<'_>, values: &[Bytes]) -> Result<Bytes, WireError> {
    at(values, input.varint()?)
}

fn any_value(input: &mut Reader<'_>, values: &[Bytes]) -> Result<Option<Bytes>, WireError> {
    match input.varint()? {
        0 => Ok(None),
        number => at(values, number - 1).map(Some),
    }
}

fn at(values: &[Bytes], number: u64) -> Result<Bytes, WireError> {
    let value = usize::try_from(number).ok().and_then(|n| values.get(n));
    value
        .cloned()
        .ok_or_else(|| bad("number of a value", number))
}

fn entry(input: &mut Reader<'_>, values: &[Bytes]) -> Result<Entry, WireError> {
    let bytes = value(input, values)?;
    let length = bytes.len() as u64;
    Entry::from_bytes(bytes).map_err(|_| bad("entry", length))
}

fn bad(what: &'static str, value: u64) -> WireError {
    WireError::BadValue { what, value }
}
