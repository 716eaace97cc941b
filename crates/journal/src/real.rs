// SPDX-License-Identifier: Apache-2.0
//! A directory of the real file system, for one process at a time.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskError, Space};

/// Name of the file whose lock keeps other processes out.
const LOCK: &str = "lock";

/// Zeros written at a time where the file system cannot allocate.
const ZEROS: usize = 1 << 20;

/// A directory of the real file system.
pub struct RealDisk {
    dir: PathBuf,
    open: Mutex<HashMap<String, Handle>>,
    /// A file whose name may not be on disk and that could not be removed.
    doubtful: Mutex<Option<String>>,
    /// Locked as long as this lives; the system unlocks it when the process ends.
    _lock: File,
}

#[derive(Clone)]
struct Handle {
    file: Arc<File>,
    is_writable: bool,
}

impl RealDisk {
    /// Opens or makes a directory and locks it against other processes.
    ///
    /// # Errors
    ///
    /// [`DiskError::is_locked`] when another process uses it; else when it cannot be made.
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        let shown = dir.display().to_string();
        make_durably(dir).map_err(|e| DiskError::new("create directory", &shown, e))?;
        let take = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(dir.join(LOCK))?;
            match file.try_lock() {
                Ok(()) => Ok(file),
                Err(TryLockError::WouldBlock) => Err(std::io::Error::new(
                    std::io::ErrorKind::WouldBlock,
                    "another process is using it",
                )),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        let lock = take().map_err(|e| DiskError::new("lock directory", &shown, e))?;
        let disk = Self {
            dir: dir.to_owned(),
            open: Mutex::default(),
            doubtful: Mutex::default(),
            _lock: lock,
        };
        // Whoever was killed here may not have come to it.
        let synced = disk.sync_directory();
        synced.map_err(|e| DiskError::new("sync directory", &shown, e))?;
        Ok(disk)
    }

    fn known(&self, name: &str) -> Option<Handle> {
        lock(&self.open).get(name).cloned()
    }

    fn keep(&self, name: &str, file: File, is_writable: bool) -> Arc<File> {
        let file = Arc::new(file);
        let handle = Handle {
            file: Arc::clone(&file),
            is_writable,
        };
        lock(&self.open).insert(name.to_owned(), handle);
        file
    }

    /// A handle for appending; makes the file when it is not there.
    fn writable(&self, name: &str) -> std::io::Result<Arc<File>> {
        if let Some(handle) = self.known(name).filter(|handle| handle.is_writable) {
            return Ok(handle.file);
        }
        let path = self.dir.join(name);
        let is_new = !path.try_exists()?;
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path)?;
        let mut doubtful = lock(&self.doubtful);
        if is_new && let Err(error) = self.sync_directory() {
            // The next try would take it for one whose name is on disk, and what is synced
            // into it would go with the power.
            if std::fs::remove_file(&path).is_err() {
                *doubtful = Some(name.to_owned());
            }
            return Err(error);
        }
        if let Some(name) = doubtful.as_ref() {
            let why = format!("the name of `{name}` may not be on disk");
            return Err(std::io::Error::other(why));
        }
        Ok(self.keep(name, file, true))
    }

    /// A handle for reading; makes no file.
    fn readable(&self, name: &str) -> std::io::Result<Arc<File>> {
        if let Some(handle) = self.known(name) {
            return Ok(handle.file);
        }
        let file = File::open(self.dir.join(name))?;
        Ok(self.keep(name, file, false))
    }

    fn sync_directory(&self) -> std::io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn forget(&self, name: &str) {
        lock(&self.open).remove(name);
    }
}

/// Makes a directory and those above it that are missing, durably: the name of each is synced.
///
/// That of one which was there is synced where that is permitted: whoever made it may have been
/// killed before.
///
/// # Errors
///
/// When one cannot be made or synced.
pub fn make_durably(dir: &Path) -> std::io::Result<()> {
    let mut missing = Vec::new();
    let mut at = dir;
    while !at.try_exists()? {
        missing.push(at);
        at = parent(at);
    }
    if missing.is_empty() {
        let _ = File::open(parent(dir)).and_then(|parent| parent.sync_all());
    }
    for made in missing.into_iter().rev() {
        // Another process may be about the same.
        std::fs::create_dir_all(made)?;
        File::open(parent(made))?.sync_all()?;
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for RealDisk {
    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let append = || (&*self.writable(file)?).write_all(bytes);
        append().map_err(|e| DiskError::new("append to", file, e))
    }

    fn rewrite(&self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        // A handle of its own: one that appends writes at the end, whatever the offset.
        let rewrite = || {
            let handle = OpenOptions::new().write(true).open(self.dir.join(file))?;
            handle.write_all_at(bytes, offset)
        };
        rewrite().map_err(|e| DiskError::new("write again", file, e))
    }

    fn read_at(&self, file: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let read = || {
            let handle = self.readable(file)?;
            let mut out = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match handle.read_at(&mut out[filled..], offset + filled as u64)? {
                    0 => break,
                    n => filled += n,
                }
            }
            out.truncate(filled);
            Ok(out)
        };
        read().map_err(|e| DiskError::new("read", file, e))
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        match std::fs::metadata(self.dir.join(file)) {
            Ok(metadata) => Ok(metadata.len()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(DiskError::new("ask for the length of", file, e)),
        }
    }

    fn sync(&self, file: &str) -> Result<(), DiskError> {
        let sync = || self.readable(file)?.sync_data();
        sync().map_err(|e| DiskError::new("sync", file, e))
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), DiskError> {
        let cut = || {
            let handle = self.writable(file)?;
            handle.set_len(len)?;
            handle.sync_all()
        };
        cut().map_err(|e| DiskError::new("truncate", file, e))
    }

    fn replace(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        // Order: content, its sync, the rename, the directory's sync. A crash leaves the old
        // file or the new one, never a torn one.
        let replace = || {
            let temporary = self.dir.join(format!("{file}.tmp"));
            let mut handle = File::create(&temporary)?;
            handle.write_all(bytes)?;
            handle.sync_all()?;
            std::fs::rename(&temporary, self.dir.join(file))?;
            self.sync_directory()
        };
        self.forget(file);
        replace().map_err(|e| DiskError::new("replace", file, e))
    }

    fn remove(&self, file: &str) -> Result<(), DiskError> {
        self.forget(file);
        let removed = std::fs::remove_file(self.dir.join(file));
        let removed = removed.and_then(|()| self.sync_directory());
        removed.map_err(|e| DiskError::new("remove", file, e))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let list = || {
            let mut names = Vec::new();
            for item in std::fs::read_dir(&self.dir)? {
                names.push(item?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        };
        list().map_err(|e| DiskError::new("list", &self.dir.display().to_string(), e))
    }

    fn space(&self) -> Result<Option<Space>, DiskError> {
        let shown = || self.dir.display().to_string();
        let room = rustix::fs::statvfs(&self.dir);
        let room = room.map_err(|e| DiskError::new("ask for room in", &shown(), e.into()))?;
        Ok(Some(Space {
            free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
            total_bytes: room.f_blocks.saturating_mul(room.f_frsize),
        }))
    }

    fn reserve(&self, file: &str, len: u64) -> Result<(), DiskError> {
        let reserved = self.allocate(file, len);
        if reserved.is_err() {
            // Half of it would only be in the way.
            let _ = std::fs::remove_file(self.dir.join(file));
        }
        reserved.map_err(|e| DiskError::new("reserve", file, e))
    }
}

impl RealDisk {
    fn allocate(&self, file: &str, len: u64) -> std::io::Result<()> {
        let path = self.dir.join(file);
        if std::fs::metadata(&path).is_ok_and(|there| there.len() == len) {
            return Ok(());
        }
        let mut handle = File::create(path)?;
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&handle, flags, 0, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = vec![0; ZEROS];
                let mut left = len;
                while left > 0 {
                    let n = left.min(ZEROS as u64);
                    handle.write_all(&zeros[..n as usize])?;
                    left -= n;
                }
                handle.sync_all()
            }
            Err(error) => Err(error.into()),
        }
    }
}
