// SPDX-License-Identifier: Apache-2.0
//! Whether a disk has room left.

use std::fs::File;

use rustix::fs::fstatvfs;

/// Bytes that are free for us on the disk of a directory; `None` where the file system does not
/// say.
pub(crate) fn free_bytes(dir: &File) -> Option<u64> {
    let found = fstatvfs(dir).ok()?;
    // File systems that count nothing say so with zeros.
    let counts = found.f_blocks > 0 && found.f_frsize > 0;
    counts.then(|| found.f_bavail.saturating_mul(found.f_frsize))
}
