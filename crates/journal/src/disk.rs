// SPDX-License-Identifier: Apache-2.0
//! What the journal needs of a disk: named flat files in one directory.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A failed disk operation.
#[derive(Debug, thiserror::Error)]
#[error("{operation} `{file}`")]
pub struct DiskError {
    /// What was being done.
    pub operation: &'static str,
    /// To which file.
    pub file: String,
    /// Why it failed.
    #[source]
    pub source: std::io::Error,
}

impl DiskError {
    /// An error of an operation on a file.
    pub fn new(operation: &'static str, file: &str, source: std::io::Error) -> Self {
        Self {
            operation,
            file: file.to_owned(),
            source,
        }
    }

    /// Whether there is no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(
            self.source.kind(),
            StorageFull | QuotaExceeded | FileTooLarge
        )
    }
}

/// Named files in one directory.
///
/// Contract: what `append` wrote is read back at once; it is durable when a `sync` of
/// that file that began later returns; after a crash an unsynced tail may be torn at any
/// byte; `replace` is atomic and durable at return.
pub trait Disk: Send + Sync {
    /// Appends to a file, making it when it is not there.
    ///
    /// # Errors
    ///
    /// When less than all was written; how much is unknown then.
    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Reads at most `len` bytes at `offset`; fewer only at the end.
    ///
    /// # Errors
    ///
    /// When the file is not there or cannot be read.
    fn read_at(&self, file: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError>;

    /// Length of a file, zero when it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be told.
    fn len(&self, file: &str) -> Result<u64, DiskError>;

    /// Makes all that was appended to a file durable, its being there included.
    ///
    /// # Errors
    ///
    /// When it may not be durable.
    fn sync(&self, file: &str) -> Result<(), DiskError>;

    /// Cuts a file to a length, durably.
    ///
    /// # Errors
    ///
    /// When it may not be cut.
    fn truncate(&self, file: &str, len: u64) -> Result<(), DiskError>;

    /// Puts `bytes` in place of a file's content, atomically and durably.
    ///
    /// # Errors
    ///
    /// When the old content may still be there.
    fn replace(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// When it may still be there.
    fn remove(&self, file: &str) -> Result<(), DiskError>;

    /// Names of all files, in order.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    fn list(&self) -> Result<Vec<String>, DiskError>;
}

/// A directory of the real file system.
pub struct RealDisk {
    dir: PathBuf,
    open: Mutex<HashMap<String, Arc<File>>>,
}

impl RealDisk {
    /// Opens or makes a directory.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        let shown = dir.display().to_string();
        std::fs::create_dir_all(dir).map_err(|e| DiskError::new("create directory", &shown, e))?;
        Ok(Self {
            dir: dir.to_owned(),
            open: Mutex::default(),
        })
    }

    fn file(&self, name: &str) -> std::io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(name) {
            return Ok(Arc::clone(file));
        }
        let path = self.dir.join(name);
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        if is_new {
            File::open(&self.dir)?.sync_all()?;
        }
        let file = Arc::new(file);
        open.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn forget(&self, name: &str) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

impl Disk for RealDisk {
    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        use std::io::Write;
        let append = || (&*self.file(file)?).write_all(bytes);
        append().map_err(|e| DiskError::new("append to", file, e))
    }

    fn read_at(&self, file: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let read = || {
            let handle = self.file(file)?;
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
        let sync = || self.file(file)?.sync_data();
        sync().map_err(|e| DiskError::new("sync", file, e))
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), DiskError> {
        let cut = || {
            let handle = self.file(file)?;
            handle.set_len(len)?;
            handle.sync_all()
        };
        cut().map_err(|e| DiskError::new("truncate", file, e))
    }

    fn replace(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        use std::io::Write;
        // Order: content, its sync, the rename, the directory's sync. A crash leaves the old
        // file or the new one, never a torn one.
        let replace = || {
            let temporary = self.dir.join(format!("{file}.tmp"));
            let mut handle = File::create(&temporary)?;
            handle.write_all(bytes)?;
            handle.sync_all()?;
            std::fs::rename(&temporary, self.dir.join(file))?;
            File::open(&self.dir)?.sync_all()
        };
        self.forget(file);
        replace().map_err(|e| DiskError::new("replace", file, e))
    }

    fn remove(&self, file: &str) -> Result<(), DiskError> {
        self.forget(file);
        let removed = std::fs::remove_file(self.dir.join(file));
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
}
