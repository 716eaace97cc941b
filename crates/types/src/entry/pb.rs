// SPDX-License-Identifier: Apache-2.0
//! Walking protobuf bytes without decoding them.

use crate::wire::{Reader, WireError, Writer};

/// One field as it lies in the bytes.
pub(super) struct Field<'a> {
    /// Field number.
    pub(super) number: u32,
    /// Wire type: 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes.
    pub(super) wire_type: u8,
    /// The value without key; for length-delimited fields without the length.
    pub(super) payload: &'a [u8],
    /// Key, length and value.
    pub(super) whole: &'a [u8],
}

/// The fields of a message in their order; ends after the first malformed one.
pub(super) fn fields_of(bytes: &[u8]) -> FieldIter<'_> {
    FieldIter {
        bytes,
        reader: Reader::new(bytes),
        failed: false,
    }
}

/// See [`fields_of`].
pub(super) struct FieldIter<'a> {
    bytes: &'a [u8],
    reader: Reader<'a>,
    failed: bool,
}

impl<'a> Iterator for FieldIter<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.reader.is_empty() {
            return None;
        }
        let field = self.read();
        self.failed = field.is_err();
        Some(field)
    }
}

impl<'a> FieldIter<'a> {
    fn read(&mut self) -> Result<Field<'a>, WireError> {
        let start = self.reader.position();
        let key = self.reader.varint()?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|&n| n > 0 && n < 1 << 29)
            .ok_or(WireError::BadValue {
                what: "field number",
                value: key >> 3,
            })?;
        let wire_type = (key & 7) as u8;
        let value_at = self.reader.position();
        let payload = match wire_type {
            0 => {
                self.reader.varint()?;
                &self.bytes[value_at..self.reader.position()]
            }
            1 => self.reader.raw(8)?,
            2 => self.reader.bytes()?,
            5 => self.reader.raw(4)?,
            other => {
                return Err(WireError::BadValue {
                    what: "wire type",
                    value: u64::from(other),
                });
            }
        };
        let whole = &self.bytes[start..self.reader.position()];
        Ok(Field {
            number,
            wire_type,
            payload,
            whole,
        })
    }
}

/// Appends a length-delimited field.
pub(super) fn put_field(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    let mut head = Writer::with_capacity(12);
    head.varint(u64::from(number) << 3 | 2);
    head.varint(payload.len() as u64);
    out.extend_from_slice(head.as_slice());
    out.extend_from_slice(payload);
}

/// Reads a varint payload, zero when it is none.
pub(super) fn varint_of(payload: &[u8]) -> u64 {
    Reader::new(payload).varint().unwrap_or(0)
}
