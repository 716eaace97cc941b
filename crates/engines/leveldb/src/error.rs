// SPDX-License-Identifier: Apache-2.0
//! LevelDB's errors as an engine's.

use dulse_kv::{Error, ErrorKind};
use dulse_leveldb::ErrorKind as Cause;

/// The engine's name.
pub(crate) const NAME: &str = "leveldb";

pub(crate) fn fail(context: &str, error: dulse_leveldb::Error) -> Error {
    let kind = match error.kind() {
        Cause::Corrupt | Cause::Invalid => ErrorKind::Corrupt,
        Cause::DiskFull => ErrorKind::DiskFull,
        Cause::Locked => ErrorKind::Locked,
        Cause::Io | Cause::NoLibrary => ErrorKind::Io,
    };
    if error.kind() == Cause::NoLibrary {
        // It says what to do, so it is not hidden behind what was tried.
        return Error::new(NAME, kind, error.to_string());
    }
    Error::new(NAME, kind, context).source(error)
}

pub(crate) fn io(context: impl Into<String>, error: std::io::Error) -> Error {
    Error::new(NAME, ErrorKind::from(&error), context).source(error)
}

pub(crate) fn corrupt(context: impl Into<String>) -> Error {
    Error::new(NAME, ErrorKind::Corrupt, context)
}
