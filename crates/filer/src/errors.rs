// SPDX-License-Identifier: Apache-2.0
//! The one table from kinds of errors to what each protocol says of them.
//!
//! Texts are in [`dulse_namespace::texts`]. Where clients tell errors apart by a number
//! and not by the text, it is here, with who does.

use dulse_namespace::{Error, ErrorKind};
use dulse_proto::filer::FilerError;
use tonic::{Code, Status};

/// What a kind of error is in each protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Status of a failed gRPC call.
    pub grpc: Code,
    /// Number in the answer of CreateEntry; `None` where that has a text alone.
    pub create: Option<FilerError>,
    /// Whether CreateEntry and DeleteEntry answer with a text instead of a status.
    pub is_in_answer: bool,
    /// Status of a refused HTTP request.
    pub http: u16,
    /// Exit code of a command line tool: 1 for an answer of "no", 2 for a call that cannot
    /// work as it was typed, 3 for a failure.
    pub exit: u8,
}

/// The row of a kind.
#[must_use]
pub fn row(kind: ErrorKind) -> Row {
    use ErrorKind as K;
    let (grpc, create, is_in_answer, http, exit) = match kind {
        // Upstream's own errors have no code: its clients compare the text, and `NotFound`
        // would make the Go helpers miss it.
        K::NotFound => (Code::Unknown, None, false, 404, 1),
        // The Go create helper rebuilds its errors from these numbers; the S3 gateway maps
        // 1 to KeyTooLong, 2 and 4 to ExistingObjectIsFile, 3 to ExistingObjectIsDirectory.
        K::NameTooLong => (
            Code::Unknown,
            Some(FilerError::EntryNameTooLong),
            true,
            414,
            2,
        ),
        K::ParentIsFile => (Code::Unknown, Some(FilerError::ParentIsFile), true, 409, 1),
        K::IsDirectory => (
            Code::Unknown,
            Some(FilerError::ExistingIsDirectory),
            true,
            409,
            1,
        ),
        K::IsFile => (
            Code::Unknown,
            Some(FilerError::ExistingIsFile),
            true,
            409,
            1,
        ),
        // 5 and 6: locks made of files, and the S3 gateway's conditions. Of UpdateEntry the
        // S3 gateway and the shell compare the status.
        K::Exists => (
            Code::Unknown,
            Some(FilerError::EntryAlreadyExists),
            true,
            409,
            1,
        ),
        K::Precondition => (
            Code::FailedPrecondition,
            Some(FilerError::PreconditionFailed),
            true,
            409,
            1,
        ),
        // The mount compares the text in the answer of DeleteEntry; over HTTP it comes with
        // 500, as upstream has it.
        K::NotEmpty => (Code::Unknown, None, true, 500, 1),
        // The mount makes EINVAL of it, EAGAIN of the next two.
        K::Invalid => (Code::InvalidArgument, None, true, 400, 2),
        K::ReadOnly => (Code::Unknown, None, true, 507, 1),
        K::DiskFull => (Code::ResourceExhausted, None, false, 507, 3),
        K::Unavailable => (Code::Unavailable, None, false, 503, 3),
        // Both protocols' word for "it may have happened": unlike UNAVAILABLE and 503 no client
        // repeats it by itself, which would append twice.
        K::Unacknowledged => (Code::DeadlineExceeded, None, false, 504, 3),
        K::Internal => (Code::Internal, None, false, 500, 3),
    };
    Row {
        grpc,
        create,
        is_in_answer,
        http,
        exit,
    }
}

/// The status a failed gRPC call ends with.
pub(crate) fn status(error: &Error) -> Status {
    Status::new(row(error.kind()).grpc, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_creates_are_all_used_and_unique() {
        let mut seen: Vec<i32> = ErrorKind::ALL
            .into_iter()
            .filter_map(|kind| row(kind).create)
            .map(i32::from)
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_has_a_number_is_in_the_answer() {
        for kind in ErrorKind::ALL {
            let row = row(kind);
            assert!(row.create.is_none() || row.is_in_answer, "{kind:?}");
            assert!((400..600).contains(&row.http), "{kind:?}");
            assert!((1..=3).contains(&row.exit), "{kind:?}");
        }
    }
}
