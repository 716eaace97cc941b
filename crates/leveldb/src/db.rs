// SPDX-License-Identifier: Apache-2.0
//! An open database.

use std::ffi::{CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use crate::batch::Batch;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::library::Library;
use crate::options::{Options, RawOptions, RawReadOptions, ReadOptions};
use crate::raw::Object;
use crate::snapshot::Snapshot;

/// An open database; all methods may be called from many threads at once. It is closed once it
/// and all cursors and snapshots of it are dropped; closing waits for work in the background.
pub struct Db {
    inner: Arc<Inner>,
}

/// What is closed last.
pub(crate) struct Inner {
    pub(crate) library: &'static Library,
    pub(crate) db: Object,
    /// Order: the database refers to cache and filter in it, so it is destroyed behind it.
    _options: RawOptions,
}

// SAFETY: LevelDB's databases may be used by many threads without further locks (its
// documentation, "Concurrency"); the options are not touched between `open` and `close`.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Db {
    /// Opens the database in a directory. **This writes**, see the crate's documentation.
    ///
    /// # Errors
    ///
    /// Every kind there is.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, Error> {
        let library = Library::get()?;
        let name = c_string(dir.as_os_str().as_bytes())?;
        let raw = RawOptions::new(library, options);
        let mut message = ptr::null_mut();
        // SAFETY: the options live as long as the database, the name for the call.
        let db = unsafe {
            let db = (library.functions.open)(raw.options, name.as_ptr(), &raw mut message);
            Error::take(library, message)?;
            db
        };
        Ok(Self {
            inner: Arc::new(Inner {
                library,
                db,
                _options: raw,
            }),
        })
    }

    /// The value of a key, now or in a snapshot of this database.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`; `Invalid` for a snapshot of another database.
    pub fn get(
        &self,
        key: &[u8],
        options: ReadOptions,
        snapshot: Option<&Snapshot>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let f = &self.inner.library.functions;
        let raw = self.read_options(options, snapshot)?;
        let (mut len, mut message) = (0, ptr::null_mut());
        // SAFETY: pointer and length are a slice's; what is returned is a value of `len` bytes
        // or null, ours to free.
        unsafe {
            let k = key.as_ptr().cast::<c_char>();
            let value = (f.get)(
                self.inner.db,
                raw.options,
                k,
                key.len(),
                &raw mut len,
                &raw mut message,
            );
            Error::take(self.inner.library, message)?;
            if value.is_null() {
                return Ok(None);
            }
            let copy = std::slice::from_raw_parts(value.cast::<u8>(), len).to_vec();
            (f.free)(value.cast::<c_void>());
            Ok(Some(copy))
        }
    }

    /// A cursor over the rows as they are now, or in a snapshot of this database. It begins at
    /// no row.
    ///
    /// # Errors
    ///
    /// `Invalid` for a snapshot of another database.
    pub fn cursor(
        &self,
        options: ReadOptions,
        snapshot: Option<&Snapshot>,
    ) -> Result<Cursor, Error> {
        let raw = self.read_options(options, snapshot)?;
        Ok(Cursor::new(&self.inner, &raw))
    }

    /// Fixes the present state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.inner)
    }

    /// Applies a batch.
    ///
    /// - `is_synced`: returns once the log that holds it is on disk. **An earlier log may not
    ///   be**: LevelDB syncs the present one alone.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`; and whatever went wrong in the background since.
    pub fn write(&self, batch: &mut Batch, is_synced: bool) -> Result<(), Error> {
        let f = &self.inner.library.functions;
        let mut message = ptr::null_mut();
        // SAFETY: all three objects are alive, and the batch is ours alone: LevelDB writes the
        // number of the write into it.
        unsafe {
            let options = (f.writeoptions_create)();
            (f.writeoptions_set_sync)(options, is_synced.into());
            (f.write)(self.inner.db, options, batch.batch, &raw mut message);
            (f.writeoptions_destroy)(options);
            Error::take(self.inner.library, message)
        }
    }

    /// What LevelDB tells about itself, such as `leveldb.stats`; `None` for unknown names.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<String> {
        let f = &self.inner.library.functions;
        let name = CString::new(name).ok()?;
        // SAFETY: the name is a terminated string; the text is terminated and ours to free.
        unsafe {
            let text = (f.property_value)(self.inner.db, name.as_ptr());
            if text.is_null() {
                return None;
            }
            let copy = std::ffi::CStr::from_ptr(text)
                .to_string_lossy()
                .into_owned();
            (f.free)(text.cast::<c_void>());
            Some(copy)
        }
    }

    /// About how many bytes of tables the keys in `start..limit` take; what is still in memory
    /// counts nothing.
    #[must_use]
    pub fn approximate_size(&self, start: &[u8], limit: &[u8]) -> u64 {
        let (start_key, start_len) = (start.as_ptr().cast::<c_char>(), start.len());
        let (limit_key, limit_len) = (limit.as_ptr().cast::<c_char>(), limit.len());
        let mut size = 0;
        // SAFETY: arrays of one element each, pointers and lengths of slices.
        unsafe {
            (self.inner.library.functions.approximate_sizes)(
                self.inner.db,
                1,
                &raw const start_key,
                &raw const start_len,
                &raw const limit_key,
                &raw const limit_len,
                &raw mut size,
            );
        }
        size
    }

    /// Compacts the tables of all keys. Cost: one read and one write of the store.
    pub fn compact(&self) {
        // SAFETY: null stands for "from the first" and "to the last".
        unsafe {
            (self.inner.library.functions.compact_range)(
                self.inner.db,
                ptr::null(),
                0,
                ptr::null(),
                0,
            );
        }
    }

    fn read_options(
        &self,
        options: ReadOptions,
        snapshot: Option<&Snapshot>,
    ) -> Result<RawReadOptions, Error> {
        let snapshot = match snapshot {
            None => ptr::null_mut(),
            Some(snapshot) if Arc::ptr_eq(&snapshot.db, &self.inner) => snapshot.snapshot,
            Some(_) => {
                let text = "Invalid argument: the snapshot is another database's";
                return Err(Error::of(text.to_owned()));
            }
        };
        Ok(RawReadOptions::new(self.inner.library, options, snapshot))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: opened in `open`, closed once; every cursor and snapshot held this value, so
        // none is left.
        unsafe { (self.library.functions.close)(self.db) }
    }
}

fn c_string(bytes: &[u8]) -> Result<CString, Error> {
    let text = "Invalid argument: a NUL byte in the name of the directory";
    CString::new(bytes).map_err(|_| Error::of(text.to_owned()))
}
