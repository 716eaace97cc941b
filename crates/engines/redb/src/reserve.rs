// SPDX-License-Identifier: Apache-2.0
//! Room on the disk that is set aside, so that what was accepted can be written.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// The reserve grows by steps of this many bytes, so that few batches ask for more.
const STEP_BYTES: u64 = 4 << 20;

/// A file that only takes room.
#[derive(Debug)]
pub(crate) struct Reserve {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    held_bytes: u64,
    is_supported: bool,
}

impl Reserve {
    /// Opens or creates the file; it is empty then.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).open(path)?;
        let state = Mutex::new(State {
            held_bytes: 0,
            is_supported: true,
        });
        Ok(Self { file, state })
    }

    /// Sees to it that at least `bytes` are set aside.
    ///
    /// # Errors
    ///
    /// `StorageFull` when the disk has not so much room; what was held is held still.
    pub(crate) fn hold(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.is_supported || state.held_bytes >= bytes {
            return Ok(());
        }
        // Near the end of the disk the last step may be too long.
        for wanted in [bytes.next_multiple_of(STEP_BYTES), bytes] {
            match fallocate(&self.file, FallocateFlags::empty(), 0, wanted) {
                Ok(()) => {
                    state.held_bytes = wanted;
                    return Ok(());
                }
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    state.is_supported = false;
                    tracing::warn!("no room can be set aside here: a full disk stops the store");
                    return Ok(());
                }
                // What the attempt left may be more than before.
                Err(Errno::NOSPC | Errno::DQUOT) => self.file.set_len(state.held_bytes)?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::NOSPC.into())
    }

    /// Gives the room up; whether there was any.
    pub(crate) fn release(&self) -> bool {
        let mut state = self.state.lock();
        let had_some = state.held_bytes > 0 && self.file.set_len(0).is_ok();
        state.held_bytes = 0;
        had_some
    }

    /// What the file takes of the disk, in bytes.
    pub(crate) fn disk_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }
}
