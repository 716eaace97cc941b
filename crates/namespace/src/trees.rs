// SPDX-License-Identifier: Apache-2.0
//! Directories, moved and removed by a store that changes trees itself.

use std::sync::Arc;

use dulse_store::{Expect, Step, TreeChange, TreeCommit, TreeWork, Trees};
use dulse_types::{FullPath, Identity, Origin};

use crate::transact::{RETRIES_MAX, happened, lost};
use crate::{Caller, Change, DeleteOptions, Error, ErrorKind, Namespace};

/// Called when a change of a whole tree is to take several, before the first: with what those
/// carry in the log, behind its stamp. Must not block.
pub type Opened = Arc<dyn Fn(Identity) + Send + Sync>;

impl Namespace {
    pub(crate) async fn rename_tree(
        &self,
        trees: &Arc<dyn Trees>,
        from: &FullPath,
        to: &FullPath,
        caller: &Caller,
        opened: Option<Opened>,
    ) -> Result<Change, Error> {
        let done = self.transact_tree(trees, from, caller, opened, || {
            let Some(mut before) = self.rename_on(from, to)? else {
                return Ok(None);
            };
            // The move itself is what the store does.
            before.steps.pop();
            Ok(Some(TreeChange {
                before,
                path: from.clone(),
                work: TreeWork::Move { to: to.clone() },
            }))
        });
        let Some(done) = done.await? else {
            return Ok(Change::default());
        };
        if let Some(refused) = &done.refused {
            let n_left = done.n_left;
            let message = format!("{n_left} names stay below {from}: {refused}; rename it again");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let step = Step::Rename {
            from: from.clone(),
            to: to.clone(),
        };
        Ok(change(self.origin(), step, done))
    }

    pub(crate) async fn delete_tree(
        &self,
        trees: &Arc<dyn Trees>,
        path: &FullPath,
        options: &DeleteOptions,
    ) -> Result<Change, Error> {
        let delete_chunks = !options.keep_chunks;
        let done = self.transact_tree(trees, path, &options.caller, None, || {
            let Some(found) = self.store.find(path)? else {
                return Ok(None);
            };
            let mut before = dulse_store::Transaction::default();
            before.expects.push(Expect::Same(path.clone(), found.token));
            Ok(Some(TreeChange {
                before,
                path: path.clone(),
                work: TreeWork::Delete { delete_chunks },
            }))
        });
        let Some(done) = done.await? else {
            return Ok(Change::default());
        };
        if done.n_left > 0 {
            return Err(Error::not_empty(path));
        }
        let path = path.clone();
        let step = Step::Delete {
            path,
            delete_chunks,
        };
        Ok(change(self.origin(), step, done))
    }

    /// As [`Namespace::transact`], for a whole tree. It is done to its end though the caller
    /// goes away.
    async fn transact_tree(
        &self,
        trees: &Arc<dyn Trees>,
        path: &FullPath,
        caller: &Caller,
        opened: Option<Opened>,
        build: impl Fn() -> Result<Option<TreeChange>, Error>,
    ) -> Result<Option<TreeCommit>, Error> {
        let mut waited = None;
        for _ in 0..RETRIES_MAX {
            let Some(mut change) = build()? else {
                return Ok(None);
            };
            change.before.signatures.clone_from(&caller.signatures);
            change.before.is_from_other_cluster = caller.is_from_other_cluster;
            let (answer, answered) = tokio::sync::oneshot::channel();
            let done = Box::new(move |result| drop(answer.send(result)));
            let opened = opened.clone();
            let opened = Box::new(move |intent| {
                if let Some(opened) = opened {
                    opened(intent);
                }
            });
            trees.change_tree(change, opened, done);
            let answered = answered.await.unwrap_or_else(|_| {
                let (operation, kind) = (
                    dulse_store::Operation::Commit,
                    dulse_store::ErrorKind::Unavailable,
                );
                Err(dulse_store::Error::new(operation, kind).unknown_outcome())
            });
            match answered {
                Ok(done) => return Ok(Some(done)),
                Err(error) if error.kind() == dulse_store::ErrorKind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
            if waited.is_none() {
                waited = Some(self.queues.of(path).lock().await);
            }
        }
        Err(lost())
    }
}

fn change(origin: Origin, step: Step, done: TreeCommit) -> Change {
    let top = done.top.and_then(|top| happened(step, top));
    Change {
        position: Some((origin, done.stamp)),
        events: top.into_iter().collect(),
        intent: done.intent,
    }
}
