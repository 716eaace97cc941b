// SPDX-License-Identifier: Apache-2.0
//! What only this store had, as it is kept until it is made anew. Byte layout:
//! `docs/formats/replica.md`.

use bytes::Bytes;
use dulse_merge::{InodeRow, KvRow, NameRow};
use dulse_types::wire::{Reader, WireError, Writer};

use super::known::Known;

/// First byte of the rows.
const ITEM_VERSION: u8 = 1;

/// Kinds of items.
const NAME: u8 = 1;
const KEY: u8 = 2;

/// Something of which others lack a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A name, live or dead.
    Name(Box<NameItem>),
    /// A key.
    Key {
        /// The key.
        key: Bytes,
        /// Its value, or the version of its delete.
        row: KvRow,
    },
}

/// A name as it was here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameItem {
    /// Its registers, the path included.
    pub row: NameRow,
    /// The content of its inode where that has a row of its own.
    pub inode: Option<InodeRow>,
    /// Other paths where others may know it.
    pub paths: Vec<Bytes>,
    /// What others have of the origins that are compared: what lies beyond was here alone.
    pub known: Known,
}

impl Item {
    /// The stored bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.u8(ITEM_VERSION);
        match self {
            Self::Name(item) => {
                out.u8(NAME);
                out.bytes(&item.row.encode(true));
                out.bytes(
                    &item
                        .inode
                        .as_ref()
                        .map(InodeRow::encode)
                        .unwrap_or_default(),
                );
                out.varint(item.paths.len() as u64);
                for path in &item.paths {
                    out.bytes(path);
                }
                item.known.write(&mut out);
            }
            Self::Key { key, row } => {
                out.u8(KEY);
                out.bytes(key);
                out.bytes(&row.encode());
            }
        }
        out.into_bytes()
    }

    /// Reads what [`Item::encode`] wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let input = &mut Reader::new(bytes);
        let version = input.u8()?;
        if version != ITEM_VERSION {
            return Err(WireError::BadValue {
                what: "version of what is made anew",
                value: version.into(),
            });
        }
        let item = match input.u8()? {
            NAME => {
                let row = Bytes::copy_from_slice(input.bytes()?);
                let row = NameRow::decode(&row, b"")?;
                let inode = Bytes::copy_from_slice(input.bytes()?);
                let inode = (!inode.is_empty()).then(|| InodeRow::decode(&inode));
                let mut paths = Vec::new();
                // A lying count ends with the bytes.
                for _ in 0..input.varint()? {
                    paths.push(Bytes::copy_from_slice(input.bytes()?));
                }
                Self::Name(Box::new(NameItem {
                    row,
                    inode: inode.transpose()?,
                    paths,
                    known: Known::read(input)?,
                }))
            }
            KEY => {
                let key = Bytes::copy_from_slice(input.bytes()?);
                let row = Bytes::copy_from_slice(input.bytes()?);
                let row = KvRow::decode(&row)?;
                Self::Key { key, row }
            }
            kind => {
                return Err(WireError::BadValue {
                    what: "kind of what is made anew",
                    value: kind.into(),
                });
            }
        };
        input.finish()?;
        Ok(item)
    }
}
