// SPDX-License-Identifier: Apache-2.0
//! Texts that upstream's clients compare. Each says who does, so that nobody rewords one.

/// A missing entry. Every Go client turns exactly this text into its own "not found".
pub const NOT_FOUND: &str = "filer: no entry is found in filer store";

/// A name above the limit. The create helper of the Go clients goes by the number beside it.
pub const NAME_TOO_LONG: &str = "entry name too long";

/// Something under a file that cannot become a directory.
pub const PARENT_IS_FILE: &str = "parent path is a file";

/// A directory where a file was meant; the S3 gateway answers `ExistingObjectIsDirectory`.
pub const EXISTING_IS_DIRECTORY: &str = "existing entry is a directory";

/// A file where a directory was meant; the S3 gateway answers `ExistingObjectIsFile`.
pub const EXISTING_IS_FILE: &str = "existing entry is a file";

/// An exclusive create of what is there; locks by file go by it.
pub const ALREADY_EXISTS: &str = "entry already exists";

/// A condition that does not hold; the S3 gateway and the shell go by it.
pub const PRECONDITION_FAILED: &str = "precondition failed";

/// A delete or overwrite of a directory with entries: the mount's rmdir makes ENOTEMPTY of
/// it, the S3 gateway turns a directory marker into a plain directory.
pub const NON_EMPTY_FOLDER: &str = "fail to delete non-empty folder";

/// Words by which the mount tells a rename's errors apart: ENOENT.
pub const RENAME_NOT_FOUND: &str = "not found";

/// The same for ENOTEMPTY.
pub const RENAME_NOT_EMPTY: &str = "is not empty";

/// The same for ENOTDIR.
pub const RENAME_NOT_DIRECTORY: &str = "is not directory";

/// A rename into its own subtree; shown to people.
pub const RENAME_INTO_ITSELF: &str = "mv: can not move directory to a subdirectory of itself";

/// A rename of a bucket; shown to people.
pub const RENAME_BUCKET: &str = "bucket renaming is not allowed";

/// A rename from one bucket to another, followed by ` A => B`; shown to people.
pub const RENAME_ACROSS: &str = "can not move across collection";

/// A write where a rule forbids it, followed by the rule's prefix; shown to people.
pub const READ_ONLY: &str = "read only:";

/// An append to a file whose content lies in its entry; shown by HTTP clients.
pub const APPEND_TO_INLINE: &str = "append to small file is not supported yet";
