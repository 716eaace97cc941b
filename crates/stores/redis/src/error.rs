// SPDX-License-Identifier: Apache-2.0
//! From the server's errors to the store's. Codes: the first word of Redis' error replies.

use std::time::Duration;

use dulse_store::{Error, ErrorKind, Operation};
use redis::{RedisError, Value};

/// An error of the server or of the way to it.
pub(crate) fn server(operation: Operation, error: RedisError) -> Error {
    let kind = match error.kind() {
        redis::ErrorKind::Parse | redis::ErrorKind::UnexpectedReturnType => ErrorKind::Corrupt,
        redis::ErrorKind::Io
        | redis::ErrorKind::MasterNameNotFoundBySentinel
        | redis::ErrorKind::NoValidReplicasFoundBySentinel
        | redis::ErrorKind::EmptySentinelList
        | redis::ErrorKind::ClusterConnectionNotFound => ErrorKind::Unavailable,
        redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => {
            ErrorKind::Invalid
        }
        _ => error.code().map_or(ErrorKind::Io, kind_of),
    };
    let is_full = error.code() == Some("OOM");
    let error = Error::new(operation, kind).source(error);
    if is_full {
        error.with("because", "the server's memory is full (`maxmemory`)")
    } else {
        error
    }
}

fn kind_of(code: &str) -> ErrorKind {
    match code {
        // At work, turned into a replica, without its replicas, or unable to save.
        "LOADING" | "READONLY" | "MASTERDOWN" | "NOREPLICAS" | "MISCONF" | "TRYAGAIN"
        | "CLUSTERDOWN" | "MOVED" | "ASK" | "BUSY" | "UNKILLABLE" => ErrorKind::Unavailable,
        "OOM" => ErrorKind::DiskFull,
        // Something else keeps other things under our keys.
        "WRONGTYPE" => ErrorKind::Corrupt,
        "NOAUTH" | "WRONGPASS" | "NOPERM" => ErrorKind::Invalid,
        _ => ErrorKind::Io,
    }
}

/// An answer that has another form than the command has.
pub(crate) fn answer(operation: Operation, expected: &'static str, found: &Value) -> Error {
    let found = format!("{found:?}");
    let found: String = found.chars().take(100).collect();
    Error::new(operation, ErrorKind::Corrupt)
        .with("expected", expected)
        .with("found", found)
}

/// It took too long.
pub(crate) fn late(operation: Operation, limit: Duration) -> Error {
    let text = format!("no answer within {} ms", limit.as_millis());
    Error::new(operation, ErrorKind::Unavailable).with("because", text)
}

/// A setting that cannot be.
pub(crate) fn invalid(because: impl std::fmt::Display) -> Error {
    Error::new(Operation::Open, ErrorKind::Invalid).with("because", because)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_unavailable_and_what_is_damaged_is_not() {
        for (code, kind) in [
            ("READONLY", ErrorKind::Unavailable),
            ("LOADING", ErrorKind::Unavailable),
            ("NOREPLICAS", ErrorKind::Unavailable),
            ("MISCONF", ErrorKind::Unavailable),
            ("OOM", ErrorKind::DiskFull),
            ("WRONGTYPE", ErrorKind::Corrupt),
            ("NOPERM", ErrorKind::Invalid),
            ("ERR", ErrorKind::Io),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }
}
