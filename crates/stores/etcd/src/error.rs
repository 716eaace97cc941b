// SPDX-License-Identifier: Apache-2.0
//! From etcd's answers to the store's errors.

use dulse_store::{Error, ErrorKind, Operation};
use tonic::{Code, Status};

/// An error of etcd or of the way to it. Of a write, it leaves open whether it was made, unless
/// etcd said no or was not reached.
pub(crate) fn database(operation: Operation, status: Status) -> Error {
    let is_unknown = operation == Operation::Commit && !is_definite(&status);
    let error = Error::new(operation, kind_of(&status)).source(status);
    match is_unknown {
        true => error.unknown_outcome(),
        false => error,
    }
}

fn kind_of(status: &Status) -> ErrorKind {
    let says = |text| status.message().contains(text);
    match status.code() {
        Code::ResourceExhausted if says("space exceeded") => ErrorKind::DiskFull,
        // Messages that are too large for the connection.
        Code::ResourceExhausted | Code::OutOfRange if says("larger than max") => ErrorKind::Invalid,
        Code::InvalidArgument => ErrorKind::Invalid,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::ResourceExhausted
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unknown
        | Code::Aborted => ErrorKind::Unavailable,
        _ => ErrorKind::Io,
    }
}

/// Whether nothing was made and nothing will be: etcd refused, or was not reached at all.
fn is_definite(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument
        | Code::ResourceExhausted
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => true,
        _ => is_unreached(status),
    }
}

/// Whether no connection was made.
pub(crate) fn is_unreached(status: &Status) -> bool {
    let mut at: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = at {
        // The connection's own layer says so by name only.
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        at = error.source();
    }
    false
}

/// It took too long.
pub(crate) fn late(operation: Operation, limit: std::time::Duration) -> Error {
    let text = format!("no answer within {} s", limit.as_secs_f32());
    let error = Error::new(operation, ErrorKind::Unavailable).with("because", text);
    match operation {
        Operation::Commit => error.unknown_outcome(),
        _ => error,
    }
}
