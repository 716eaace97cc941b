// SPDX-License-Identifier: Apache-2.0
//! What the HTTP handlers ask of the namespace.
//!
//! A seam: handlers are tested over a map, and the namespace stays free of HTTP.

use std::future::Future;
use std::pin::Pin;

use dulse_namespace::Rule;
use dulse_store::{Found, ListRange, Listed, Token};
use dulse_types::{Entry, FullPath};

/// A boxed future of a call.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, NameError>> + Send + 'a>>;

/// Why the namespace refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing is there.
    #[error("filer: no entry is found in filer store")]
    NotFound,
    /// Something is there already, or is no longer what was read.
    #[error("entry already exists")]
    Conflict,
    /// An ancestor, or the target, is a file.
    #[error("{0}")]
    IsFile(String),
    /// The target is a directory.
    #[error("{0}")]
    IsDirectory(String),
    /// A directory has entries.
    #[error("{0}")]
    NotEmpty(String),
    /// A name above the limit.
    #[error("entry name too long")]
    NameTooLong,
    /// A rule forbids writes.
    #[error("read only: {0}")]
    ReadOnly(String),
    /// The disk is full.
    #[error("{0}")]
    DiskFull(String),
    /// Write once, and it was written.
    #[error("operation not permitted")]
    WriteOnce,
    /// The request cannot be right.
    #[error("{0}")]
    Invalid(String),
    /// Not now: starting, overloaded, or the disk is full.
    #[error("{0}")]
    Unavailable(String),
    /// It is here and may be lost with this machine: too few other filers have it yet.
    #[error("{0}")]
    Unacknowledged(String),
    /// The store failed and nothing was applied.
    #[error("{0}")]
    Failed(String),
    /// It failed as told, and the change may be there nevertheless.
    #[error("{0}")]
    InDoubt(Box<NameError>),
}

impl NameError {
    /// Whether the change may be there nevertheless.
    #[must_use]
    pub fn may_be_applied(&self) -> bool {
        matches!(self, Self::InDoubt(_))
    }
}

/// What must be at a path for a write to happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Anything: create or replace a file.
    Anything,
    /// Nothing.
    Absent,
    /// What was read.
    Same(Token),
}

/// A write of a whole entry.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where.
    pub path: FullPath,
    /// What, without its name.
    pub entry: Entry,
    /// Under which condition, else `Conflict`.
    pub expected: Expected,
    /// Whether missing parents are made.
    pub make_parents: bool,
}

/// How to delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delete {
    /// Directories with all that is in them.
    pub is_recursive: bool,
    /// Goes on past children that cannot be deleted.
    pub ignores_errors: bool,
    /// Frees the chunks.
    pub deletes_chunks: bool,
}

/// A write that is durable: the session token to hand to the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Text form of the token, a comma list where there are several.
    pub token: String,
}

/// The namespace as HTTP needs it.
pub trait Names: Send + Sync {
    /// Finds an entry; the root is a directory that is always there.
    fn find<'a>(&'a self, path: &'a FullPath) -> Answer<'a, Option<Found>>;

    /// Lists one directory.
    fn list<'a>(&'a self, directory: &'a FullPath, range: ListRange) -> Answer<'a, Vec<Listed>>;

    /// Creates or replaces an entry.
    fn write(&self, write: Write) -> Answer<'_, Written>;

    /// Deletes an entry; `NotFound` when there is none.
    fn delete<'a>(&'a self, path: &'a FullPath, how: Delete) -> Answer<'a, Written>;

    /// Renames an entry, with all below it.
    fn rename<'a>(&'a self, from: &'a FullPath, to: &'a FullPath) -> Answer<'a, Written>;

    /// What the rules of `filer.conf` say of a path; `None` when none names it.
    fn rule_of(&self, path: &str) -> Option<Rule>;

    /// Waits, bounded, until the writes named by session tokens are applied here; each text is
    /// one token or a comma list.
    fn wait_for<'a>(&'a self, tokens: Vec<&'a str>) -> Answer<'a, ()>;

    /// What a write that has nothing to do was decided on.
    fn seen(&self) -> Written;
}
