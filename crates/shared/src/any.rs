// SPDX-License-Identifier: Apache-2.0
//! A shared store whatever its database: what a filer uses.

use dulse_store::{EntryStore, Error};
use dulse_types::Stamp;
use tokio::sync::watch;

use crate::backend::Location;
use crate::log::Announcement;

/// An entry store that tells of what this filer did. [`crate::SharedStore`] is one over any
/// [`crate::Backend`]. Reads and promises block as those of [`EntryStore`] do.
pub trait AnyShared: EntryStore {
    /// The section of `filer.toml` that it is configured by, such as `postgres`.
    fn name(&self) -> &'static str;

    /// Refuses every transaction from now on and waits for those under way, some seconds at
    /// most. Blocks. False when something may still be made or told: the filer does not say then
    /// that it stops, and the others wait for it as for one that was killed.
    fn seal(&self) -> bool;

    /// Whether the store was made when this filer opened it: nothing happened on it before.
    fn is_new(&self) -> bool;

    /// Refuses from now on every change that needs a key, as those of hard links do: the keys of
    /// the tree are elsewhere.
    fn keep_no_keys(&self);

    /// Directories whose entries are in stores of their own.
    fn locations(&self) -> &[Location];

    /// What this filer did, behind a stamp and in order, up to about `max_bytes`; empty at the
    /// end. Cost: reads that much of the journal.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn announcements(&self, after: Stamp, max_bytes: usize) -> Result<Vec<Announcement>, Error>;

    /// Told the stamp of each announcement once it can be read.
    fn announced(&self) -> watch::Receiver<Stamp>;

    /// No later announcement of this filer has a stamp at or below it. Asks the database.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the database does not answer.
    fn promise(&self) -> Result<Stamp, Error>;

    /// The same without asking: at least `seen`, unless something that is under way may be
    /// announced below it. Of `seen` the database's clock must have been at or above before the
    /// call, as it was of every stamp and promise of every filer on this store.
    fn promise_from(&self, seen: Stamp) -> Stamp;

    /// Drops announcements that are older than `oldest`, and the oldest above a budget; gives
    /// how many bytes that freed.
    ///
    /// # Errors
    ///
    /// `Io`.
    fn trim(&self, oldest: Stamp, budget_bytes: u64) -> Result<u64, Error>;

    /// What the journal takes on disk, in bytes.
    fn journal_bytes(&self) -> u64;

    /// Changes that were begun and of which the database has not said yet what became of them: it
    /// went away. They are ended when it answers.
    fn n_unsettled(&self) -> usize;

    /// Whether the journal could not be written: no change is taken until a restart.
    fn journal_failed(&self) -> bool;
}
