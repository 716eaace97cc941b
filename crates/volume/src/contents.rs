// SPDX-License-Identifier: Apache-2.0
//! What a volume holds: its index in memory, and how that is found again after a crash.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use crate::needle::{ALIGNMENT, HEADER_LEN, Needle, record_len};

/// Bytes of an index row: key, offset of five bytes, size.
pub(crate) const INDEX_ROW_LEN: usize = 17;

/// Bytes of a super block.
pub(crate) const SUPER_BLOCK_LEN: u64 = 8;

/// Size that marks a delete in the index.
pub(crate) const TOMBSTONE: u32 = u32::MAX;

/// Where a needle lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) offset: u64,
    pub(crate) size: u32,
}

/// The index and the figures of a volume.
pub(crate) struct Contents {
    pub(crate) index: HashMap<u64, Slot>,
    pub(crate) index_len: u64,
    pub(crate) end: u64,
    pub(crate) deleted_bytes: u64,
    pub(crate) n_deleted: u64,
    pub(crate) last_append_ns: u64,
    pub(crate) modified_s: u64,
    pub(crate) read_only: Option<String>,
    pub(crate) max_key: u64,
}

/// One row: the key, where its record begins, and the size of its body.
#[derive(Clone, Copy)]
struct Row {
    key: u64,
    offset: u64,
    size: u32,
}

impl Row {
    fn parse(bytes: &[u8]) -> Self {
        let low = u32::from_be_bytes(bytes[8..12].try_into().unwrap_or_default());
        Self {
            key: u64::from_be_bytes(bytes[..8].try_into().unwrap_or_default()),
            offset: (u64::from(bytes[12]) << 32 | u64::from(low)) * ALIGNMENT,
            size: u32::from_be_bytes(bytes[13..17].try_into().unwrap_or_default()),
        }
    }

    fn end(&self) -> u64 {
        let body = if self.size == TOMBSTONE { 0 } else { self.size };
        self.offset + record_len(body)
    }

    /// Whether its record is whole on disk.
    fn is_there(&self, data: &File, length: u64) -> std::io::Result<bool> {
        // Upstream marks some deletes by a row without a record.
        if self.offset == 0 {
            return Ok(true);
        }
        if self.end() > length {
            return Ok(false);
        }
        let mut record = vec![0; (self.end() - self.offset) as usize];
        data.read_exact_at(&mut record, self.offset)?;
        let needle = Needle::decode(&Bytes::from(record));
        Ok(needle.is_ok_and(|needle| needle.key == self.key && needle.append_at_ns > 0))
    }
}

/// Bytes of a row.
pub(crate) fn index_row(key: u64, offset: u64, size: u32) -> [u8; INDEX_ROW_LEN] {
    let mut row = [0; INDEX_ROW_LEN];
    let units = offset / ALIGNMENT;
    row[..8].copy_from_slice(&key.to_be_bytes());
    row[8..12].copy_from_slice(&((units & u64::from(u32::MAX)) as u32).to_be_bytes());
    row[12] = (units >> 32) as u8;
    row[13..].copy_from_slice(&size.to_be_bytes());
    row
}

impl Contents {
    /// Reads the index, and makes index and data fit one another again: rows at the end whose
    /// records never reached the disk go, records that the index lacks are taken in, and what
    /// is no whole record is cut off the data.
    pub(crate) fn open(volume: u32, data: &File, index: &mut File) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        index.read_to_end(&mut bytes)?;
        let length = data.metadata()?.len();
        let mut rows: Vec<Row> = bytes.chunks_exact(INDEX_ROW_LEN).map(Row::parse).collect();
        let n_rows = rows.len();
        while let Some(last) = rows.last()
            && !last.is_there(data, length)?
        {
            rows.pop();
        }
        if rows.len() < n_rows {
            let n_lost = n_rows - rows.len();
            tracing::warn!(volume, n_lost, "the last writes never reached the disk");
        }
        let index_len = (rows.len() * INDEX_ROW_LEN) as u64;
        if index_len < bytes.len() as u64 {
            index.set_len(index_len)?;
        }
        let modified = data.metadata()?.modified()?;
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut contents = Self {
            index: HashMap::with_capacity(rows.len()),
            index_len,
            end: SUPER_BLOCK_LEN,
            deleted_bytes: 0,
            n_deleted: 0,
            last_append_ns: 0,
            modified_s: modified.as_secs(),
            read_only: None,
            max_key: 0,
        };
        for row in rows {
            contents.note(row.key, row.offset, row.size);
            if row.offset > 0 && row.end() > length {
                let key = row.key;
                tracing::error!(
                    volume,
                    key,
                    "a row of the index tells of more than the data has"
                );
            } else if row.offset > 0 {
                contents.end = contents.end.max(row.end());
            }
        }
        contents.take_in_rest(volume, data, index, length)?;
        Ok(contents)
    }

    /// A row was added.
    pub(crate) fn note(&mut self, key: u64, offset: u64, size: u32) {
        self.max_key = self.max_key.max(key);
        let before = if size == TOMBSTONE || offset == 0 {
            self.index.remove(&key)
        } else {
            self.index.insert(key, Slot { offset, size })
        };
        if let Some(before) = before {
            self.n_deleted += 1;
            self.deleted_bytes += u64::from(before.size);
        }
    }

    fn take_in_rest(
        &mut self,
        volume: u32,
        data: &File,
        index: &mut File,
        length: u64,
    ) -> std::io::Result<()> {
        while self.end + (HEADER_LEN as u64) <= length {
            let mut head = [0; HEADER_LEN];
            data.read_exact_at(&mut head, self.end)?;
            let size = u32::from_be_bytes(head[12..].try_into().unwrap_or_default());
            let whole = record_len(size);
            if self.end + whole > length {
                break;
            }
            let mut record = vec![0; whole as usize];
            data.read_exact_at(&mut record, self.end)?;
            let Ok(needle) = Needle::decode(&Bytes::from(record)) else {
                break;
            };
            // A stretch of zeros decodes as an empty record of no time.
            if needle.append_at_ns == 0 {
                break;
            }
            // Only a delete has no data and finds its key there.
            let is_delete = size == 0 && self.index.contains_key(&needle.key);
            let size = if is_delete { TOMBSTONE } else { size };
            index.write_all(&index_row(needle.key, self.end, size))?;
            self.index_len += INDEX_ROW_LEN as u64;
            self.note(needle.key, self.end, size);
            self.last_append_ns = self.last_append_ns.max(needle.append_at_ns);
            self.end += whole;
        }
        if self.end < length {
            let bytes = length - self.end;
            tracing::warn!(volume, bytes, "cut a torn tail off a volume");
            data.set_len(self.end)?;
        }
        Ok(())
    }
}
