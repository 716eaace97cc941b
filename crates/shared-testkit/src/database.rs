// SPDX-License-Identifier: Apache-2.0
//! A real server that filers are started on, and the stores on it.

use anyhow::Result;

/// A server under test, or one that is measured.
pub trait Database: Send + Sized + 'static {
    /// The sections of `filer.toml` that name it; cases that need one take the first.
    const SECTIONS: &'static [&'static str];

    /// What it is, and by which of its settings [`Database::start_synced`] syncs; for people.
    const SYNCED: &'static str;

    /// Starts it as tests need it, in a directory of its own. What it has acknowledged outlives
    /// its process; whether it outlives a machine does not matter to them.
    ///
    /// # Errors
    ///
    /// When there is none on this machine, or it does not start.
    fn start() -> Result<Self>;

    /// Starts it so that it syncs what it acknowledges to a disk first, in a directory of its own.
    ///
    /// # Errors
    ///
    /// When there is none on this machine, or it does not start.
    fn start_synced() -> Result<Self>;

    /// An empty store on it.
    ///
    /// - `section`: one of [`Database::SECTIONS`].
    /// - `name`: stores of different names have nothing in common.
    ///
    /// # Errors
    ///
    /// When the server does not make it.
    fn make(&self, section: &str, name: &str) -> Result<Place>;

    /// Whether a store has an entry, expired or not.
    ///
    /// # Errors
    ///
    /// When the server does not say.
    fn has_row(&self, place: &Place, directory: &str, name: &str) -> Result<bool>;

    /// Ends the server at once, as if its power were cut.
    ///
    /// # Errors
    ///
    /// When it cannot be ended.
    fn kill(&mut self) -> Result<()>;

    /// Starts it on what it left, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    fn start_again(&mut self) -> Result<()>;
}

/// A store on a server.
pub struct Place {
    /// Its section of `filer.toml`, with all keys that upstream's filer needs, too.
    pub toml: String,
    /// What the status shows of it.
    pub shown: String,
    /// What the server calls it.
    pub database: String,
}
