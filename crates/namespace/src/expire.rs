// SPDX-License-Identifier: Apache-2.0
//! Removing what has expired, by an ordinary change.

use dulse_store::{Expect, Step, Transaction};
use dulse_types::FullPath;

use crate::{Caller, Error, Namespace};

impl Namespace {
    /// Removes those of the entries that have expired, in one change, and gives how many.
    /// What was written anew since is kept. Who calls this must be the one filer whose turn
    /// it is; twice does no harm.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn expire(&self, paths: &[FullPath]) -> Result<usize, Error> {
        let Some(first) = paths.first() else {
            return Ok(0);
        };
        let caller = Caller::default();
        let change = self.transact(first, &caller, || {
            let now_s = self.now().s;
            let mut transaction = Transaction::default();
            for path in paths {
                let found = self.store.find(path)?;
                let Some(found) = found.filter(|found| found.entry.is_expired(now_s)) else {
                    continue;
                };
                let expect = Expect::Same(path.clone(), found.token);
                transaction.expects.push(expect);
                transaction.steps.push(Step::Delete {
                    path: path.clone(),
                    delete_chunks: true,
                });
            }
            Ok((!transaction.steps.is_empty()).then_some(transaction))
        });
        Ok(change.await?.events.len())
    }
}
