// SPDX-License-Identifier: Apache-2.0
//! The error of an engine.

/// What went wrong, as a replica must tell it apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// Stored bytes do not check out.
    Corrupt,
    /// The disk is full; reads go on.
    DiskFull,
    /// Another process has the store open.
    Locked,
    /// The disk failed.
    Io,
}

/// A failed engine call.
#[derive(Debug, thiserror::Error)]
#[error("{engine}: {context} ({kind:?})")]
pub struct Error {
    engine: &'static str,
    kind: ErrorKind,
    context: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of the named engine while doing what `context` says.
    pub fn new(engine: &'static str, kind: ErrorKind, context: impl Into<String>) -> Self {
        Self {
            engine,
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// The kind an IO error stands for.
impl From<&std::io::Error> for ErrorKind {
    fn from(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            std::io::ErrorKind::InvalidData => Self::Corrupt,
            _ => Self::Io,
        }
    }
}
