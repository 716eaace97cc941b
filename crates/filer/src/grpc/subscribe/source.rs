// SPDX-License-Identifier: Apache-2.0
//! What subscribers are fed from: a replica's journal, or the announcements of the filers on a
//! shared store.

use dulse_replica::Shared;
use dulse_store::{Error, ListRange, Listed};
use dulse_types::{FullPath, Origin, Stamp, Vector};

use super::log::{Page, read_replica};
use super::replay::is_older_than_log;

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
