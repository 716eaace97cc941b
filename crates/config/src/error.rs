// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a file, and where.

use std::path::{Path, PathBuf};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line says something that is not understood.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong and what was expected.
        what: String,
    },
    /// A variable of the environment says something that is not understood.
    #[error("environment: {0}")]
    Variable(String),
}

impl Error {
    /// An error at a byte offset of the file's text.
    pub(crate) fn at(path: &Path, text: &str, offset: usize, what: String) -> Self {
        Self::Line {
            path: path.to_owned(),
            line: line_of(text, offset),
            what,
        }
    }
}

/// The line that an offset lies on, counted from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}
