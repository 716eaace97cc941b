// SPDX-License-Identifier: Apache-2.0
//! From the driver's errors to the store's.

use dulse_store::{Error, ErrorKind, Operation};
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};

use crate::config::Tls;

/// Where the limits are set that a write was too large for.
const LIMITS: &str = "an entry, what it was and what it becomes, must be below the server's \
                      `native_transport_max_frame_size`, and each below half of its \
                      `commitlog_segment_size`";

/// An error of Cassandra or of the way to it. Of a write, it leaves open whether it was made,
/// unless Cassandra said no or was not asked.
///
/// A write of which a server says that it was not ended is a `Conflict`: no answer is to come. So
/// is one of which it says that others are away, or have too much to do: it says both also of the
/// last round of a conditional write, which a quorum has taken by then.
pub(crate) fn of(operation: Operation, error: ExecutionError) -> Error {
    let is_write = operation == Operation::Commit;
    let is_sent = told(&error).is_none_or(is_begun) && !is_unsent(&error);
    let kind = match told(&error) {
        Some(
            DbError::WriteTimeout { .. }
            | DbError::WriteFailure { .. }
            | DbError::Unavailable { .. }
            | DbError::Overloaded,
        ) if is_write => ErrorKind::Conflict,
        // Later, rights may be given: what was begun by then is not given up.
        Some(DbError::Unauthorized) if operation == Operation::Open => ErrorKind::Invalid,
        _ => kind_of(&error),
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

/// An error of raising a number, which leaves it open whether it was: nothing is looked for, and
/// it is raised again, so a server that is away is no conflict.
pub(crate) fn raising(error: ExecutionError) -> Error {
    let kind = kind_of(&error);
    Error::new(Operation::Commit, kind)
        .source(error)
        .unknown_outcome()
}

/// What a server said.
fn told(error: &ExecutionError) -> Option<&DbError> {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(told, _)) => Some(told),
        _ => None,
    }
}

fn kind_of(error: &ExecutionError) -> ErrorKind {
    match told(error) {
        Some(DbError::SyntaxError | DbError::Invalid | DbError::ProtocolError) => {
            ErrorKind::Invalid
        }
        Some(DbError::ServerError | DbError::ConfigError | DbError::FunctionFailure { .. }) => {
            ErrorKind::Io
        }
        Some(_) => ErrorKind::Unavailable,
        None if matches!(error, ExecutionError::BadQuery(_)) => ErrorKind::Invalid,
        None => ErrorKind::Unavailable,
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
///
/// The driver's says the same several times over, from the outermost down: what is told is why
/// the last connection failed, and what to do.
///
/// - `tls`: how it was to be encrypted.
pub(crate) fn opening(error: NewSessionError, tls: Option<&Tls>) -> Error {
    let told = |kind, why: String| Error::new(Operation::Open, kind).with("because", why);
    let connection = match &error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(
            ConnectionPoolError::Broken {
                last_connection_error,
            },
        )) => last_connection_error,
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => {
            return Error::new(Operation::Open, ErrorKind::Invalid).source(error);
        }
        _ => return Error::new(Operation::Open, ErrorKind::Unavailable).source(error),
    };
    if let ConnectionError::ConnectionSetupRequestError(setup) = connection {
        match &setup.error {
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                let why = "Cassandra asks who we are; set `username` and `password`";
                return told(ErrorKind::Invalid, why.to_owned());
            }
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, why) => {
                let why = format!("Cassandra does not let us log in (`username`): {why}");
                return told(ErrorKind::Invalid, why);
            }
            _ => {}
        }
    }
    let why = connection.to_string();
    // The driver hands errors of encryption on as text alone; and of a connection that is closed
    // the server's reason may not come through.
    let is_closed = !matches!(connection, ConnectionError::IoError(_));
    let advice = match tls {
        Some(_) if why.contains("invalid peer certificate") => Some(
            "an authority of `ssl_ca_path` must have signed the certificate of every server, and \
             it must name the server's address",
        ),
        Some(tls) if tls.identity.is_none() && is_closed => {
            Some("the server may ask for a certificate of ours (`ssl_cert_path`, `ssl_key_path`)")
        }
        Some(_) if why.contains("received fatal alert") => {
            Some("the server may not trust our certificate (`ssl_cert_path`)")
        }
        None if is_closed => Some("the server may take encrypted connections only (`ssl_ca_path`)"),
        _ => None,
    };
    let why = match advice {
        Some(advice) => format!("{why}; {advice}"),
        None => why,
    };
    told(ErrorKind::Unavailable, why)
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

#[cfg(test)]
mod tests {
    use dulse_store::Outcome;
    use scylla::statement::Consistency;

    use super::*;

    fn said_so(told: DbError) -> ExecutionError {
        let text = "as the server says it".to_owned();
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(told, text))
    }

    fn away() -> DbError {
        DbError::Unavailable {
            consistency: Consistency::Quorum,
            required: 2,
            alive: 1,
        }
    }

    #[test]
    fn what_may_be_said_of_the_last_round_of_a_write_leaves_it_open() {
        for said in [away(), DbError::Overloaded] {
            let read = of(Operation::Find, said_so(said.clone()));
            assert_eq!(read.kind(), ErrorKind::Unavailable, "{said}");
            let number = raising(said_so(said.clone()));
            assert_eq!(number.kind(), ErrorKind::Unavailable, "{said}");
            let write = of(Operation::Commit, said_so(said));
            assert_eq!(write.outcome(), Outcome::Unknown, "{write}");
            // Nothing is to come but what a serial read ends.
            assert_eq!(write.kind(), ErrorKind::Conflict, "{write}");
        }
    }

    #[test]
    fn what_is_said_before_a_write_is_begun_leaves_nothing_open() {
        for said in [
            DbError::Invalid,
            DbError::Unauthorized,
            DbError::IsBootstrapping,
        ] {
            let write = of(Operation::Commit, said_so(said));
            assert_eq!(write.outcome(), Outcome::NotApplied, "{write}");
        }
        let write = of(Operation::Commit, ExecutionError::EmptyPlan);
        assert_eq!(write.outcome(), Outcome::NotApplied, "{write}");
    }
}
