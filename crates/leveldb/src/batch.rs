// SPDX-License-Identifier: Apache-2.0
//! Writes that are applied together.

use std::ffi::c_char;

use crate::error::Error;
use crate::library::Library;
use crate::raw::Object;

/// Writes that are applied whole or not at all, in order: of two to one key the later counts.
pub struct Batch {
    library: &'static Library,
    pub(crate) batch: Object,
}

// SAFETY: a write batch is plain memory of its own, tied to no thread; it is changed only
// through `&mut`, and reading it changes nothing.
unsafe impl Send for Batch {}
// SAFETY: as above.
unsafe impl Sync for Batch {}

impl Batch {
    /// No writes.
    ///
    /// # Errors
    ///
    /// `NoLibrary`.
    pub fn new() -> Result<Self, Error> {
        let library = Library::get()?;
        // SAFETY: takes nothing, gives an object that is ours.
        let batch = unsafe { (library.functions.writebatch_create)() };
        Ok(Self { library, batch })
    }

    /// Adds a row, or replaces it.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let (k, v) = (
            key.as_ptr().cast::<c_char>(),
            value.as_ptr().cast::<c_char>(),
        );
        // SAFETY: pointers and lengths are those of slices, which are copied.
        unsafe { (self.library.functions.writebatch_put)(self.batch, k, key.len(), v, value.len()) }
    }

    /// Removes a row, whether it is there or not.
    pub fn delete(&mut self, key: &[u8]) {
        let k = key.as_ptr().cast::<c_char>();
        // SAFETY: as in `put`.
        unsafe { (self.library.functions.writebatch_delete)(self.batch, k, key.len()) }
    }

    /// Forgets all writes, keeps the memory.
    pub fn clear(&mut self) {
        // SAFETY: the batch is ours alone.
        unsafe { (self.library.functions.writebatch_clear)(self.batch) }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: made in `new`, dropped once.
        unsafe { (self.library.functions.writebatch_destroy)(self.batch) }
    }
}
