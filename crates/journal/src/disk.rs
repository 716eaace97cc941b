// SPDX-License-Identifier: Apache-2.0
//! What the journal needs of a disk: named flat files in one directory.

/// A failed disk operation.
#[derive(Debug, thiserror::Error)]
#[error("{operation} `{file}`")]
pub struct DiskError {
    /// What was being done.
    pub operation: &'static str,
    /// To which file.
    pub file: String,
    /// Why it failed.
    #[source]
    pub source: std::io::Error,
}

impl DiskError {
    /// Whether the directory is in use by another process.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::WouldBlock
    }

    /// An error of an operation on a file.
    pub fn new(operation: &'static str, file: &str, source: std::io::Error) -> Self {
        Self {
            operation,
            file: file.to_owned(),
            source,
        }
    }

    /// Whether there is no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(
            self.source.kind(),
            StorageFull | QuotaExceeded | FileTooLarge
        )
    }
}

/// Room on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Named files in one directory.
///
/// Contract: what `append` wrote is read back at once; it is durable when a `sync` of
/// that file that began later returns; after a crash an unsynced tail may be torn at any
/// byte; `replace` is atomic and durable at return.
pub trait Disk: Send + Sync {
    /// Appends to a file, making it when it is not there.
    ///
    /// # Errors
    ///
    /// When less than all was written; how much is unknown then.
    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Writes bytes over the same bytes, which a failed sync may have left in memory only;
    /// durable after a later `sync`. At any crash they are there as before.
    ///
    /// # Errors
    ///
    /// When they may not be written.
    fn rewrite(&self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Reads at most `len` bytes at `offset`; fewer only at the end. Makes no file.
    ///
    /// # Errors
    ///
    /// When the file is not there or cannot be read.
    fn read_at(&self, file: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError>;

    /// Length of a file, zero when it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    fn len(&self, file: &str) -> Result<u64, DiskError>;

    /// Makes all that was appended to a file durable, its being there included.
    ///
    /// # Errors
    ///
    /// When it may not be durable.
    fn sync(&self, file: &str) -> Result<(), DiskError>;

    /// Cuts a file to a length, durably.
    ///
    /// # Errors
    ///
    /// When it may not be cut.
    fn truncate(&self, file: &str, len: u64) -> Result<(), DiskError>;

    /// Puts `bytes` in place of a file's content, atomically and durably.
    ///
    /// # Errors
    ///
    /// When the old content may still be there.
    fn replace(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Removes a file, durably.
    ///
    /// # Errors
    ///
    /// When it may still be there.
    fn remove(&self, file: &str) -> Result<(), DiskError>;

    /// Names of all files, in order.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    fn list(&self) -> Result<Vec<String>, DiskError>;

    /// The room there is; `None` where there is no limit.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    fn space(&self) -> Result<Option<Space>, DiskError>;

    /// Makes a file of `len` bytes that take room on the disk, to be removed when it is needed.
    ///
    /// # Errors
    ///
    /// When there is no such room; then there is no such file.
    fn reserve(&self, file: &str, len: u64) -> Result<(), DiskError>;
}
