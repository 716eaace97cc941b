// SPDX-License-Identifier: Apache-2.0
//! The functions of LevelDB's C interface that are used, as in `leveldb/c.h` of 1.20 to 1.23.

use std::ffi::{c_char, c_int, c_uchar, c_void};

use libloading::Library;

/// An object of LevelDB; which one the name of the argument says.
pub(crate) type Object = *mut c_void;

/// Where a call puts its error message: null, or a string to be freed with `leveldb_free`.
pub(crate) type ErrorOut = *mut *mut c_char;

/// Declares the table of functions and how it is filled.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        /// Addresses of the functions, without the prefix `leveldb_`.
        pub(crate) struct Functions {
            $(pub(crate) $name: unsafe extern "C" fn($($argument: $type),*) $(-> $result)?,)*
        }

        impl Functions {
            /// Looks every function up.
            ///
            /// # Safety
            ///
            /// The library is LevelDB's, and stays loaded for as long as the table is used.
            pub(crate) unsafe fn find(library: &Library) -> Result<Self, libloading::Error> {
                Ok(Self {
                    $($name: {
                        let symbol = concat!("leveldb_", stringify!($name), "\0");
                        // SAFETY: the type is that of the declaration in `leveldb/c.h`, which
                        // has been the same since the function came.
                        unsafe { *library.get(symbol.as_bytes())? }
                    },)*
                })
            }
        }
    };
}

functions! {
    open(options: Object, name: *const c_char, error: ErrorOut) -> Object;
    close(db: Object);
    get(db: Object, options: Object, key: *const c_char, key_len: usize,
        value_len: *mut usize, error: ErrorOut) -> *mut c_char;
    write(db: Object, options: Object, batch: Object, error: ErrorOut);
    property_value(db: Object, name: *const c_char) -> *mut c_char;
    approximate_sizes(db: Object, n: c_int, starts: *const *const c_char,
        start_lens: *const usize, limits: *const *const c_char, limit_lens: *const usize,
        sizes: *mut u64);
    compact_range(db: Object, start: *const c_char, start_len: usize, limit: *const c_char,
        limit_len: usize);
    create_snapshot(db: Object) -> Object;
    release_snapshot(db: Object, snapshot: Object);

    create_iterator(db: Object, options: Object) -> Object;
    iter_destroy(iterator: Object);
    iter_valid(iterator: Object) -> c_uchar;
    iter_seek_to_first(iterator: Object);
    iter_seek_to_last(iterator: Object);
    iter_seek(iterator: Object, key: *const c_char, key_len: usize);
    iter_next(iterator: Object);
    iter_prev(iterator: Object);
    iter_key(iterator: Object, len: *mut usize) -> *const c_char;
    iter_value(iterator: Object, len: *mut usize) -> *const c_char;
    iter_get_error(iterator: Object, error: ErrorOut);

    writebatch_create() -> Object;
    writebatch_destroy(batch: Object);
    writebatch_clear(batch: Object);
    writebatch_put(batch: Object, key: *const c_char, key_len: usize, value: *const c_char,
        value_len: usize);
    writebatch_delete(batch: Object, key: *const c_char, key_len: usize);

    options_create() -> Object;
    options_destroy(options: Object);
    options_set_create_if_missing(options: Object, value: c_uchar);
    options_set_error_if_exists(options: Object, value: c_uchar);
    options_set_paranoid_checks(options: Object, value: c_uchar);
    options_set_write_buffer_size(options: Object, bytes: usize);
    options_set_max_open_files(options: Object, n: c_int);
    options_set_max_file_size(options: Object, bytes: usize);
    options_set_compression(options: Object, kind: c_int);
    options_set_cache(options: Object, cache: Object);
    options_set_filter_policy(options: Object, policy: Object);
    cache_create_lru(bytes: usize) -> Object;
    cache_destroy(cache: Object);
    filterpolicy_create_bloom(bits_per_key: c_int) -> Object;
    filterpolicy_destroy(policy: Object);

    readoptions_create() -> Object;
    readoptions_destroy(options: Object);
    readoptions_set_verify_checksums(options: Object, value: c_uchar);
    readoptions_set_fill_cache(options: Object, value: c_uchar);
    readoptions_set_snapshot(options: Object, snapshot: Object);
    writeoptions_create() -> Object;
    writeoptions_destroy(options: Object);
    writeoptions_set_sync(options: Object, value: c_uchar);

    free(memory: *mut c_void);
    major_version() -> c_int;
    minor_version() -> c_int;
}
