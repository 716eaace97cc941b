// SPDX-License-Identifier: Apache-2.0
//! From the errors below to the store's error.

use dulse_journal::{JournalError, PAYLOAD_LEN_MAX};
use dulse_merge::ApplyError;
use dulse_merge::local::{CHANGE_BYTES_MAX, ENTRY_BYTES_MAX, LocalError};
use dulse_merge::txn::ReadError;
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::wire::WireError;

/// Bytes of paths, hints and versions in one step, at most.
const REST_BYTES: usize = 8 << 20;

/// A change and one step more, which holds an entry and the one that it replaces: no change that is made here is refused by the journal, which refuses all that
/// are written with it.
const _: () = assert!(CHANGE_BYTES_MAX + 2 * ENTRY_BYTES_MAX + REST_BYTES <= PAYLOAD_LEN_MAX);

/// An engine's error.
pub(crate) fn engine(operation: Operation, error: dulse_kv::Error) -> Error {
    let kind = match error.kind() {
        dulse_kv::ErrorKind::Corrupt => ErrorKind::Corrupt,
        dulse_kv::ErrorKind::DiskFull => ErrorKind::DiskFull,
        dulse_kv::ErrorKind::Locked => ErrorKind::Unavailable,
        dulse_kv::ErrorKind::Io => ErrorKind::Io,
    };
    Error::new(operation, kind).source(error)
}

/// The journal's error.
pub(crate) fn journal(operation: Operation, error: JournalError) -> Error {
    let kind = match &error {
        error if error.is_full() => ErrorKind::DiskFull,
        JournalError::Corrupt { .. } | JournalError::Gap { .. } => ErrorKind::Corrupt,
        JournalError::OtherStore { .. } | JournalError::Ahead { .. } => ErrorKind::Corrupt,
        JournalError::Version { .. } => ErrorKind::Invalid,
        JournalError::TooLarge(_) => ErrorKind::Invalid,
        JournalError::Poisoned => ErrorKind::Unavailable,
        JournalError::Disk(_) => ErrorKind::Io,
    };
    Error::new(operation, kind).source(error)
}

/// Rows that could not be read.
pub(crate) fn read(operation: Operation, error: ReadError) -> Error {
    let kind = match &error {
        ReadError::Corrupt { .. } | ReadError::NoInode(_) => ErrorKind::Corrupt,
        ReadError::Rows(_) => ErrorKind::Io,
    };
    Error::new(operation, kind).source(error)
}

/// A change that could not be merged.
pub(crate) fn apply(operation: Operation, error: ApplyError) -> Error {
    let ApplyError::Read(error) = error;
    read(operation, error)
}

/// A row that does not decode.
pub(crate) fn corrupt(operation: Operation, error: WireError) -> Error {
    Error::new(operation, ErrorKind::Corrupt).source(error)
}

/// An operation that cannot be done.
pub(crate) fn local(error: LocalError) -> Error {
    let kind = match &error {
        LocalError::NotFound(_) | LocalError::NoConflict(_) => ErrorKind::NotFound,
        LocalError::Exists(_) => ErrorKind::Conflict,
        LocalError::NotEmpty(_) => ErrorKind::NotEmpty,
        LocalError::IntoItself(_) | LocalError::SharedChunk(_) | LocalError::IsDirectory(_) => {
            ErrorKind::Invalid
        }
        // Not `TooLarge`: no smaller part of it can be done.
        LocalError::EntryTooLarge(_) => ErrorKind::Invalid,
        LocalError::TooBig { .. } | LocalError::ChangeTooLarge => ErrorKind::TooLarge,
        LocalError::MovedTooOften(_) => ErrorKind::Unavailable,
        LocalError::DroppedChunk(_) => ErrorKind::DroppedChunk,
        LocalError::Read(_) => ErrorKind::Io,
    };
    match error {
        LocalError::Read(error) => read(Operation::Commit, error),
        error => Error::new(Operation::Commit, kind).with("because", error),
    }
}
