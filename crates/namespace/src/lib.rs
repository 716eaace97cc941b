// SPDX-License-Identifier: Apache-2.0
//! The tree as clients see it: create, update, append, delete, rename, link, list.
//!
//! Over any [`dulse_store::EntryStore`]; knows no protocol. Reads look at the store,
//! writes are transactions that say what must still hold; when it does not, they look
//! again. Rules and texts are upstream's (`docs/semantics.md` tells where ours differ).

mod append;
mod clock;
mod condition;
mod create;
mod delete;
mod entry;
mod error;
mod expire;
mod locations;
mod parents;
mod rename;
mod restore;
mod rules;
pub mod texts;
mod transact;
mod trees;
mod update;

pub use clock::{Clock, system_clock};
pub use condition::{Clause, ClauseKind, Condition};
pub use create::CreateOptions;
pub use delete::DeleteOptions;
pub use entry::root_entry;
pub use error::{Error, ErrorKind};
pub use rules::{RULES_LEN_MAX, RULES_PATH, Rule, Rules, RulesError};
pub use texts::NOT_FOUND;
pub use trees::Opened;
pub use update::UpdateOptions;

use std::sync::Arc;

use bytes::Bytes;
use dulse_store::{EntryStore, Found, ListRange, Listed, Step, Transaction, Trees};
use dulse_types::{Entry, FullPath, Identity, Origin, Stamp};
use parking_lot::RwLock;

use crate::clock::Moment;
use crate::transact::Queues;

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

/// One page of a listing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Page {
    /// Its rows, expired ones left out.
    pub rows: Vec<Listed>,
    /// Behind which name it goes on; `None` at the end.
    pub next: Option<String>,
}

/// What an operation did: the change's position and its last event, if any.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Change {
    /// Whose log has it, and where: the session token. `None` when there was nothing to do.
    pub position: Option<(Origin, Stamp)>,
    /// Its events, the operation's own last.
    pub events: Vec<Happened>,
    /// What its changes carry in the log when it took several; its stamp lies before theirs.
    pub intent: Option<Identity>,
}

/// The tree. Cheap to clone.
#[derive(Clone)]
pub struct Namespace {
    store: Arc<dyn EntryStore>,
    options: Arc<Options>,
    clock: Clock,
    queues: Queues,
    rules: Arc<RwLock<Arc<Rules>>>,
    /// The store again, when it changes trees itself.
    trees: Option<Arc<dyn Trees>>,
    /// Directories whose entries are in stores of their own.
    locations: Arc<[FullPath]>,
}

impl Namespace {
    /// A namespace over a store, by the system's clock.
    #[must_use]
    pub fn new(store: Arc<dyn EntryStore>, options: Options) -> Self {
        Self::with_clock(store, options, system_clock())
    }

    /// A namespace by another clock.
    #[must_use]
    pub fn with_clock(store: Arc<dyn EntryStore>, options: Options, clock: Clock) -> Self {
        Self {
            store,
            options: Arc::new(options),
            clock,
            queues: Queues::default(),
            rules: Arc::default(),
            trees: None,
            locations: Arc::default(),
        }
    }

    /// Says which directories have their entries in stores of their own: those stay where they
    /// are, and nothing moves from one store to another.
    #[must_use]
    pub fn with_locations(mut self, locations: Vec<FullPath>) -> Self {
        self.locations = locations.into();
        self
    }

    /// Has the store change trees itself. Without it, trees are removed in many changes
    /// that a crash may interrupt, and moved in one change or not at all.
    #[must_use]
    pub fn with_trees(mut self, trees: Arc<dyn Trees>) -> Self {
        self.trees = Some(trees);
        self
    }

    /// Sets the rules that hold from now on, for all clones.
    pub fn set_rules(&self, rules: Rules) {
        *self.rules.write() = Arc::new(rules);
    }

    /// What the rules say of a path; `None` when none names it.
    #[must_use]
    pub fn rule_of(&self, path: &str) -> Option<Rule> {
        let rules = Arc::clone(&self.rules.read());
        rules.of(path)
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::of((self.clock)())
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
            .ok_or_else(Error::not_found)
    }

    /// The same with the store's token; `None` when nothing is there.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn find_opt(&self, path: &FullPath) -> Result<Option<Found>, Error> {
        let found = self.store.find(path)?;
        Ok(found.filter(|found| !found.entry.is_expired(self.now().s)))
    }

    /// Lists a directory in byte order of names, expired entries left out.
    ///
    /// # Errors
    ///
    /// The store's. A missing directory or a file is an empty list.
    pub fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        let mut out = Vec::new();
        let mut range = range.clone();
        let wanted = range.limit;
        while out.len() < wanted {
            range.limit = wanted - out.len();
            let page = self.page(directory, &range)?;
            out.extend(page.rows);
            match page.next {
                Some(next) => range.start = next,
                None => break,
            }
            range.inclusive = false;
        }
        Ok(out)
    }

    /// Reads one page of a listing: at most `limit` names are looked at, so that its cost
    /// is bounded however many of them have expired.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn page(&self, directory: &FullPath, range: &ListRange) -> Result<Page, Error> {
        let limit = range.limit.clamp(1, dulse_store::LIST_MAX);
        let now_s = self.now().s;
        let read;
        let range = if limit == range.limit {
            range
        } else {
            read = ListRange {
                limit,
                ..range.clone()
            };
            &read
        };
        let mut rows = self.store.list(directory, range)?;
        let last = rows.last().filter(|_| rows.len() >= limit);
        let next = last.map(|row| row.name.clone());
        rows.retain(|row| !row.entry.is_expired(now_s));
        Ok(Page { rows, next })
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
            position: Some((commit.origin, commit.stamp)),
            ..Change::default()
        })
    }

    /// Checks a name's length; the path's own shape is checked by its type.
    fn check_name(&self, path: &FullPath) -> Result<(), Error> {
        let max = self.options.name_len_max;
        if path.name().len() <= max {
            return Ok(());
        }
        let rule = self.rule_of(path.as_str());
        let raised = rule.map_or(0, |rule| rule.max_file_name_length as usize);
        if path.name().len() > raised {
            return Err(Error::of(ErrorKind::NameTooLong, texts::NAME_TOO_LONG));
        }
        Ok(())
    }
}
