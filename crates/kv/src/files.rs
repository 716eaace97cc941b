// SPDX-License-Identifier: Apache-2.0
//! What every engine that keeps files does with them: one owner, durable names, room on the disk.

use std::fs::{File, TryLockError};
use std::path::Path;

use rustix::fs::fstatvfs;

use crate::{Error, ErrorKind};

/// Locks a store by a file of it, for as long as that is open; makes the file if need be.
///
/// # Errors
///
/// `Locked` while somebody has it, `DiskFull`, `Io`.
pub fn lock(engine: &'static str, path: &Path) -> Result<File, Error> {
    let failed = |context: String, error: std::io::Error| {
        Error::new(engine, ErrorKind::from(&error), context).source(error)
    };
    let mut how = File::options();
    let opened = how.create(true).truncate(false).write(true).open(path);
    let file = opened.map_err(|e| failed(format!("open `{}`", path.display()), e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let context = format!("open a store that is open already: `{}`", path.display());
            Err(Error::new(engine, ErrorKind::Locked, context))
        }
        Err(TryLockError::Error(error)) => Err(failed("lock the store".to_owned(), error)),
    }
}

/// Makes what was created, renamed and removed in a directory durable.
///
/// # Errors
///
/// `DiskFull`, `Io`.
pub fn sync_dir(engine: &'static str, dir: &Path) -> Result<(), Error> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| {
        let context = format!("sync `{}`", dir.display());
        Error::new(engine, ErrorKind::from(&error), context).source(error)
    })
}

/// Bytes that are free for us on the disk of a directory; `None` where the file system does not
/// say.
#[must_use]
pub fn free_bytes(dir: &File) -> Option<u64> {
    let found = fstatvfs(dir).ok()?;
    // File systems that count nothing say so with zeros.
    let counts = found.f_blocks > 0 && found.f_frsize > 0;
    counts.then(|| found.f_bavail.saturating_mul(found.f_frsize))
}
