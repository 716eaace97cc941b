// SPDX-License-Identifier: Apache-2.0
//! What only this store had, as it is kept until it is made anew. Byte layout:
//! `docs/formats/replica.md`.

use bytes::Bytes;
use dulse_merge::{InodeRow, KvRow, NameRow};
use dulse_types::FileId;
use dulse_types::wire::{Reader, WireError, Writer};

use super::known::Known;

/// First byte of the rows.
const ITEM_VERSION: u8 = 1;

/// Kinds of items.
/// One without what is known of its links and chunks: read, not written.
const NAME_ONLY: u8 = 1;
const KEY: u8 = 2;
const NAME: u8 = 3;
const CHANGE: u8 = 4;

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
    /// A change of a third filer, as that wrote it.
    Change(Bytes),
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
    /// Other paths of its inode. Where nobody else knows that, they are its other names, which
    /// are made anew with it; else a name of it may be found there.
    pub links: Vec<Bytes>,
    /// ⚠ The chunks of its content that only this store ever named: nobody else can have freed
    /// them. Of the others nothing is known but what the state says that is fetched.
    pub chunks: Vec<FileId>,
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
                out.varint(item.links.len() as u64);
                for path in &item.links {
                    out.bytes(path);
                }
                out.varint(item.chunks.len() as u64);
                for chunk in &item.chunks {
                    out.u32_be(chunk.volume_id);
                    out.u64_be(chunk.key);
                    out.u32_be(chunk.cookie);
                }
            }
            Self::Key { key, row } => {
                out.u8(KEY);
                out.bytes(key);
                out.bytes(&row.encode());
            }
            Self::Change(change) => {
                out.u8(CHANGE);
                out.bytes(change);
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
            kind @ (NAME | NAME_ONLY) => {
                let row = Bytes::copy_from_slice(input.bytes()?);
                let row = NameRow::decode(&row, b"")?;
                let inode = Bytes::copy_from_slice(input.bytes()?);
                let inode = (!inode.is_empty()).then(|| InodeRow::decode(&inode));
                let paths = paths(input)?;
                let known = Known::read(input)?;
                let (mut links, mut chunks) = (Vec::new(), Vec::new());
                if kind == NAME {
                    links = self::paths(input)?;
                    chunks = self::chunks(input)?;
                }
                Self::Name(Box::new(NameItem {
                    row,
                    inode: inode.transpose()?,
                    paths,
                    known,
                    links,
                    chunks,
                }))
            }
            KEY => {
                let key = Bytes::copy_from_slice(input.bytes()?);
                let row = Bytes::copy_from_slice(input.bytes()?);
                let row = KvRow::decode(&row)?;
                Self::Key { key, row }
            }
            CHANGE => Self::Change(Bytes::copy_from_slice(input.bytes()?)),
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

fn paths(input: &mut Reader<'_>) -> Result<Vec<Bytes>, WireError> {
    let mut paths = Vec::new();
    // A lying count ends with the bytes.
    for _ in 0..input.varint()? {
        paths.push(Bytes::copy_from_slice(input.bytes()?));
    }
    Ok(paths)
}

fn chunks(input: &mut Reader<'_>) -> Result<Vec<FileId>, WireError> {
    let mut chunks = Vec::new();
    for _ in 0..input.varint()? {
        chunks.push(FileId {
            volume_id: input.u32_be()?,
            key: input.u64_be()?,
            cookie: input.u32_be()?,
        });
    }
    Ok(chunks)
}
