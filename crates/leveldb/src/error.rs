// SPDX-License-Identifier: Apache-2.0
//! LevelDB's errors: it hands out texts, of which the beginning names the kind.

use std::ffi::{CStr, c_char, c_void};

use crate::library::{Library, MissingLibrary};

/// What went wrong, as far as the text tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// There is no library to load.
    NoLibrary,
    /// Stored bytes do not check out, or a file that they name is gone.
    Corrupt,
    /// The disk or a quota is full.
    DiskFull,
    /// The store is open already, here or in another process.
    Locked,
    /// There is no store, and none was to be made; or there is one, and none was to be.
    Invalid,
    /// A system call failed.
    Io,
}

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn of(message: String) -> Self {
        Self {
            kind: kind(&message),
            message,
        }
    }

    /// The error that a call left at `message`, if any; frees it.
    ///
    /// # Safety
    ///
    /// `message` is null or a string that LevelDB allocated for the caller.
    pub(crate) unsafe fn take(library: &Library, message: *mut c_char) -> Result<(), Self> {
        if message.is_null() {
            return Ok(());
        }
        // SAFETY: not null, so a terminated string that is ours until it is freed below.
        let text = unsafe { CStr::from_ptr(message) };
        let error = Self::of(text.to_string_lossy().into_owned());
        // SAFETY: LevelDB allocated it, and nothing refers to it any more.
        unsafe { (library.functions.free)(message.cast::<c_void>()) };
        Err(error)
    }
}

impl From<MissingLibrary> for Error {
    fn from(missing: MissingLibrary) -> Self {
        Self {
            kind: ErrorKind::NoLibrary,
            message: missing.to_string(),
        }
    }
}

/// Texts of the C library for `ENOSPC` and `EDQUOT`, in the locale that programs start in.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// The kind a text stands for. A file that vanished is damage: LevelDB names only its own.
fn kind(message: &str) -> ErrorKind {
    let is_lock = message.starts_with("IO error: lock ");
    if FULL.iter().any(|text| message.ends_with(text)) {
        ErrorKind::DiskFull
    } else if is_lock {
        ErrorKind::Locked
    } else if message.starts_with("Corruption: ") || message.starts_with("NotFound: ") {
        ErrorKind::Corrupt
    } else if message.starts_with("Invalid argument: ") {
        ErrorKind::Invalid
    } else {
        ErrorKind::Io
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kinds() {
        for (text, expect) in [
            ("Corruption: block checksum mismatch", ErrorKind::Corrupt),
            (
                "NotFound: /s/000005.ldb: No such file or directory",
                ErrorKind::Corrupt,
            ),
            (
                "IO error: /s/000004.log: No space left on device",
                ErrorKind::DiskFull,
            ),
            (
                "IO error: /s/000004.log: Disk quota exceeded",
                ErrorKind::DiskFull,
            ),
            (
                "IO error: lock /s/LOCK: already held by process",
                ErrorKind::Locked,
            ),
            (
                "IO error: lock /s/LOCK: Resource temporarily unavailable",
                ErrorKind::Locked,
            ),
            (
                "Invalid argument: /s: does not exist (create_if_missing is false)",
                ErrorKind::Invalid,
            ),
            ("IO error: /s/000004.log: Input/output error", ErrorKind::Io),
        ] {
            assert_eq!(kind(text), expect, "{text}");
        }
    }
}
