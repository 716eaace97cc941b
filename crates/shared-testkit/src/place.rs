// SPDX-License-Identifier: Apache-2.0
//! Where a server of a test lies.

use std::path::Path;

use anyhow::Result;

/// Room in memory that a server is given where there is as much, in bytes.
const MEMORY_BYTES: u64 = 4 << 30;

/// A directory for a server that syncs each write: in memory, where there is room, since what is
/// tested is that the server ends, not that the machine does.
///
/// # Errors
///
/// When no directory can be made.
pub fn place() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let has_room = rustix::fs::statvfs(memory)
        .is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) > MEMORY_BYTES);
    let dir = match has_room {
        true => tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()),
        false => tempfile::tempdir(),
    };
    Ok(dir?)
}
