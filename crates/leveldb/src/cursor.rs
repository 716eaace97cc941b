// SPDX-License-Identifier: Apache-2.0
//! Going through rows in the order of their keys.

use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;

use crate::db::Inner;
use crate::error::Error;
use crate::options::RawReadOptions;
use crate::raw::Object;

/// A place among the rows of one state: at a row, or at none. It keeps the database open.
///
/// **Damage is skipped.** Where a block of a table does not check out, the cursor goes on
/// behind it. So whoever is done with it, at the end or before, asks [`Cursor::status`].
pub struct Cursor {
    db: Arc<Inner>,
    cursor: Object,
}

// SAFETY: an iterator is tied to no thread; it is used by one at a time, as moving it takes
// `&mut` and it is not `Sync`.
unsafe impl Send for Cursor {}

impl Cursor {
    /// Of the database's present state, or of the snapshot that the options name.
    pub(crate) fn new(db: &Arc<Inner>, options: &RawReadOptions) -> Self {
        // SAFETY: the database is open for as long as `Inner` lives. LevelDB takes what it
        // needs of the options, and the number of the snapshot, at once.
        let cursor = unsafe { (db.library.functions.create_iterator)(db.db, options.options) };
        Self {
            db: Arc::clone(db),
            cursor,
        }
    }

    /// Goes to the first row.
    pub fn seek_to_first(&mut self) {
        // SAFETY: the iterator is ours alone, here and below.
        unsafe { (self.db.library.functions.iter_seek_to_first)(self.cursor) }
    }

    /// Goes to the last row.
    pub fn seek_to_last(&mut self) {
        // SAFETY: as above.
        unsafe { (self.db.library.functions.iter_seek_to_last)(self.cursor) }
    }

    /// Goes to the first row whose key is not below `key`.
    pub fn seek(&mut self, key: &[u8]) {
        let k = key.as_ptr().cast::<c_char>();
        // SAFETY: as above; pointer and length are a slice's.
        unsafe { (self.db.library.functions.iter_seek)(self.cursor, k, key.len()) }
    }

    /// Goes to the next row; from none to none.
    pub fn next(&mut self) {
        if self.is_at_row() {
            // SAFETY: as above; it is at a row, which the call asks for.
            unsafe { (self.db.library.functions.iter_next)(self.cursor) }
        }
    }

    /// Goes to the row before; from none to none.
    pub fn prev(&mut self) {
        if self.is_at_row() {
            // SAFETY: as in `next`.
            unsafe { (self.db.library.functions.iter_prev)(self.cursor) }
        }
    }

    /// Key and value where it is; `None` at no row.
    #[must_use]
    pub fn row(&self) -> Option<(&[u8], &[u8])> {
        if !self.is_at_row() {
            return None;
        }
        let f = &self.db.library.functions;
        let (mut key_len, mut value_len) = (0, 0);
        // SAFETY: it is at a row. The bytes stay where they are until the iterator is moved or
        // destroyed, for which `&mut self` or the value is needed, and both are borrowed.
        unsafe {
            let key = (f.iter_key)(self.cursor, &raw mut key_len);
            let value = (f.iter_value)(self.cursor, &raw mut value_len);
            Some((bytes(key, key_len), bytes(value, value_len)))
        }
    }

    /// Whether all was readable so far.
    ///
    /// # Errors
    ///
    /// The first error on the way, even when rows behind it were shown.
    pub fn status(&self) -> Result<(), Error> {
        let mut message = ptr::null_mut();
        // SAFETY: the iterator is alive, and the message is LevelDB's.
        unsafe {
            (self.db.library.functions.iter_get_error)(self.cursor, &raw mut message);
            Error::take(self.db.library, message)
        }
    }

    fn is_at_row(&self) -> bool {
        // SAFETY: the iterator is alive.
        unsafe { (self.db.library.functions.iter_valid)(self.cursor) != 0 }
    }
}

/// # Safety
///
/// `start` points to `len` bytes that live as long as the caller says, or `len` is zero.
unsafe fn bytes<'a>(start: *const c_char, len: usize) -> &'a [u8] {
    // An empty value may come with any pointer, null included.
    if len == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: made in `new`, dropped once, before the database is closed.
        unsafe { (self.db.library.functions.iter_destroy)(self.cursor) }
    }
}
