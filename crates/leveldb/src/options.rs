// SPDX-License-Identifier: Apache-2.0
//! How a store is opened and read.

use std::ffi::c_int;

use crate::library::Library;
use crate::raw::Object;

/// How a store is opened. There is no default: the caller decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Makes the store where there is none; else that is [`ErrorKind::Invalid`].
    ///
    /// [`ErrorKind::Invalid`]: crate::ErrorKind::Invalid
    pub create_if_missing: bool,
    /// Refuses damaged records of logs and manifests instead of skipping them.
    pub paranoid_checks: bool,
    /// Bytes of changes that are kept in memory, and in one log, before they become a table.
    pub write_buffer_size_bytes: usize,
    /// Tables that are kept open.
    pub n_open_files_max: i32,
    /// Size of a table.
    pub table_size_bytes: usize,
    /// Blocks of tables that are kept in memory.
    pub block_cache_size_bytes: usize,
    /// Bits of each table's filter for each of its keys; none with zero.
    pub filter_bits_per_key: i32,
    /// Compresses new tables with Snappy. Whatever is set, both kinds are read.
    pub is_compressed: bool,
}

impl Options {
    /// Opens what is there, with LevelDB's own settings; refuses damage and makes nothing.
    #[must_use]
    pub fn existing() -> Self {
        Self {
            create_if_missing: false,
            paranoid_checks: true,
            write_buffer_size_bytes: 4 << 20,
            n_open_files_max: 1000,
            table_size_bytes: 2 << 20,
            block_cache_size_bytes: 8 << 20,
            filter_bits_per_key: 10,
            is_compressed: true,
        }
    }
}

/// How rows are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadOptions {
    /// Checks the checksum of every block that is read from a file.
    pub verifies_checksums: bool,
    /// Keeps the blocks in the cache.
    pub fills_cache: bool,
}

/// LevelDB's options object, with what it refers to.
pub(crate) struct RawOptions {
    library: &'static Library,
    pub(crate) options: Object,
    cache: Object,
    filter: Option<Object>,
}

impl RawOptions {
    pub(crate) fn new(library: &'static Library, options: &Options) -> Self {
        let f = &library.functions;
        // SAFETY: objects that were just made are given to the functions made for them, and
        // live until this value is dropped.
        unsafe {
            let raw = (f.options_create)();
            (f.options_set_create_if_missing)(raw, options.create_if_missing.into());
            (f.options_set_error_if_exists)(raw, 0);
            (f.options_set_paranoid_checks)(raw, options.paranoid_checks.into());
            (f.options_set_write_buffer_size)(raw, options.write_buffer_size_bytes);
            (f.options_set_max_open_files)(raw, options.n_open_files_max);
            (f.options_set_max_file_size)(raw, options.table_size_bytes);
            (f.options_set_compression)(raw, c_int::from(options.is_compressed));
            let cache = (f.cache_create_lru)(options.block_cache_size_bytes);
            (f.options_set_cache)(raw, cache);
            let bits = options.filter_bits_per_key;
            let filter = (bits > 0).then(|| {
                let filter = (f.filterpolicy_create_bloom)(bits);
                (f.options_set_filter_policy)(raw, filter);
                filter
            });
            Self {
                library,
                options: raw,
                cache,
                filter,
            }
        }
    }
}

impl Drop for RawOptions {
    fn drop(&mut self) {
        let f = &self.library.functions;
        // SAFETY: made in `new`, dropped once, and the database that used them is closed: it
        // owns this value.
        unsafe {
            (f.options_destroy)(self.options);
            (f.cache_destroy)(self.cache);
            if let Some(filter) = self.filter {
                (f.filterpolicy_destroy)(filter);
            }
        }
    }
}

/// LevelDB's options of one read.
pub(crate) struct RawReadOptions {
    library: &'static Library,
    pub(crate) options: Object,
}

impl RawReadOptions {
    /// - `snapshot`: null, or one of the database that reads with these options; it outlives
    ///   them.
    pub(crate) fn new(library: &'static Library, options: ReadOptions, snapshot: Object) -> Self {
        let f = &library.functions;
        // SAFETY: an object that was just made; the snapshot is only stored.
        let raw = unsafe {
            let raw = (f.readoptions_create)();
            (f.readoptions_set_verify_checksums)(raw, options.verifies_checksums.into());
            (f.readoptions_set_fill_cache)(raw, options.fills_cache.into());
            (f.readoptions_set_snapshot)(raw, snapshot);
            raw
        };
        Self {
            library,
            options: raw,
        }
    }
}

impl Drop for RawReadOptions {
    fn drop(&mut self) {
        // SAFETY: made in `new`, dropped once; LevelDB copies what an iterator needs of it.
        unsafe { (self.library.functions.readoptions_destroy)(self.options) };
    }
}
