// SPDX-License-Identifier: Apache-2.0
//! The error of a store.

use std::error::Error as StdError;
use std::fmt;

/// What went wrong, as callers must tell it apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// A path of a step shows nothing.
    NotFound,
    /// An expectation does not hold any more: read again and retry.
    Conflict,
    /// A value the store cannot take: NUL in a name, an entry above the limit.
    Invalid,
    /// More than one change may hold.
    TooLarge,
    /// A local write names a chunk that the present data does not hold and that was dropped.
    DroppedChunk,
    /// A directory with entries below it.
    NotEmpty,
    /// The disk is full; reads go on.
    DiskFull,
    /// This filer's clock is out of bounds; local writes are refused.
    ClockSkew,
    /// The store is not ready, stopping, or its queue is full.
    Unavailable,
    /// The change is in the log here, and fewer other filers have it than were asked for.
    Unacknowledged,
    /// Stored bytes do not check out.
    Corrupt,
    /// The disk or the network failed.
    Io,
}

/// What was being done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Open or recover the store.
    Open,
    /// Find one entry.
    Find,
    /// List a directory.
    List,
    /// Read a key.
    KvGet,
    /// Apply a transaction.
    Commit,
    /// Apply changes of a peer.
    Apply,
    /// Hand out or take in the whole state.
    Transfer,
    /// Make everything durable.
    Checkpoint,
    /// Take in what another replica has where this one differs.
    Repair,
}

/// What is known of the state after an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// Nothing was changed.
    NotApplied,
    /// The change may or may not be there.
    Unknown,
}

/// A failed store operation. Callers match on `kind` and ask `outcome`; people read the chain.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    operation: Operation,
    outcome: Outcome,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error after which nothing was changed.
    #[must_use]
    pub fn new(operation: Operation, kind: ErrorKind) -> Self {
        Self {
            kind,
            operation,
            outcome: Outcome::NotApplied,
            context: Vec::new(),
            source: None,
        }
    }

    /// Says that the change may be there nevertheless.
    #[must_use]
    pub fn unknown_outcome(mut self) -> Self {
        self.outcome = Outcome::Unknown;
        self
    }

    /// Adds a named value for people.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure for one more caller, with its causes as text.
    #[must_use]
    pub fn repeated(&self) -> Self {
        let mut causes = Vec::new();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        let mut copy = Self {
            context: self.context.clone(),
            outcome: self.outcome,
            ..Self::new(self.operation, self.kind)
        };
        if !causes.is_empty() {
            copy = copy.with("because", causes.join(": "));
        }
        copy
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// What is known of the state now.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether the same call may succeed later without a change of its arguments.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Conflict | ErrorKind::ClockSkew | ErrorKind::Unavailable
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::NotFound => "no entry there",
            ErrorKind::Conflict => "changed meanwhile",
            ErrorKind::Invalid => "not storable",
            ErrorKind::TooLarge => "more than one change may hold",
            ErrorKind::DroppedChunk => "names a chunk that was dropped",
            ErrorKind::NotEmpty => "directory is not empty",
            ErrorKind::DiskFull => "disk is full; free space and writes resume",
            ErrorKind::ClockSkew => "this filer's clock is ahead; local writes are refused",
            ErrorKind::Unavailable => "store is not available now",
            ErrorKind::Unacknowledged => {
                "outcome unknown: the change is on this filer's disk and shows here, and reaches the \
                 other filers unless this machine is lost before; read before writing again"
            }
            ErrorKind::Corrupt => "stored bytes do not check out",
            ErrorKind::Io => "input or output failed",
        };
        write!(f, "{:?}: {what}", self.operation)?;
        for (name, value) in &self.context {
            write!(f, ", {name} `{value}`")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_failure_says_why() {
        let disk = std::io::Error::other("no such disk");
        let first = Error::new(Operation::Commit, ErrorKind::Unavailable)
            .with("file", "a")
            .source(disk)
            .unknown_outcome();
        let again = first.repeated();
        assert_eq!(
            (again.kind(), again.outcome()),
            (ErrorKind::Unavailable, Outcome::Unknown)
        );
        let text = "Commit: store is not available now, file `a`, because `no such disk`";
        assert_eq!(again.to_string(), text);
        assert_eq!(again.repeated().to_string(), text);
    }
}
