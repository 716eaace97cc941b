// SPDX-License-Identifier: Apache-2.0
//! From the driver's errors to the store's.

use dulse_store::{Error, ErrorKind, Operation};
use scylla::errors::{DbError, ExecutionError, NewSessionError, PrepareError, RequestAttemptError};

/// Where the limits are set that a write was too large for.
const LIMITS: &str = "an entry, what it was and what it becomes, must be below the server's \
                      `native_transport_max_frame_size`, and each below half of its \
                      `commitlog_segment_size`";

/// An error of Cassandra or of the way to it. Of a write, it leaves open whether it was made,
/// unless Cassandra said no or was not asked.
///
/// A write of which a server says that it was not ended is a `Conflict`: no answer is to come.
pub(crate) fn of(operation: Operation, error: ExecutionError) -> Error {
    let told = match &error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(told, _)) => Some(told),
        _ => None,
    };
    let is_write = operation == Operation::Commit;
    let is_sent = told.is_none_or(is_begun) && !is_unsent(&error);
    let kind = match told {
        Some(DbError::SyntaxError | DbError::Invalid | DbError::ProtocolError) => {
            ErrorKind::Invalid
        }
        Some(DbError::WriteTimeout { .. } | DbError::WriteFailure { .. }) if is_write => {
            ErrorKind::Conflict
        }
        Some(DbError::ServerError | DbError::ConfigError | DbError::FunctionFailure { .. }) => {
            ErrorKind::Io
        }
        Some(_) => ErrorKind::Unavailable,
        None if matches!(error, ExecutionError::BadQuery(_)) => ErrorKind::Invalid,
        None => ErrorKind::Unavailable,
    };
    let is_large = kind == ErrorKind::Invalid && is_write;
    let mut out = Error::new(operation, kind).source(error);
    if is_large {
        out = out.with("limit", LIMITS);
    }
    match is_write && is_sent {
        true => out.unknown_outcome(),
        false => out,
    }
}

/// Whether a server may have begun what it says it could not end.
fn is_begun(told: &DbError) -> bool {
    !matches!(
        told,
        DbError::SyntaxError
            | DbError::Invalid
            | DbError::ProtocolError
            | DbError::AuthenticationError
            | DbError::Unauthorized
            | DbError::ConfigError
            | DbError::Unavailable { .. }
            | DbError::Overloaded
            | DbError::IsBootstrapping
            | DbError::Unprepared { .. }
    )
}

/// Whether nothing was sent.
fn is_unsent(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::BadQuery(_)
            | ExecutionError::EmptyPlan
            | ExecutionError::PrepareError(_)
            | ExecutionError::ConnectionPoolError(_)
            | ExecutionError::LastAttemptError(
                RequestAttemptError::SerializationError(_)
                    | RequestAttemptError::CqlRequestSerialization(_)
                    | RequestAttemptError::UnableToAllocStreamId
            )
    )
}

/// An error of the first connection.
pub(crate) fn opening(error: NewSessionError) -> Error {
    let kind = match error {
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => {
            ErrorKind::Invalid
        }
        _ => ErrorKind::Unavailable,
    };
    Error::new(Operation::Open, kind).source(error)
}

/// An error of preparing statements, which changes nothing.
pub(crate) fn preparing(error: PrepareError) -> Error {
    Error::new(Operation::Open, ErrorKind::Unavailable).source(error)
}

/// An answer that is none of what was asked.
pub(crate) fn answer(
    operation: Operation,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let error = Error::new(operation, ErrorKind::Io).source(error);
    match operation {
        Operation::Commit => error.unknown_outcome(),
        _ => error,
    }
}

/// A setting, or a path or key, that Cassandra cannot have.
pub(crate) fn invalid(operation: Operation, why: impl std::fmt::Display) -> Error {
    Error::new(operation, ErrorKind::Invalid).with("because", why)
}
