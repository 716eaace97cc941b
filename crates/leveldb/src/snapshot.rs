// SPDX-License-Identifier: Apache-2.0
//! One state of a database.

use std::sync::Arc;

use crate::db::Inner;
use crate::raw::Object;

/// One state of a database, for as long as it lives. It keeps the database open.
pub struct Snapshot {
    pub(crate) db: Arc<Inner>,
    pub(crate) snapshot: Object,
}

// SAFETY: LevelDB guards its list of snapshots with the database's mutex; a snapshot itself is
// a number that never changes.
unsafe impl Send for Snapshot {}
// SAFETY: as above.
unsafe impl Sync for Snapshot {}

impl Snapshot {
    pub(crate) fn new(db: &Arc<Inner>) -> Self {
        // SAFETY: the database is open for as long as `Inner` lives.
        let snapshot = unsafe { (db.library.functions.create_snapshot)(db.db) };
        Self {
            db: Arc::clone(db),
            snapshot,
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // SAFETY: taken of this database, which is still open; released once.
        unsafe { (self.db.library.functions.release_snapshot)(self.db.db, self.snapshot) }
    }
}
