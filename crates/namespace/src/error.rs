// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, with the texts that upstream's clients compare.

use dulse_types::{FullPath, PathError};

/// Upstream's text for a missing entry; clients compare it.
pub const NOT_FOUND: &str = "filer: no entry is found in filer store";

/// What went wrong, as protocols must tell it apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// Nothing is at the path.
    NotFound,
    /// A name above the limit.
    NameTooLong,
    /// A directory is where a file was meant.
    IsDirectory,
    /// A file is where a directory was meant.
    IsFile,
    /// Something is there though it must not be.
    Exists,
    /// A condition of the caller does not hold.
    Precondition,
    /// A directory still has entries.
    NotEmpty,
    /// The request cannot be meant.
    Invalid,
    /// The disk is full.
    DiskFull,
    /// Not now: not ready, too busy, clock out of bounds.
    Unavailable,
    /// Bytes or disks failed; the outcome may be unknown.
    Internal,
}

/// A failed operation: its kind and the text for the client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error with the text a client sees.
    #[must_use]
    pub fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, message }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn not_found(_: &FullPath) -> Self {
        Self::new(ErrorKind::NotFound, NOT_FOUND.to_owned())
    }

    pub(crate) fn invalid(message: String) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn is_directory() -> Self {
        Self::new(
            ErrorKind::IsDirectory,
            "existing entry is a directory".to_owned(),
        )
    }

    pub(crate) fn is_file() -> Self {
        Self::new(ErrorKind::IsFile, "existing entry is a file".to_owned())
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<dulse_types::entry::EntryError> for Error {
    fn from(error: dulse_types::entry::EntryError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<dulse_store::Error> for Error {
    fn from(error: dulse_store::Error) -> Self {
        use dulse_store::ErrorKind as K;
        let kind = match error.kind() {
            K::NotFound => return Self::new(ErrorKind::NotFound, NOT_FOUND.to_owned()),
            K::Invalid => ErrorKind::Invalid,
            K::DroppedChunk => ErrorKind::Precondition,
            K::NotEmpty => ErrorKind::NotEmpty,
            K::DiskFull => ErrorKind::DiskFull,
            K::Conflict | K::ClockSkew | K::Unavailable => ErrorKind::Unavailable,
            K::Corrupt | K::Io => ErrorKind::Internal,
        };
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        if kind == ErrorKind::Internal {
            tracing::error!(%message, "store failed");
        }
        Self::new(kind, message)
    }
}
