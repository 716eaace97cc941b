// SPDX-License-Identifier: Apache-2.0
//! What went wrong, what the caller may do, and whether anything can have been written.

use std::fmt;
use std::time::Duration;

use crate::frame::Exception;

/// What the caller may do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Nobody answers, or who answers cannot serve it now: later it may succeed.
    Unavailable,
    /// There is no such table.
    TableMissing,
    /// There is such a table already.
    TableExists,
    /// The server does not take a cell of this size.
    TooLarge,
    /// The server does not let this user.
    Denied,
    /// The server refuses it and will go on to.
    Refused,
    /// What came is not of this protocol.
    Protocol,
    /// The server failed at it.
    Failed,
}

/// What is known of the rows now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing was written, nor will be.
    NotApplied,
    /// It may be there, or come yet.
    Unknown,
}

/// A failed call.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    outcome: Outcome,
    text: String,
    /// What the location that was used is worth.
    pub(crate) moved: Moved,
}

/// What an answer says of where things are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moved {
    /// Nothing.
    No,
    /// The region is elsewhere, or the server is gone.
    Region,
    /// The scanner is, the region is not.
    Scanner,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            outcome: Outcome::NotApplied,
            text: text.into(),
            moved: Moved::No,
        }
    }

    /// Nobody answers there.
    pub(crate) fn unreachable(text: impl Into<String>) -> Self {
        Self {
            moved: Moved::Region,
            ..Self::new(ErrorKind::Unavailable, text)
        }
    }

    /// It was sent, and no answer came.
    pub(crate) fn lost(text: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Unknown,
            ..Self::unreachable(text)
        }
    }

    pub(crate) fn late(limit: Duration) -> Self {
        Self::lost(format!("no answer within {} s", limit.as_secs_f32()))
    }

    pub(crate) fn protocol(text: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Unknown,
            ..Self::new(ErrorKind::Protocol, text)
        }
    }

    /// A read has no outcome that could be unknown.
    pub(crate) fn of_read(mut self) -> Self {
        self.outcome = Outcome::NotApplied;
        self
    }

    /// What the caller may do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What is known of the rows.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the client itself may send it again, wherever it leads.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        self.kind == ErrorKind::Unavailable && self.outcome == Outcome::NotApplied
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// Exceptions by the last part of their class: what they mean, and whether the server throws
/// them before it writes anything.
///
/// What is not here is `Failed` with an unknown outcome, or `Refused` when the server says that
/// trying again is of no use.
const KNOWN: &[(&str, ErrorKind, Moved)] = &[
    (
        "NotServingRegionException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    (
        "RegionMovedException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    (
        "RegionOpeningException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    (
        "WrongRegionException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    (
        "RegionServerStoppedException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    (
        "RegionServerAbortedException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    (
        "ServerNotRunningYetException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    (
        "MasterStoppedException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    (
        "MasterNotRunningException",
        ErrorKind::Unavailable,
        Moved::Region,
    ),
    ("PleaseHoldException", ErrorKind::Unavailable, Moved::No),
    ("RegionTooBusyException", ErrorKind::Unavailable, Moved::No),
    (
        "CallQueueTooBigException",
        ErrorKind::Unavailable,
        Moved::No,
    ),
    ("CallDroppedException", ErrorKind::Unavailable, Moved::No),
    (
        "UnknownScannerException",
        ErrorKind::Unavailable,
        Moved::Scanner,
    ),
    (
        "ScannerResetException",
        ErrorKind::Unavailable,
        Moved::Scanner,
    ),
    (
        "OutOfOrderScannerNextException",
        ErrorKind::Unavailable,
        Moved::Scanner,
    ),
    ("LeaseException", ErrorKind::Unavailable, Moved::Scanner),
    ("TableNotFoundException", ErrorKind::TableMissing, Moved::No),
    ("TableExistsException", ErrorKind::TableExists, Moved::No),
    ("AccessDeniedException", ErrorKind::Denied, Moved::No),
    ("NoSuchColumnFamilyException", ErrorKind::Refused, Moved::No),
    ("FailedSanityCheckException", ErrorKind::Refused, Moved::No),
];

/// What an exception of the server means.
pub(crate) fn of_exception(exception: &Exception) -> Error {
    let class = exception
        .class
        .rsplit(['.', '$'])
        .next()
        .unwrap_or_default();
    // The rest is a stack of Java's, of no use to who reads our logs.
    let said: String = exception.text.lines().next().unwrap_or_default().into();
    let text = match said.contains(class) {
        true => said,
        false => format!("{class}: {said}"),
    };
    if let Some((_, kind, moved)) = KNOWN.iter().find(|(known, ..)| *known == class) {
        return Error {
            moved: *moved,
            ..Error::new(*kind, text)
        };
    }
    // Cells are measured before anything is written; the exception has no class of its own.
    if class == "DoNotRetryIOException" && text.contains("size") && text.contains("exceeds") {
        return Error::new(ErrorKind::TooLarge, text);
    }
    let kind = match exception.is_final {
        true => ErrorKind::Refused,
        false => ErrorKind::Failed,
    };
    Error {
        outcome: Outcome::Unknown,
        ..Error::new(kind, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(class: &str, text: &str, is_final: bool) -> Error {
        of_exception(&Exception {
            class: class.to_owned(),
            text: text.to_owned(),
            is_final,
        })
    }

    #[test]
    fn exceptions_are_told_by_their_class() {
        let hbase = "org.apache.hadoop.hbase.";
        for (class, text, kind, outcome) in [
            (
                "NotServingRegionException",
                "",
                ErrorKind::Unavailable,
                Outcome::NotApplied,
            ),
            (
                "exceptions.RegionMovedException",
                "",
                ErrorKind::Unavailable,
                Outcome::NotApplied,
            ),
            (
                "TableNotFoundException",
                "",
                ErrorKind::TableMissing,
                Outcome::NotApplied,
            ),
            (
                "DoNotRetryIOException",
                "Cell[/x] with size 11 exceeds limit of 10 bytes",
                ErrorKind::TooLarge,
                Outcome::NotApplied,
            ),
            (
                "DoNotRetryIOException",
                "no",
                ErrorKind::Failed,
                Outcome::Unknown,
            ),
            (
                "regionserver.wal.WALSyncTimeoutIOException",
                "",
                ErrorKind::Failed,
                Outcome::Unknown,
            ),
            ("", "", ErrorKind::Failed, Outcome::Unknown),
        ] {
            let error = of(&format!("{hbase}{class}"), text, false);
            assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{class}");
        }
        let error = of("java.lang.UnsupportedOperationException", "", true);
        assert_eq!(error.kind(), ErrorKind::Refused);
    }

    #[test]
    fn texts_are_one_line_and_name_the_class() {
        let error = of("a.b.SomeException", "why\n\tat line 1\n", false);
        assert_eq!(error.to_string(), "SomeException: why");
        let error = of("a.b.SomeException", "a.b.SomeException: why\n\tat x", false);
        assert_eq!(error.to_string(), "a.b.SomeException: why");
    }
}
