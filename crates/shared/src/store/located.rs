// SPDX-License-Identifier: Apache-2.0
//! Opening a store of which directories are in stores of their own.

use std::future::Future;
use std::sync::Arc;

use dulse_store::{Error, ErrorKind};

use super::{SharedOptions, SharedStore};
use crate::located::Located;

/// Times that others may be faster in making locations.
const CONFLICTS_MAX: u32 = 32;

impl SharedStore<Located> {
    /// Opens a store of which directories are in stores of their own; makes those directories
    /// where they are missing, as any change is made.
    ///
    /// # Errors
    ///
    /// As [`SharedStore::open`], and those of [`Located::of`].
    pub fn open_located<F>(
        options: &SharedOptions,
        connect: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Self, Error>
    where
        F: Future<Output = Result<Located, Error>> + Send + 'static,
    {
        let mut store = Self::open(options, connect)?;
        store.is_new = store.committer.backend.is_new;
        let committer = Arc::clone(&store.committer);
        store.ask(async move {
            let mut n_conflicts = 0;
            while let Some(transaction) = committer.backend.missing().await? {
                match committer.commit(&transaction).await {
                    // Another filer makes it.
                    Err(error)
                        if error.kind() == ErrorKind::Conflict && n_conflicts < CONFLICTS_MAX =>
                    {
                        n_conflicts += 1;
                    }
                    made => drop(made?),
                }
            }
            committer.backend.show_all();
            Ok(())
        })?;
        Ok(store)
    }
}
