// SPDX-License-Identifier: Apache-2.0
//! SQLite's errors as an engine's.

use dulse_kv::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// The engine's name.
pub(crate) const NAME: &str = "sqlite";

pub(crate) fn fail(context: &str, error: rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ErrorKind::DiskFull,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::Locked,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    };
    Error::new(NAME, kind, context).source(error)
}

pub(crate) fn io(context: &str, error: std::io::Error) -> Error {
    Error::new(NAME, ErrorKind::from(&error), context).source(error)
}
