// SPDX-License-Identifier: Apache-2.0
//! Why an operation cannot be done on the rows as they are.

use bytes::Bytes;
use dulse_types::Identity;

use super::{CHANGE_BYTES_MAX, ENTRY_BYTES_MAX, PLACES_MAX};
use crate::apply::ApplyError;
use crate::txn::ReadError;

/// Why an operation cannot be done on the rows as they are.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nothing is shown at the path.
    #[error("nothing at `{}`", String::from_utf8_lossy(.0))]
    NotFound(Bytes),
    /// Something is shown at the path.
    #[error("something is at `{}`", String::from_utf8_lossy(.0))]
    Exists(Bytes),
    /// The directory shows entries.
    #[error("directory `{}` is not empty", String::from_utf8_lossy(.0))]
    NotEmpty(Bytes),
    /// A directory cannot have a further name.
    #[error("`{}` is a directory", String::from_utf8_lossy(.0))]
    IsDirectory(Bytes),
    /// A directory was to be moved into itself.
    #[error("cannot move `{}` into itself", String::from_utf8_lossy(.0))]
    IntoItself(Bytes),
    /// More names than one change may touch.
    #[error(
        "more than {names_max} names, or {CHANGE_BYTES_MAX} bytes, at and below `{}`",
        String::from_utf8_lossy(.path)
    )]
    TooBig {
        /// The top of the tree.
        path: Bytes,
        /// How many there may be.
        names_max: usize,
    },
    /// More bytes than one change may have.
    #[error("the change is larger than {CHANGE_BYTES_MAX} bytes; do it in smaller parts")]
    ChangeTooLarge,
    /// More bytes than an entry may have.
    #[error("it has {0} bytes, which is larger than {ENTRY_BYTES_MAX}, the most of one entry")]
    EntryTooLarge(usize),
    /// The name moved too often since all members last agreed where it is.
    #[error(
        "`{}` had {PLACES_MAX} places that some member has not acknowledged",
        String::from_utf8_lossy(.0)
    )]
    MovedTooOften(Bytes),
    /// The data names a chunk that was dropped from this inode.
    #[error("chunk `{0}` was dropped from this file")]
    DroppedChunk(String),
    /// No such conflict is open.
    #[error("no conflict `{0}` is open: it was restored, dismissed, withdrawn, or never recorded")]
    NoConflict(Identity),
    /// A copy of what was lost names a chunk of the original.
    #[error("chunk `{0}` belongs to the file that lost it; copy its bytes to a new one")]
    SharedChunk(String),
    /// Rows could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<ApplyError> for LocalError {
    fn from(ApplyError::Read(error): ApplyError) -> Self {
        Self::Read(error)
    }
}
