// SPDX-License-Identifier: Apache-2.0
//! A disk in memory that can crash: for tests and the simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskError};

/// Files in memory. Clones share them, as processes share a disk.
#[derive(Clone, Default, Debug)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default, Debug)]
struct State {
    files: BTreeMap<String, FileState>,
    n_operations: u64,
    fail_at: Option<u64>,
    is_full: bool,
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

    /// Makes the `n`-th write or sync from now, and all behind it, fail.
    pub fn fail_at(&self, n: u64) {
        let mut state = self.lock();
        state.fail_at = Some(state.n_operations + n);
    }

    /// Whether appends fail for want of room.
    pub fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
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
        if state.fail_at.is_some_and(|at| state.n_operations >= at) {
            let error = std::io::Error::other("injected fault");
            return Err(DiskError::new(operation, file, error));
        }
        Ok(state)
    }
}

impl Disk for MemDisk {
    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.operate("append to", file)?;
        if state.is_full {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(DiskError::new("append to", file, error));
        }
        state
            .files
            .entry(file.to_owned())
            .or_default()
            .bytes
            .extend_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, file: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let state = self.lock();
        let Some(file) = state.files.get(file) else {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(DiskError::new("read", file, error));
        };
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(file.bytes.len());
        let to = from.saturating_add(len).min(file.bytes.len());
        Ok(file.bytes[from..to].to_vec())
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
}
