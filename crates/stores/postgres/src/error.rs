// SPDX-License-Identifier: Apache-2.0
//! From the database's errors to the store's. Codes: PostgreSQL's appendix A.

use dulse_store::{Error, ErrorKind, Operation};
use tokio_postgres::error::SqlState;

/// An error of the database or of the way to it.
pub(crate) fn database(operation: Operation, error: tokio_postgres::Error) -> Error {
    let kind = match error.code() {
        None => ErrorKind::Unavailable,
        Some(code) => kind_of(code),
    };
    Error::new(operation, kind).source(error)
}

/// The same of a read, of which `Conflict` says one thing: its table is not there. ⚠ A wait for a
/// lock that took too long says nothing of the row: to take it for one that is not there would
/// free chunks that are in use.
pub(crate) fn reading(operation: Operation, error: tokio_postgres::Error) -> Error {
    let is_missing = error.code() == Some(&SqlState::UNDEFINED_TABLE);
    let error = database(operation, error);
    match error.kind() {
        ErrorKind::Conflict if !is_missing => {
            Error::new(operation, ErrorKind::Unavailable).source(error)
        }
        _ => error,
    }
}

fn kind_of(code: &SqlState) -> ErrorKind {
    if *code == SqlState::UNIQUE_VIOLATION
        || *code == SqlState::T_R_SERIALIZATION_FAILURE
        || *code == SqlState::T_R_DEADLOCK_DETECTED
        || *code == SqlState::LOCK_NOT_AVAILABLE
        // A bucket that another filer removed: planned again, it is made again or not found.
        || *code == SqlState::UNDEFINED_TABLE
    {
        return ErrorKind::Conflict;
    }
    if *code == SqlState::DISK_FULL {
        return ErrorKind::DiskFull;
    }
    if *code == SqlState::PROGRAM_LIMIT_EXCEEDED
        || *code == SqlState::CHARACTER_NOT_IN_REPERTOIRE
        || *code == SqlState::STRING_DATA_RIGHT_TRUNCATION
    {
        return ErrorKind::Invalid;
    }
    // By class: connections, resources, the operator at work, a standby.
    match &code.code()[..2] {
        "08" | "53" | "57" | "25" => ErrorKind::Unavailable,
        _ => ErrorKind::Io,
    }
}

/// The pool gave no connection.
pub(crate) fn pool(operation: Operation, error: deadpool_postgres::PoolError) -> Error {
    match error {
        deadpool_postgres::PoolError::Backend(error) => {
            let error = database(operation, error);
            // Whatever it is, no connection was made.
            match error.kind() {
                ErrorKind::Unavailable => error,
                _ => Error::new(operation, ErrorKind::Unavailable).source(error),
            }
        }
        other => Error::new(operation, ErrorKind::Unavailable).source(other),
    }
}

/// It took too long.
pub(crate) fn late(operation: Operation, limit: std::time::Duration) -> Error {
    let text = format!("no answer within {} s", limit.as_secs());
    Error::new(operation, ErrorKind::Unavailable).with("because", text)
}
