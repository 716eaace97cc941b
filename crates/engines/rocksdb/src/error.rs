// SPDX-License-Identifier: Apache-2.0
//! RocksDB's errors as an engine's.

use std::path::Path;

use dulse_kv::{Error, ErrorKind};

/// The engine's name.
pub(crate) const NAME: &str = "rocksdb";

pub(crate) fn fail(context: &str, error: rocksdb::Error) -> Error {
    Error::new(NAME, kind(&error), context).source(error)
}

/// RocksDB tells a full disk in words alone.
fn kind(error: &rocksdb::Error) -> ErrorKind {
    use rocksdb::ErrorKind as Cause;
    let says = |what: &str| error.as_ref().contains(what);
    match error.kind() {
        Cause::Corruption | Cause::NotSupported | Cause::InvalidArgument => ErrorKind::Corrupt,
        Cause::IOError if says("No space left on device") || says("Disk quota exceeded") => {
            ErrorKind::DiskFull
        }
        // A table that is gone, with the directory there.
        Cause::IOError if says("No such file or directory") => ErrorKind::Corrupt,
        Cause::IOError if says("lock hold by current process") || says("While lock file") => {
            ErrorKind::Locked
        }
        _ => ErrorKind::Io,
    }
}

pub(crate) fn io(context: impl Into<String>, error: std::io::Error) -> Error {
    Error::new(NAME, ErrorKind::from(&error), context).source(error)
}

pub(crate) fn at(verb: &str, path: &Path, error: std::io::Error) -> Error {
    io(format!("{verb} `{}`", path.display()), error)
}

pub(crate) fn corrupt(context: impl Into<String>) -> Error {
    Error::new(NAME, ErrorKind::Corrupt, context)
}
