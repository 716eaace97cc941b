// SPDX-License-Identifier: Apache-2.0
//! The checkpoint file: up to where the engine has everything durably. Byte layout:
//! `docs/formats/checkpoint.md`.

use dulse_types::wire::{Reader, WireError, Writer};

use crate::disk::Disk;
use crate::error::JournalError;

/// Name of the file.
const FILE: &str = "checkpoint";

/// Format of the file.
const FORMAT_VERSION: u8 = 1;

/// What the engine holds durably.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Position behind the last record that it holds.
    pub position: u64,
    /// What whoever keeps the engine wants to know at its next start.
    pub content: Vec<u8>,
}

impl Checkpoint {
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), JournalError> {
        let mut out = Writer::with_capacity(13 + self.content.len());
        out.u32_be(0);
        out.u8(FORMAT_VERSION);
        out.u64_be(self.position);
        out.raw(&self.content);
        let mut bytes = out.into_vec();
        let checksum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_be_bytes());
        Ok(disk.replace(FILE, &bytes)?)
    }

    /// `None` when there was never one.
    pub(crate) fn read(disk: &dyn Disk) -> Result<Option<Self>, JournalError> {
        let length = disk.len(FILE)?;
        if length == 0 {
            return Ok(None);
        }
        let bytes = disk.read_at(FILE, 0, length as usize)?;
        let corrupt = |source| JournalError::corrupt(FILE, 0, source);
        let mut input = Reader::new(&bytes);
        let checksum = input.u32_be().map_err(corrupt)?;
        if crc32c::crc32c(&bytes[4..]) != checksum {
            return Err(corrupt(WireError::BadValue {
                what: "checkpoint checksum",
                value: checksum.into(),
            }));
        }
        let version = input.u8().map_err(corrupt)?;
        if version != FORMAT_VERSION {
            return Err(JournalError::version(FILE, version, FORMAT_VERSION));
        }
        let position = input.u64_be().map_err(corrupt)?;
        let content = bytes[input.position()..].to_vec();
        Ok(Some(Self { position, content }))
    }
}
