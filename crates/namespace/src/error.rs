// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, with the texts that upstream's clients compare.

use dulse_types::{FullPath, PathError};

use crate::texts;

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
    /// Something lies below a file that cannot become a directory.
    ParentIsFile,
    /// Something is there though it must not be.
    Exists,
    /// A condition of the caller does not hold.
    Precondition,
    /// A directory still has entries.
    NotEmpty,
    /// The request cannot be meant.
    Invalid,
    /// A rule forbids writes there.
    ReadOnly,
    /// The disk is full.
    DiskFull,
    /// Not now: not ready, too busy, clock out of bounds.
    Unavailable,
    /// The change is here and may be lost with this machine: too few other filers have it yet.
    Unacknowledged,
    /// Bytes or disks failed; the outcome may be unknown.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tables that must be complete.
    pub const ALL: [Self; 14] = [
        Self::NotFound,
        Self::NameTooLong,
        Self::IsDirectory,
        Self::IsFile,
        Self::ParentIsFile,
        Self::Exists,
        Self::Precondition,
        Self::NotEmpty,
        Self::Invalid,
        Self::ReadOnly,
        Self::DiskFull,
        Self::Unavailable,
        Self::Unacknowledged,
        Self::Internal,
    ];
}

/// A failed operation: its kind and the text for the client.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    may_be_applied: bool,
}

impl Error {
    /// An error with the text a client sees.
    #[must_use]
    pub fn new(kind: ErrorKind, message: String) -> Self {
        Self {
            kind,
            message,
            may_be_applied: false,
        }
    }

    /// Whether the operation may have been done, or will be after a restart: its answer was
    /// lost, or its record may be in the log. Whoever owns what it names must not undo it.
    #[must_use]
    pub fn may_be_applied(&self) -> bool {
        self.may_be_applied
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn of(kind: ErrorKind, text: &str) -> Self {
        Self::new(kind, text.to_owned())
    }

    pub(crate) fn not_found() -> Self {
        Self::of(ErrorKind::NotFound, texts::NOT_FOUND)
    }

    pub(crate) fn invalid(message: String) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// What is there is of the other type than what was meant.
    pub(crate) fn other_type(is_directory_there: bool) -> Self {
        if is_directory_there {
            Self::of(ErrorKind::IsDirectory, texts::EXISTING_IS_DIRECTORY)
        } else {
            Self::of(ErrorKind::IsFile, texts::EXISTING_IS_FILE)
        }
    }

    pub(crate) fn not_empty(path: &FullPath) -> Self {
        let message = format!("{}: {path}", texts::NON_EMPTY_FOLDER);
        Self::new(ErrorKind::NotEmpty, message)
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
            K::NotFound => return Self::not_found(),
            K::Invalid | K::TooLarge => ErrorKind::Invalid,
            K::DroppedChunk => ErrorKind::Precondition,
            K::NotEmpty => ErrorKind::NotEmpty,
            K::DiskFull => ErrorKind::DiskFull,
            K::Unacknowledged => ErrorKind::Unacknowledged,
            // What may be there is not to be tried again blindly.
            K::Unavailable if error.outcome() == dulse_store::Outcome::Unknown => {
                ErrorKind::Unacknowledged
            }
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
        let may_be_applied = error.outcome() == dulse_store::Outcome::Unknown;
        // That one says so itself.
        if may_be_applied && error.kind() != K::Unacknowledged {
            message.push_str("; it may have been done nevertheless");
        }
        if kind == ErrorKind::Internal {
            tracing::error!(%message, "store failed");
        }
        Self {
            kind,
            message,
            may_be_applied,
        }
    }
}
