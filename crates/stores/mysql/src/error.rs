// SPDX-License-Identifier: Apache-2.0
//! From the database's errors to the store's. Numbers: MySQL's and MariaDB's lists of server
//! errors.

use dulse_store::{Error, ErrorKind, Operation};

/// A row with this key is there.
pub(crate) const DUPLICATE: u16 = 1062;

/// There is no such table.
pub(crate) const NO_TABLE: u16 = 1146;

/// A table that is to go is not there.
const BAD_TABLE: u16 = 1051;

/// There is no such connection.
pub(crate) const NO_SUCH_THREAD: u16 = 1094;

/// The server's number of an error, if the server said no.
pub(crate) fn number(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// An error of the database or of the way to it.
pub(crate) fn database(operation: Operation, error: mysql_async::Error) -> Error {
    use mysql_async::{DriverError, Error as Theirs};
    let kind = match &error {
        Theirs::Server(error) => kind_of(error.code),
        Theirs::Driver(DriverError::PacketTooLarge) => ErrorKind::Invalid,
        Theirs::Driver(
            DriverError::FromValue { .. }
            | DriverError::FromRow { .. }
            | DriverError::UnexpectedPacket { .. },
        ) => ErrorKind::Io,
        _ => ErrorKind::Unavailable,
    };
    Error::new(operation, kind).source(error)
}

/// The same of a read, of which `Conflict` says one thing: its table is not there. ⚠ A wait for a
/// lock that took too long says nothing of the row: to take it for one that is not there would
/// free chunks that are in use.
pub(crate) fn reading(operation: Operation, error: mysql_async::Error) -> Error {
    let is_missing = matches!(number(&error), Some(NO_TABLE | BAD_TABLE));
    let error = database(operation, error);
    match error.kind() {
        ErrorKind::Conflict if !is_missing => {
            Error::new(operation, ErrorKind::Unavailable).source(error)
        }
        _ => error,
    }
}

fn kind_of(number: u16) -> ErrorKind {
    match number {
        // A duplicate; a wait for a lock that took too long; a deadlock; a row, or a table's
        // definition, that changed since the transaction began; a bucket's table that another
        // filer removed: planned again, it is made again or not found.
        DUPLICATE | 1205 | 1213 | 1020 | 1412 | NO_TABLE | BAD_TABLE => ErrorKind::Conflict,
        // Disk full, table full, the temporary directory's.
        1021 | 1114 | 3019 => ErrorKind::DiskFull,
        // Above max_allowed_packet, or a tenth of MySQL 5.6's log; text that the column's
        // character set or length does not take; a key that is too long.
        1118 | 1153 | 1366 | 1406 | 1071 | 1300 | 3854 => ErrorKind::Invalid,
        // Connections, the operator at work, a standby, statements that were ended.
        1040
        | 1041
        | 1042
        | 1043
        | 1044
        | 1045
        | 1047
        | 1049
        | 1053
        | 1129
        | 1130
        | 1152
        | 1158..=1161
        | 1184
        | 1203
        | 1226
        | 1290
        | 1317
        | 1792
        | 1836
        | 1927
        | 1969
        | 3024
        | 3032
        | 3169
        | 4031 => ErrorKind::Unavailable,
        _ => ErrorKind::Io,
    }
}

/// No connection could be made: whatever it is, nothing was asked.
pub(crate) fn connecting(operation: Operation, error: mysql_async::Error) -> Error {
    Error::new(operation, ErrorKind::Unavailable).source(error)
}

/// It took too long.
pub(crate) fn late(operation: Operation, limit: std::time::Duration) -> Error {
    let text = format!("no answer within {} s", limit.as_secs());
    Error::new(operation, ErrorKind::Unavailable).with("because", text)
}
