// SPDX-License-Identifier: Apache-2.0
//! A disk in memory that can crash: for tests and the simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskError, Space};

/// Files in memory. Clones share them, as processes share a disk.
#[derive(Clone, Default, Debug)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default, Debug)]
struct State {
    files: BTreeMap<String, FileState>,
    n_operations: u64,
    n_appends: u64,
    n_syncs: u64,
    n_bytes_read: u64,
    fail_at: Option<u64>,
    fail_next: Option<&'static str>,
    is_full: bool,
    space: Option<Space>,
}

#[derive(Default, Clone, Debug)]
struct FileState {
    bytes: Vec<u8>,
    synced: usize,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another disk with what this one holds now: a backup, or a store that was copied.
    #[must_use]
    pub fn copied(&self) -> Self {
        let files = self.lock().files.clone();
        Self {
            state: Arc::new(Mutex::new(State {
                files,
                ..State::default()
            })),
        }
    }

    /// Crashes: every file keeps what was synced, and of the rest `keep(n)` of `n` bytes.
    pub fn crash(&self, mut keep: impl FnMut(usize) -> usize) {
        let mut state = self.lock();
        for file in state.files.values_mut() {
            let unsynced = file.bytes.len() - file.synced;
            file.bytes
                .truncate(file.synced + keep(unsynced).min(unsynced));
            file.synced = file.bytes.len();
        }
        state.fail_at = None;
    }

    /// Crashes as a disk of blocks does: every file keeps what was synced, and of the rest
    /// the blocks for which `keep` says so; zeros are read where others were.
    pub fn crash_blocks(&self, block: usize, mut keep: impl FnMut() -> bool) {
        let mut state = self.lock();
        for file in state.files.values_mut() {
            let mut kept_to = file.synced;
            let mut at = file.synced;
            while at < file.bytes.len() {
                let to = ((at / block + 1) * block).min(file.bytes.len());
                if keep() {
                    kept_to = to;
                } else {
                    file.bytes[at..to].fill(0);
                }
                at = to;
            }
            file.bytes.truncate(kept_to);
            file.synced = kept_to;
        }
        state.fail_at = None;
    }

    /// Makes the `n`-th write or sync from now, and all behind it, fail.
    pub fn fail_at(&self, n: u64) {
        let mut state = self.lock();
        state.fail_at = Some(state.n_operations + n);
    }

    /// Makes the next operation of this name fail, once: `sync`, `append to`, `remove` …
    pub fn fail_next(&self, operation: &'static str) {
        self.lock().fail_next = Some(operation);
    }

    /// Whether appends fail for want of room.
    pub fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// What [`Disk::space`] says from now on; at first there is no limit.
    pub fn set_space(&self, space: Option<Space>) {
        self.lock().space = space;
    }

    /// How many appends and syncs there were.
    #[must_use]
    pub fn n_appends_and_syncs(&self) -> (u64, u64) {
        let state = self.lock();
        (state.n_appends, state.n_syncs)
    }

    /// How many bytes were read.
    #[must_use]
    pub fn n_bytes_read(&self) -> u64 {
        self.lock().n_bytes_read
    }

    /// Flips one bit of a stored byte.
    pub fn corrupt(&self, file: &str, offset: usize) {
        if let Some(byte) = self
            .lock()
            .files
            .get_mut(file)
            .and_then(|file| file.bytes.get_mut(offset))
        {
            *byte ^= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn operate(
        &self,
        operation: &'static str,
        file: &str,
    ) -> Result<MutexGuard<'_, State>, DiskError> {
        let mut state = self.lock();
        state.n_operations += 1;
        let is_next = state.fail_next == Some(operation);
        if is_next {
            state.fail_next = None;
        }
        if is_next || state.fail_at.is_some_and(|at| state.n_operations >= at) {
            let error = std::io::Error::other("injected fault");
            return Err(DiskError::new(operation, file, error));
        }
        Ok(state)
    }
}

fn full(operation: &'static str, file: &str) -> DiskError {
    let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
    DiskError::new(operation, file, error)
}

impl Disk for MemDisk {
    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.operate("append to", file)?;
        if state.is_full {
            return Err(full("append to", file));
        }
        state.n_appends += 1;
        state
            .files
            .entry(file.to_owned())
            .or_default()
            .bytes
            .extend_from_slice(bytes);
        Ok(())
    }

    fn rewrite(&self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.operate("write again", file)?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = state.files.get_mut(file).and_then(|file| {
            let to = at.checked_add(bytes.len())?;
            file.bytes.get_mut(at..to)
        });
        match there {
            Some(there) => there.copy_from_slice(bytes),
            None => {
                let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(DiskError::new("write again", file, error));
            }
        }
        Ok(())
    }

    fn read_at(&self, file: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let mut state = self.lock();
        let Some(found) = state.files.get(file) else {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(DiskError::new("read", file, error));
        };
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(found.bytes.len());
        let to = from.saturating_add(len).min(found.bytes.len());
        let bytes = found.bytes[from..to].to_vec();
        state.n_bytes_read += bytes.len() as u64;
        Ok(bytes)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        Ok(self
            .lock()
            .files
            .get(file)
            .map_or(0, |file| file.bytes.len() as u64))
    }

    fn sync(&self, file: &str) -> Result<(), DiskError> {
        let mut state = self.operate("sync", file)?;
        state.n_syncs += 1;
        if let Some(file) = state.files.get_mut(file) {
            file.synced = file.bytes.len();
        }
        Ok(())
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), DiskError> {
        let mut state = self.operate("truncate", file)?;
        if let Some(file) = state.files.get_mut(file) {
            file.bytes
                .truncate(usize::try_from(len).unwrap_or(usize::MAX));
            file.synced = file.bytes.len();
        }
        Ok(())
    }

    fn replace(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.operate("replace", file)?;
        let stored = FileState {
            bytes: bytes.to_vec(),
            synced: bytes.len(),
        };
        state.files.insert(file.to_owned(), stored);
        Ok(())
    }

    fn remove(&self, file: &str) -> Result<(), DiskError> {
        self.operate("remove", file)?.files.remove(file);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn space(&self) -> Result<Option<Space>, DiskError> {
        Ok(self.lock().space)
    }

    fn reserve(&self, file: &str, len: u64) -> Result<(), DiskError> {
        let mut state = self.operate("reserve", file)?;
        let has_room = !state.is_full && state.space.is_none_or(|space| space.free_bytes >= len);
        if !has_room {
            return Err(full("reserve", file));
        }
        // Its content is nobody's business.
        state.files.entry(file.to_owned()).or_default();
        Ok(())
    }
}
