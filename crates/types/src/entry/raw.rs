// SPDX-License-Identifier: Apache-2.0
//! An entry as bytes.

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_varint, encode_varint};

use super::fields::MODE_DIRECTORY;
use super::pb::{fields_of, put_field, varint_of};

/// Why bytes are no entry.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntryError {
    /// The bytes are no protobuf message, or a known field has a wrong type.
    #[error("malformed entry: {0}; expected a protobuf `Entry` message")]
    Malformed(String),
}

/// An entry: the bytes of upstream's `Entry` message, kept as they came.
///
/// Inside the system the name (field 1) is absent, since it lies in the key; on
/// the wire it is there. Every value has well-formed field framing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Entry(Bytes);

impl Entry {
    /// Checks the framing of all fields, those of the attributes included.
    ///
    /// # Errors
    ///
    /// `Malformed`.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, EntryError> {
        let malformed = |e: crate::wire::WireError| EntryError::Malformed(e.to_string());
        for field in fields_of(&bytes) {
            let field = field.map_err(malformed)?;
            if field.number == 4 && field.wire_type == 2 {
                for inner in fields_of(field.payload) {
                    inner.map_err(malformed)?;
                }
            }
        }
        Ok(Self(bytes))
    }

    /// Takes bytes that this crate made.
    pub(super) fn from_checked(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The protobuf bytes.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.0
    }

    /// The same entry with this name in front, as the wire carries it.
    #[must_use]
    pub fn with_name(&self, name: &str) -> Self {
        let mut out = Vec::with_capacity(self.0.len() + name.len() + 12);
        if !name.is_empty() {
            put_field(&mut out, 1, name.as_bytes());
        }
        out.extend_from_slice(&self.0);
        Self(Bytes::from(out))
    }

    /// Splits the name off: the entry as it is stored, and the name (empty when absent).
    ///
    /// # Errors
    ///
    /// `Malformed` when the name is not UTF-8.
    pub fn take_name(&self) -> Result<(Self, String), EntryError> {
        let mut name = String::new();
        let mut out = Vec::with_capacity(self.0.len());
        for field in fields_of(&self.0).flatten() {
            if field.number == 1 && field.wire_type == 2 {
                let text = std::str::from_utf8(field.payload);
                text.map_err(|_| EntryError::Malformed("name is not UTF-8".to_owned()))?
                    .clone_into(&mut name);
            } else {
                out.extend_from_slice(field.whole);
            }
        }
        Ok((Self(Bytes::from(out)), name))
    }

    /// The name in front, as the wire carries it; empty where there is none.
    #[must_use]
    pub fn name(&self) -> std::borrow::Cow<'_, str> {
        let names = fields_of(&self.0).flatten().filter(|f| f.number == 1);
        let mut names = names.filter(|f| f.wire_type == 2);
        String::from_utf8_lossy(names.next().map_or(&[], |f| f.payload))
    }

    /// Whether any chunk is named. Cost: a scan of the fields up to the first chunk.
    #[must_use]
    pub fn has_chunks(&self) -> bool {
        fields_of(&self.0).flatten().any(|f| f.number == 3)
    }

    /// The mode bits, Go's `os.FileMode` as upstream stores them; 0 when absent.
    #[must_use]
    pub fn file_mode(&self) -> u32 {
        u32::try_from(self.attribute(3)).unwrap_or(0)
    }

    /// Whether the mode says directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.file_mode() & MODE_DIRECTORY != 0
    }

    /// Seconds until expiry after creation; 0 means never.
    #[must_use]
    pub fn ttl_sec(&self) -> i32 {
        let bits = self.attribute(10).to_le_bytes();
        i32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]])
    }

    /// A varint attribute by field number, the last one winning; 0 when absent.
    fn attribute(&self, number: u32) -> u64 {
        let attributes = fields_of(&self.0).flatten().filter(|f| f.number == 4);
        let inner = attributes.flat_map(|f| fields_of(f.payload).flatten());
        let values = inner.filter(|f| f.number == number && f.wire_type == 0);
        values.last().map_or(0, |f| varint_of(f.payload))
    }
}

/// Greatest length of one field that is accepted; above it is no entry but an attack.
const FIELD_LEN_MAX: u64 = 1 << 30;

impl prost::Message for Entry {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut out = Vec::from(std::mem::take(&mut self.0));
        encode_varint(u64::from(tag) << 3 | wire_type as u64, &mut out);
        let length = match wire_type {
            WireType::Varint => {
                encode_varint(decode_varint(buf)?, &mut out);
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let length = decode_varint(buf)?;
                encode_varint(length, &mut out);
                length
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(malformed("groups are not supported in an entry"));
            }
        };
        if length > FIELD_LEN_MAX || length > buf.remaining() as u64 {
            return Err(malformed("field is longer than its message"));
        }
        let at = out.len();
        out.resize(at + length as usize, 0);
        buf.copy_to_slice(&mut out[at..]);
        if tag == 4 && fields_of(&out[at..]).any(|field| field.is_err()) {
            return Err(malformed("attributes are no message"));
        }
        self.0 = Bytes::from(out);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

/// An error of prost, which offers message implementations no other way to make one.
#[expect(
    deprecated,
    reason = "the only constructor there is for a Message implementation"
)]
fn malformed(why: &'static str) -> DecodeError {
    DecodeError::new(why)
}
