// SPDX-License-Identifier: Apache-2.0
//! A default store, and directories in shared stores beside it ([`crate::Placed`]): one tree.
//!
//! What lies below a location is in its store, where locations lie in one another in that of the
//! longest. All else is in the default store: the locations, what leads to them, and every key. A
//! transaction is made by one of the stores, or refused before anything of it is done. Each tells
//! of its own changes, by its own clock: no entry of the one depends on one of another, since
//! locations neither move nor go.
//!
//! Where all of them have transactions, [`crate::Located`] has one journal and one clock for them
//! instead.
//!
//! Why so, and what else was considered: `docs/decisions/0008-located-stores.md`.

use std::sync::Arc;

use bytes::Bytes;
use dulse_store::{
    Done, EntryStore, Error, ErrorKind, Expect, Found, ListRange, Listed, Operation, Step, Token,
    Transaction,
};
use dulse_types::{FullPath, Origin};

use crate::any::AnyShared;
use crate::backend::Location;
use crate::located::directory;

/// See the module.
pub struct Beside {
    default: Arc<dyn EntryStore>,
    located: Vec<Arc<dyn AnyShared>>,
    /// Locations are found whether their entries are there or not.
    shows_all: bool,
}

/// Which store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Default,
    Located(usize),
}

impl Beside {
    /// - `located`: stores that each have what is below one directory.
    #[must_use]
    pub fn new(default: Arc<dyn EntryStore>, located: Vec<Arc<dyn AnyShared>>) -> Self {
        Self {
            default,
            located,
            shows_all: true,
        }
    }

    /// The same, in which a location is found only where its entry is there.
    #[must_use]
    pub fn as_it_is(mut self) -> Self {
        self.shows_all = false;
        self
    }

    fn locations(&self) -> impl DoubleEndedIterator<Item = (usize, &Location)> {
        let all = self.located.iter().enumerate();
        all.flat_map(|(n, store)| store.locations().iter().map(move |l| (n, l)))
    }

    fn is_location(&self, path: &FullPath) -> bool {
        self.locations().any(|(_, location)| location.path == *path)
    }

    /// Which has the entry at a path.
    fn entry(&self, path: &FullPath) -> Of {
        let above = self.locations().filter(|(_, l)| path.is_below(&l.path));
        let longest = above.max_by_key(|(_, location)| location.path.as_str().len());
        longest.map_or(Of::Default, |(n, _)| Of::Located(n))
    }

    /// Which has what is directly in a directory.
    fn inside(&self, directory: &FullPath) -> Of {
        let location = self.locations().find(|(_, l)| l.path == *directory);
        location.map_or_else(|| self.entry(directory), |(n, _)| Of::Located(n))
    }

    /// Which one makes a transaction.
    ///
    /// ⚠ One of two stores would be made in one of them only.
    fn of(&self, transaction: &Transaction) -> Result<Of, Error> {
        let mut of: Option<(Of, String)> = None;
        let mut belongs = |to: Of, what: &str| match &of {
            None => {
                of = Some((to, what.to_owned()));
                Ok(())
            }
            Some((first, _)) if *first == to => Ok(()),
            Some((_, first)) => {
                let text = format!(
                    "{first} and {what} are in different stores; a change stays within one: copy, \
                     and delete what was copied"
                );
                let error = Error::new(Operation::Commit, ErrorKind::Invalid);
                Err(error.with("because", text))
            }
        };
        for step in &transaction.steps {
            match step {
                Step::Create { path, .. }
                | Step::Update { path, .. }
                | Step::Delete { path, .. } => belongs(self.entry(path), path.as_str())?,
                Step::RestoreInPlace { path, .. } | Step::RestoreCopy { path, .. } => {
                    belongs(Of::Default, "a conflict")?;
                    belongs(self.entry(path), path.as_str())?;
                }
                Step::Rename { from, to } | Step::Link { from, to } => {
                    belongs(self.entry(from), from.as_str())?;
                    belongs(self.entry(to), to.as_str())?;
                }
                Step::Dismiss { .. } => belongs(Of::Default, "a conflict")?,
                Step::KvPut { .. } | Step::KvDelete { .. } => belongs(Of::Default, "a key")?,
            }
        }
        for expect in &transaction.expects {
            match expect {
                Expect::Absent(path) | Expect::Same(path, _) => {
                    belongs(self.entry(path), path.as_str())?;
                }
                // It is there for all: none of ours removes it.
                Expect::Directory(path) if self.is_location(path) => {}
                Expect::Directory(path) => belongs(self.entry(path), path.as_str())?,
                Expect::Empty(path) => belongs(self.inside(path), path.as_str())?,
            }
        }
        Ok(of.map_or(Of::Default, |(of, _)| of))
    }

    fn store(&self, of: Of) -> &dyn EntryStore {
        match of {
            Of::Default => &*self.default,
            Of::Located(n) => &*self.located[n],
        }
    }
}

impl EntryStore for Beside {
    fn find(&self, path: &FullPath) -> Result<Option<Found>, Error> {
        let found = self.store(self.entry(path)).find(path)?;
        // What is in it can be reached, whatever became of it where it was.
        if found.is_none() && self.shows_all && self.is_location(path) {
            return Ok(Some(Found {
                entry: directory(),
                token: Token(0),
                n_links: 1,
            }));
        }
        Ok(found)
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        self.store(self.inside(directory)).list(directory, range)
    }

    fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.default.kv_get(key)
    }

    fn commit(&self, mut transaction: Transaction, done: Done) {
        let of = match self.of(&transaction) {
            Ok(of) => of,
            Err(error) => return done(Err(error)),
        };
        // It shows even where it was lost.
        transaction.expects.retain(|expect| match expect {
            Expect::Directory(path) => !self.is_location(path),
            _ => true,
        });
        self.store(of).commit(transaction, done);
    }

    fn origin(&self) -> Origin {
        self.default.origin()
    }
}

/// Refuses stores that are one: what one of them keeps at `/a` both would show.
///
/// - `default`: the default store, where that is shared.
///
/// # Errors
///
/// `Invalid`.
pub fn check_apart(
    default: Option<&dyn AnyShared>,
    located: &[Arc<dyn AnyShared>],
) -> Result<(), Error> {
    let refused = |text: String| {
        let error = Error::new(Operation::Open, ErrorKind::Invalid);
        Err(error.with("because", text))
    };
    let default_id = default.map(|store| store.origin().0 as u32);
    let locations: Vec<_> = located.iter().flat_map(|s| s.locations()).collect();
    for (n, location) in locations.iter().enumerate() {
        let before = &locations[..n];
        if let Some(one) = before.iter().find(|one| one.path == location.path) {
            return refused(format!(
                "[{}] and [{}] have one location, `{}`",
                one.section, location.section, location.path
            ));
        }
        let same = before.iter().find(|one| one.store_id == location.store_id);
        let same = same.map(|one| one.section.clone());
        let is_default = Some(location.store_id) == default_id;
        if let Some(same) = same.or(is_default.then(|| "the default store".to_owned())) {
            return refused(format!(
                "[{}] is the same store as {same} (store id {}): what one of them keeps at `/a` \
                 would be shown by both; give it a database of its own",
                location.section,
                location.store_id.cast_signed()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
