// SPDX-License-Identifier: Apache-2.0
//! Directories in stores of their own, beside a default store: one tree over several databases.
//!
//! A location's entries are kept as upstream keeps them, by their paths below it: `/tmp/a` is
//! `/a` in the store of `/tmp`. The location itself is an entry of the default store, as are all
//! keys. Where locations lie in one another, the longest counts.
//!
//! A transaction is made in one database or refused: nothing would make two of them agree. What
//! is made in any of them takes its time from the default store's clock while it is held, so that
//! stamps of all are in one order, as if there were one database.
//!
//! Why so, and what else was considered: `docs/decisions/0008-located-stores.md`.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, Expect, ListRange, Operation, Step, Transaction};
use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{Entry, EntryFields, FullPath, UnknownFields};

use crate::backend::{Backend, Guard, Held, Location, Settled, Work, Write};
use crate::erased::Erased;
use crate::store::store_id;
use crate::value;

/// Mode of a location that nobody made.
const MODE: u32 = MODE_DIRECTORY | 0o755;

/// A location and its database, before it is known what store that is.
pub struct Place {
    /// The directory.
    pub path: FullPath,
    /// Section of `filer.toml`, such as `redis2.tmp`.
    pub section: String,
    /// Its database.
    pub backend: Erased,
}

/// See the module.
pub struct Located {
    default: Erased,
    /// In the order of their paths, as [`Located::locations`].
    stores: Vec<Erased>,
    locations: Vec<Location>,
    /// Whether opening them made all of them.
    pub(crate) is_new: bool,
    /// Locations show even where the default store has lost their entries.
    shows_all: AtomicBool,
}

/// Which store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Default,
    Location(usize),
}

impl Located {
    /// Learns what store each location is on, or makes it one.
    ///
    /// - `random`: 64 random bits, for ids of new stores.
    ///
    /// # Errors
    ///
    /// `Invalid` where two of the stores are one or two locations are one, those of the databases.
    pub async fn of(default: Erased, mut places: Vec<Place>, random: u64) -> Result<Self, Error> {
        let (own, is_new) = store_id(&default, random).await?;
        places.sort_by(|a, b| a.path.cmp(&b.path));
        let mut located = Self {
            default,
            stores: Vec::new(),
            locations: Vec::<Location>::new(),
            is_new,
            shows_all: AtomicBool::new(false),
        };
        for (n, place) in places.into_iter().enumerate() {
            // Every store that is made here gets an id of its own.
            let bits = random.wrapping_add((n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (id, is_new) = store_id(&place.backend, bits).await?;
            located.is_new &= is_new;
            let same = located.locations.iter().find(|one| one.store_id == id);
            let same = same.map(|one| one.section.clone());
            let same = same.or_else(|| (id == own).then(|| "the default store".to_owned()));
            if let Some(same) = same {
                let text = format!(
                    "[{}] is the same store as {same} (store id {}): what one of them keeps at \
                     `/a` would be shown by both; give it a database of its own",
                    place.section,
                    id.cast_signed()
                );
                return Err(refused(Operation::Open, text));
            }
            if let Some(one) = located.locations.iter().find(|one| one.path == place.path) {
                let text = format!(
                    "[{}] and [{}] have one location, `{}`",
                    one.section, place.section, place.path
                );
                return Err(refused(Operation::Open, text));
            }
            located.locations.push(Location {
                path: place.path,
                section: place.section,
                store_id: id,
            });
            located.stores.push(place.backend);
        }
        Ok(located)
    }

    /// What makes the first location that is not there yet, and the directories above it; none
    /// when all are there. It is of one store: locations come behind those that they lie in.
    ///
    /// # Errors
    ///
    /// `Invalid` where a file is in the place of one, those of the database.
    pub(crate) async fn missing(&self) -> Result<Option<Transaction>, Error> {
        for location in &self.locations {
            let mut above = vec![location.path.clone()];
            while let Some(dir) = above[above.len() - 1].parent().filter(|dir| !dir.is_root()) {
                above.push(dir);
            }
            let mut transaction = Transaction::default();
            for path in above.into_iter().rev() {
                match self.get(&path).await? {
                    None => {
                        transaction.expects.push(Expect::Absent(path.clone()));
                        let entry = directory();
                        transaction.steps.push(Step::Create { path, entry });
                    }
                    Some(value) if crate::plan::is_directory(value.clone()) => {}
                    Some(_) => {
                        let text = format!(
                            "`{path}` is a file; [{}] needs a directory at `{}`",
                            location.section, location.path
                        );
                        return Err(refused(Operation::Open, text));
                    }
                }
            }
            if !transaction.steps.is_empty() {
                return Ok(Some(transaction));
            }
        }
        Ok(None)
    }

    /// From now on every location shows, whatever others do to its entry in the default store.
    pub(crate) fn show_all(&self) {
        self.shows_all.store(true, Ordering::SeqCst);
    }

    /// Which store an entry is in, and its path there.
    fn at(&self, path: &FullPath) -> Result<(Of, FullPath), Error> {
        // Behind their parents: the last that fits is the longest.
        let fits = |location: &Location| path.is_below(&location.path);
        match self.locations.iter().rposition(fits) {
            None => Ok((Of::Default, path.clone())),
            Some(n) => {
                let above = self.locations[n].path.as_str().len();
                let inside = FullPath::parse(&path.as_str()[above..]);
                let wrong = |e| Error::new(Operation::Find, ErrorKind::Invalid).source(e);
                Ok((Of::Location(n), inside.map_err(wrong)?))
            }
        }
    }

    /// Which store has what is directly in a directory, and its path there.
    fn inside(&self, directory: &FullPath) -> Result<(Of, FullPath), Error> {
        match self.locations.iter().position(|l| l.path == *directory) {
            Some(n) => Ok((Of::Location(n), FullPath::root())),
            None => self.at(directory),
        }
    }

    fn is_location(&self, path: &FullPath) -> bool {
        self.locations.iter().any(|location| location.path == *path)
    }

    fn store(&self, of: Of) -> &Erased {
        match of {
            Of::Default => &self.default,
            Of::Location(n) => &self.stores[n],
        }
    }

    fn text(&self, of: Of) -> String {
        match of {
            Of::Default => "the default store".to_owned(),
            Of::Location(n) => format!("[{}]", self.locations[n].section),
        }
    }

    /// The one store that work is of, and the work there.
    ///
    /// ⚠ Work of two stores would be made in one of them only.
    fn split(&self, work: &Work) -> Result<(Of, Work), Error> {
        let mut of: Option<(Of, String)> = None;
        let mut belongs = |to: Of, what: String| match &of {
            None => {
                of = Some((to, what));
                Ok(())
            }
            Some((first, _)) if *first == to => Ok(()),
            Some((first, where_)) => {
                let text = format!(
                    "{where_} is in {}, and {what} in {}; a change stays within one store: copy, \
                     and delete what was copied",
                    self.text(*first),
                    self.text(to)
                );
                Err(refused(Operation::Commit, text))
            }
        };
        let mut guards = Vec::with_capacity(work.guards.len());
        for guard in &work.guards {
            let (to, there) = match guard {
                // It is there: none of ours removes it.
                Guard::Directory(path) if self.is_location(path) => continue,
                Guard::Directory(path) => {
                    let (to, path) = self.at(path)?;
                    (to, Guard::Directory(path))
                }
                Guard::Absent(path) => {
                    let (to, path) = self.at(path)?;
                    (to, Guard::Absent(path))
                }
                Guard::Same(path, value) => {
                    let (to, path) = self.at(path)?;
                    (to, Guard::Same(path, value.clone()))
                }
                Guard::Names(path, n) => {
                    let (to, path) = self.inside(path)?;
                    (to, Guard::Names(path, *n))
                }
                Guard::Key(..) => (Of::Default, guard.clone()),
            };
            belongs(to, named(guard))?;
            guards.push(there);
        }
        let mut writes = Vec::with_capacity(work.writes.len());
        for write in &work.writes {
            let (to, there) = match write {
                Write::Insert(path, value) => {
                    let (to, path) = self.at(path)?;
                    (to, Write::Insert(path, value.clone()))
                }
                Write::Replace(path, value) => {
                    let (to, path) = self.at(path)?;
                    (to, Write::Replace(path, value.clone()))
                }
                Write::Remove(path) | Write::RemoveDirectory(path) if self.is_location(path) => {
                    let text = format!("another store begins at {path}: it cannot be removed");
                    return Err(refused(Operation::Commit, text));
                }
                Write::Remove(path) => {
                    let (to, path) = self.at(path)?;
                    (to, Write::Remove(path))
                }
                Write::RemoveDirectory(path) => {
                    let (to, path) = self.at(path)?;
                    (to, Write::RemoveDirectory(path))
                }
                Write::PutKey(..) | Write::RemoveKey(..) => (Of::Default, write.clone()),
            };
            belongs(to, "what is written".to_owned())?;
            writes.push(there);
        }
        let of = of.map_or(Of::Default, |(of, _)| of);
        let ticket = work.ticket;
        Ok((
            of,
            Work {
                ticket,
                guards,
                writes,
            },
        ))
    }
}

impl Backend for Located {
    fn name(&self) -> &'static str {
        self.default.name()
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        let (of, inside) = self.at(path)?;
        let found = self.store(of).get(&inside).await?;
        if found.is_none() && self.shows_all.load(Ordering::SeqCst) && self.is_location(path) {
            return Ok(Some(value::encode(&directory())));
        }
        Ok(found)
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let (of, inside) = self.inside(directory)?;
        self.store(of).list(&inside, range).await
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.default.kv_get(key).await
    }

    async fn apply(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        match self.split(work)? {
            (Of::Default, work) => self.default.apply(&work, held).await,
            (of, work) => {
                // ⚠ Not its own clock: stamps of all stores are of one. Asked while it is held.
                let asked: &Held<'_> = &|_| {
                    Box::pin(async {
                        let clock_ns = self.default.clock_ns().await?;
                        held(clock_ns).await
                    })
                };
                self.store(of).apply(&work, asked).await
            }
        }
    }

    async fn settle(&self, ticket: i64, path: Option<&FullPath>) -> Result<Settled, Error> {
        let Some(path) = path else {
            return self.default.settle(ticket, None).await;
        };
        let (of, path) = self.at(path)?;
        self.store(of).settle(ticket, Some(&path)).await
    }

    async fn clock_ns(&self) -> Result<i64, Error> {
        self.default.clock_ns().await
    }

    fn locations(&self) -> &[Location] {
        &self.locations
    }
}

fn refused(operation: Operation, text: String) -> Error {
    Error::new(operation, ErrorKind::Invalid).with("because", text)
}

/// What a guard looks at, for people.
fn named(guard: &Guard) -> String {
    match guard {
        Guard::Absent(path) | Guard::Same(path, _) => format!("{path}"),
        Guard::Directory(path) => format!("the directory {path}"),
        Guard::Names(path, _) => format!("what is in {path}"),
        Guard::Key(..) => "what hard links share, or a key,".to_owned(),
    }
}

pub(crate) fn directory() -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = MODE;
    fields.to_entry(&UnknownFields::default())
}

#[cfg(test)]
pub(crate) mod tests;
