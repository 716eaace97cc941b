// SPDX-License-Identifier: Apache-2.0
//! What subscribers are fed from: a replica's journal, or the announcements of the filers on a
//! shared store; and those on directories' own stores beside that.

use std::sync::Arc;

use dulse_replica::Shared;
use dulse_store::{EntryStore, Error, ListRange, Listed};
use dulse_types::{FullPath, Origin, Stamp, Vector};

use super::log::{Page, read_replica};
use super::replay::is_older_than_log;
use crate::shared::OnShared;

/// Changes of all filers, and the tree in place of those that are no longer kept.
pub(crate) trait Source: Send + Sync {
    /// Who stamps the changes made here.
    fn origin(&self) -> Origin;

    /// Changes of an origin behind `after` and at or below `until`, which is on disk here;
    /// about `max_bytes` of them.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn read(
        &self,
        origin: Origin,
        after: Stamp,
        until: Stamp,
        max_bytes: usize,
    ) -> Result<Page, Error>;

    /// What can be read of every origin.
    fn durable(&self) -> Vector;

    /// Lists one directory as it is.
    ///
    /// # Errors
    ///
    /// The store's.
    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error>;

    /// Whether events at or above `since` may be missing here.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn is_older_than_log(&self, since: Stamp, is_local: bool) -> Result<bool, Error>;
}

impl Source for Shared {
    fn origin(&self) -> Origin {
        Shared::origin(self)
    }

    fn read(
        &self,
        origin: Origin,
        after: Stamp,
        until: Stamp,
        max_bytes: usize,
    ) -> Result<Page, Error> {
        read_replica(self, origin, after, until, max_bytes)
    }

    fn durable(&self) -> Vector {
        self.durable_vector()
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        Shared::list(self, directory, range)
    }

    fn is_older_than_log(&self, since: Stamp, is_local: bool) -> Result<bool, Error> {
        is_older_than_log(self, since, is_local)
    }
}

/// A default store's changes, and those of directories in stores of their own.
pub(crate) struct Beside {
    /// Of the default store.
    pub(crate) default: Arc<dyn Source>,
    /// Of the others.
    pub(crate) located: Vec<Arc<OnShared>>,
    /// The tree of all.
    pub(crate) tree: Arc<dyn EntryStore>,
}

impl Source for Beside {
    fn origin(&self) -> Origin {
        self.default.origin()
    }

    fn read(
        &self,
        origin: Origin,
        after: Stamp,
        until: Stamp,
        max_bytes: usize,
    ) -> Result<Page, Error> {
        match self.located.iter().find(|on| on.is_on_it(origin)) {
            Some(on) => on.read(origin, after, until, max_bytes),
            None => self.default.read(origin, after, until, max_bytes),
        }
    }

    fn durable(&self) -> Vector {
        let mut all = self.default.durable();
        for on in &self.located {
            all.merge_max(&on.readable());
        }
        all
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        self.tree.list(directory, range)
    }

    fn is_older_than_log(&self, since: Stamp, is_local: bool) -> Result<bool, Error> {
        let mut is_older = self.default.is_older_than_log(since, is_local)?;
        for on in &self.located {
            is_older |= on.is_older_than_log(since, is_local)?;
        }
        Ok(is_older)
    }
}
