// SPDX-License-Identifier: Apache-2.0
//! redb's errors as an engine's.

use dulse_kv::{Error, ErrorKind};
use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// The engine's name.
pub(crate) const NAME: &str = "redb";

/// What the errors of redb have in common: perhaps one of its storage beneath.
pub(crate) trait Cause: std::error::Error + Send + Sync + Sized + 'static {
    fn kind(&self) -> ErrorKind;

    fn while_doing(self, context: &str) -> Error {
        Error::new(NAME, self.kind(), context).source(self)
    }
}

impl Cause for StorageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => ErrorKind::from(error),
            Self::Corrupted(_) => ErrorKind::Corrupt,
            _ => ErrorKind::Io,
        }
    }
}

impl Cause for DatabaseError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::DatabaseAlreadyOpen => ErrorKind::Locked,
            Self::Storage(error) => error.kind(),
            _ => ErrorKind::Corrupt,
        }
    }
}

impl Cause for TransactionError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(error) => error.kind(),
            _ => ErrorKind::Io,
        }
    }
}

impl Cause for TableError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(error) => error.kind(),
            _ => ErrorKind::Corrupt,
        }
    }
}

impl Cause for CommitError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(error) => error.kind(),
            _ => ErrorKind::Io,
        }
    }
}
