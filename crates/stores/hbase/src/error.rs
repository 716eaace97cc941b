// SPDX-License-Identifier: Apache-2.0
//! From the client's errors to the store's.

use dulse_hbase_client as client;
use dulse_store::{Error, ErrorKind, Operation};

/// Where the limit is set that a cell was too large for.
const CELL_LIMIT: &str = "the server's limit of a cell, `hbase.server.keyvalue.maxsize`; \
                          10 MiB where nothing sets it, also for one table";

/// An error of HBase or of the way to it.
pub(crate) fn of(operation: Operation, error: client::Error) -> Error {
    let kind = match error.kind() {
        client::ErrorKind::Unavailable | client::ErrorKind::TableMissing => ErrorKind::Unavailable,
        client::ErrorKind::TooLarge => ErrorKind::Invalid,
        client::ErrorKind::Denied
        | client::ErrorKind::Refused
        | client::ErrorKind::TableExists
        | client::ErrorKind::Protocol
        | client::ErrorKind::Failed => ErrorKind::Io,
    };
    let (outcome, is_large) = (error.outcome(), error.kind() == client::ErrorKind::TooLarge);
    let mut out = Error::new(operation, kind).source(error);
    if is_large {
        out = out.with("limit", CELL_LIMIT);
    }
    match outcome {
        client::Outcome::NotApplied => out,
        client::Outcome::Unknown => out.unknown_outcome(),
    }
}

/// A setting, or a path or key, that HBase cannot have.
pub(crate) fn invalid(operation: Operation, why: impl std::fmt::Display) -> Error {
    Error::new(operation, ErrorKind::Invalid).with("because", why)
}
