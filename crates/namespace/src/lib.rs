// SPDX-License-Identifier: Apache-2.0
//! The tree as clients see it: create, update, append, delete, rename, link, list.
//!
//! Over any [`dulse_store::EntryStore`]; knows no protocol. Reads look at the store,
//! writes are transactions that say what must still hold; when it does not, they look
//! again. Rules and texts are upstream's (`docs/semantics.md` tells where ours differ).

mod condition;
mod create;
mod delete;
mod entry;
mod error;
mod rename;
mod update;

pub use condition::{Clause, ClauseKind, Condition};
pub use create::CreateOptions;
pub use delete::DeleteOptions;
pub use entry::{etag, is_expired, root_entry};
pub use error::{Error, ErrorKind, NOT_FOUND};
pub use update::UpdateOptions;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dulse_store::{Commit, EntryStore, Found, ListRange, Listed, Step, StepResult, Transaction};
use dulse_types::{Entry, FullPath, Origin, Stamp};

/// Times an operation looks again after its expectations failed.
const RETRIES_MAX: usize = 64;

/// Longest key of the key-value space, in bytes.
const KV_KEY_LEN_MAX: usize = 4096;

/// Settings of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Longest name of an entry, in bytes.
    pub name_len_max: usize,
    /// The folder whose children are buckets, such as `/buckets`.
    pub buckets_folder: String,
    /// Owner of what is made without one: user and group of the process.
    pub owner: (u32, u32),
}

/// Who asked, as far as events tell.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Caller {
    /// Signatures the change has passed.
    pub signatures: Vec<i32>,
    /// Whether another cluster made it.
    pub is_from_other_cluster: bool,
}

/// One event of a change, as responses carry it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happened {
    /// When.
    pub stamp: Stamp,
    /// Where the entry was, unless it is new.
    pub old: Option<(FullPath, Entry)>,
    /// Where it is, unless it is gone.
    pub new: Option<(FullPath, Entry)>,
    /// Whether a subscriber may drop the old chunks.
    pub delete_chunks: bool,
}

/// What an operation did: the change's position and its last event, if any.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Change {
    /// Position in this filer's log: the session token.
    pub stamp: Option<Stamp>,
    /// Its events, the operation's own last.
    pub events: Vec<Happened>,
}

/// The tree. Cheap to clone.
#[derive(Clone)]
pub struct Namespace {
    store: Arc<dyn EntryStore>,
    options: Arc<Options>,
}

impl Namespace {
    /// A namespace over a store.
    #[must_use]
    pub fn new(store: Arc<dyn EntryStore>, options: Options) -> Self {
        Self {
            store,
            options: Arc::new(options),
        }
    }

    /// Settings.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Who stamps the changes made here.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.store.origin()
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn EntryStore> {
        &self.store
    }

    /// The entry at a path, expired ones hidden; the root is made up.
    ///
    /// # Errors
    ///
    /// `NotFound`, or the store's.
    pub fn find(&self, path: &FullPath) -> Result<Entry, Error> {
        if path.is_root() {
            return Ok(root_entry(&self.options));
        }
        self.find_opt(path)?
            .map(|found| found.entry)
            .ok_or_else(|| Error::not_found(path))
    }

    /// The same with the store's token; `None` when nothing is there.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn find_opt(&self, path: &FullPath) -> Result<Option<Found>, Error> {
        let found = self.store.find(path)?;
        Ok(found.filter(|found| !is_expired(&found.entry, now_s())))
    }

    /// Lists a directory in byte order of names, expired entries left out.
    ///
    /// # Errors
    ///
    /// The store's. A missing directory or a file is an empty list.
    pub fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        let now = now_s();
        let mut out = Vec::new();
        let mut range = range.clone();
        let wanted = range.limit;
        while out.len() < wanted {
            range.limit = (wanted - out.len()).min(dulse_store::LIST_MAX);
            let rows = self.store.list(directory, &range)?;
            let is_end = rows.len() < range.limit;
            if let Some(last) = rows.last() {
                range.start.clone_from(&last.name);
                range.inclusive = false;
            }
            out.extend(rows.into_iter().filter(|row| !is_expired(&row.entry, now)));
            if is_end {
                break;
            }
        }
        Ok(out)
    }

    /// Reads a key; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.store.kv_get(key)?)
    }

    /// Sets a key; an empty value removes it.
    ///
    /// # Errors
    ///
    /// `Invalid` for keys above 4 KiB, or the store's.
    pub async fn kv_put(&self, key: Bytes, value: Bytes) -> Result<Change, Error> {
        if key.len() > KV_KEY_LEN_MAX {
            return Err(Error::invalid(format!(
                "key longer than {KV_KEY_LEN_MAX} bytes"
            )));
        }
        let step = if value.is_empty() {
            Step::KvDelete { key }
        } else {
            Step::KvPut { key, value }
        };
        let transaction = Transaction {
            steps: vec![step],
            ..Transaction::default()
        };
        let commit = self.commit(transaction).await?;
        Ok(Change {
            stamp: Some(commit.stamp),
            events: Vec::new(),
        })
    }

    /// Checks a name's length; the path's own shape is checked by its type.
    fn check_name(&self, path: &FullPath) -> Result<(), Error> {
        let max = self.options.name_len_max;
        if path.name().len() > max {
            return Err(Error::new(
                ErrorKind::NameTooLong,
                "entry name too long".to_owned(),
            ));
        }
        Ok(())
    }

    async fn commit(&self, transaction: Transaction) -> Result<Commit, dulse_store::Error> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.store.commit(
            transaction,
            Box::new(move |result| drop(answer.send(result))),
        );
        answered.await.unwrap_or_else(|_| {
            let kind = dulse_store::ErrorKind::Unavailable;
            Err(dulse_store::Error::new(dulse_store::Operation::Commit, kind).unknown_outcome())
        })
    }

    /// Builds a transaction from what is there now and commits it; when something changed
    /// meanwhile, builds it again. `None` means there is nothing to do.
    async fn transact(
        &self,
        caller: &Caller,
        build: impl Fn() -> Result<Option<Transaction>, Error>,
    ) -> Result<Change, Error> {
        for _ in 0..RETRIES_MAX {
            let Some(mut transaction) = build()? else {
                return Ok(Change::default());
            };
            transaction.signatures.clone_from(&caller.signatures);
            transaction.is_from_other_cluster = caller.is_from_other_cluster;
            let steps = transaction.steps.clone();
            match self.commit(transaction).await {
                Ok(commit) => return Ok(change(&steps, commit)),
                Err(error) if error.kind() == dulse_store::ErrorKind::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "too many concurrent changes, try again".into(),
        ))
    }
}

fn change(steps: &[Step], commit: Commit) -> Change {
    let events = steps
        .iter()
        .zip(commit.results)
        .filter_map(|(step, result)| {
            let StepResult {
                stamp,
                old_entry,
                new_entry,
            } = result;
            let at = |path: &FullPath, entry: Option<Entry>| entry.map(|e| (path.clone(), e));
            let (old, new, delete_chunks) = match step {
                Step::Create { path, .. } => (None, at(path, new_entry), true),
                Step::Update {
                    path,
                    delete_chunks,
                    ..
                } => (at(path, old_entry), at(path, new_entry), *delete_chunks),
                Step::Rename { from, to } => (at(from, old_entry), at(to, new_entry), false),
                Step::Delete {
                    path,
                    delete_chunks,
                } => (at(path, old_entry), None, *delete_chunks),
                Step::Link { to, .. } => (None, at(to, new_entry), false),
                Step::KvPut { .. } | Step::KvDelete { .. } => return None,
            };
            Some(Happened {
                stamp,
                old,
                new,
                delete_chunks,
            })
        });
    Change {
        stamp: Some(commit.stamp),
        events: events.collect(),
    }
}

/// Seconds since 1970.
fn now_s() -> i64 {
    now().0
}

/// Seconds since 1970 and the nanoseconds of the present one.
fn now() -> (i64, i32) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (
        since.as_secs().cast_signed(),
        since.subsec_nanos().cast_signed(),
    )
}
