// SPDX-License-Identifier: Apache-2.0
//! What a source yields.

use bytes::Bytes;
use dulse_types::{Entry, FullPath};

/// One thing of a source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// An entry, without its name.
    Entry {
        /// Where.
        path: FullPath,
        /// What.
        entry: Entry,
    },
    /// A pair of the key-value space.
    Kv {
        /// The key.
        key: Bytes,
        /// The value, not empty.
        value: Bytes,
    },
    /// What means nothing elsewhere: the store's id, offsets in peers' logs, the shared content
    /// of hard links, which comes with their names.
    Local,
    /// What cannot be taken.
    Refused {
        /// Which, for people.
        what: String,
        /// Why.
        why: String,
    },
}

/// A source that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file or the directory.
    #[error("cannot read `{place}`: {source}")]
    Io {
        /// Which.
        place: String,
        /// Why.
        source: std::io::Error,
    },
    /// The database.
    #[error("cannot read the database `{place}`: {source}")]
    Database {
        /// Which.
        place: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is there is nothing of the kind.
    #[error("`{place}` is {what}")]
    Other {
        /// Which.
        place: String,
        /// What it is, and what was expected.
        what: String,
    },
}
