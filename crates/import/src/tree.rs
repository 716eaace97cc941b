// SPDX-License-Identifier: Apache-2.0
//! A store as a tree, walked from its root; then what the walk did not come upon.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use dulse_types::{Entry, FullPath};

use crate::item::{Item, SourceError};
use crate::value::{decode_value, is_hard_link, is_local_key};

/// Directories of which is remembered whether the walk came upon them.
const REACHED_MAX: usize = 100_000;

/// What has a table or a database of its own is below it: upstream's `buckets_folder` moves the
/// buckets and not this.
pub(crate) const BUCKETS: &str = "/buckets/";

/// A name as its bytes are, and its value.
pub type Child = (Bytes, Bytes);

/// A row, as it lies in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Row {
    /// An entry whose path the row tells.
    Entry {
        /// Its directory, as its bytes are.
        directory: Bytes,
        /// Its name, as its bytes are.
        name: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// An entry whose directory is known by its hash alone.
    Hashed,
    /// A pair of the key-value space.
    Kv {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// None of these.
    Odd(String),
}

/// A store of upstream's.
pub trait Tree {
    /// Where its rows go on.
    type Position;

    /// The next names of a directory behind `after`, in ascending byte order; none at the end.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn children(&self, directory: &str, after: &[u8]) -> Result<Vec<Child>, SourceError>;

    /// One entry.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn entry(&self, directory: &str, name: &str) -> Result<Option<Bytes>, SourceError>;

    /// A pair of the key-value space.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn kv(&self, key: &[u8]) -> Result<Option<Bytes>, SourceError>;

    /// All rows in an order of the store's own, some at a time; none at the end.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn rows(&self, position: &mut Option<Self::Position>) -> Result<Vec<Row>, SourceError>;
}

/// All of a store: parents before what is in them, entries before pairs.
pub fn items<T: Tree>(tree: &T) -> Items<'_, T> {
    Items {
        tree,
        stack: vec![Frame::of("/".to_owned())],
        n_walked: 0,
        rows: VecDeque::new(),
        position: None,
        is_over: false,
        n_reached: 0,
        n_apart: 0,
        reached: HashMap::new(),
    }
}

/// An entry without what it shared with other names.
pub(crate) fn apart(entry: &Entry) -> Entry {
    let Ok(mut fields) = entry.fields() else {
        return entry.clone();
    };
    fields.hard_link_id = Bytes::new();
    fields.hard_link_counter = 0;
    fields.to_entry(&entry.unknown())
}

/// See [`items`]. Memory: a page of rows for each level of directories.
pub struct Items<'t, T: Tree> {
    tree: &'t T,
    /// Directories that are being walked, each within the one before.
    stack: Vec<Frame>,
    n_walked: u64,
    /// What was read of the rows.
    rows: VecDeque<Row>,
    position: Option<T::Position>,
    is_over: bool,
    /// Rows of entries that the walk must have come upon, or whose directory nobody knows.
    n_reached: u64,
    /// Names of hard links whose shared content is not there.
    n_apart: u64,
    /// Whether the walk came upon a directory.
    reached: HashMap<String, bool>,
}

struct Frame {
    directory: String,
    page: VecDeque<Child>,
    after: Bytes,
}

impl Frame {
    fn of(directory: String) -> Self {
        Self {
            directory,
            page: VecDeque::new(),
            after: Bytes::new(),
        }
    }
}

impl<T: Tree> Items<'_, T> {
    /// Entries that the walk did not come upon although there is nothing to show it: those of
    /// which only a hash of their directory is known and that no directory leads to. Nobody could
    /// list them. To be asked at the end.
    #[must_use]
    pub fn n_unreached(&self) -> u64 {
        self.n_reached.saturating_sub(self.n_walked)
    }

    /// Names of hard links whose shared content the store lacks: each became a file of its own,
    /// with the content of its own row. To be asked at the end.
    #[must_use]
    pub fn n_apart(&self) -> u64 {
        self.n_apart
    }

    fn walk(&mut self) -> Result<Option<Item>, SourceError> {
        loop {
            let Some(frame) = self.stack.last_mut() else {
                return Ok(None);
            };
            if frame.page.is_empty() {
                frame.page = self.tree.children(&frame.directory, &frame.after)?.into();
                let Some((last, _)) = frame.page.back() else {
                    self.stack.pop();
                    continue;
                };
                frame.after = last.clone();
            }
            let directory = frame.directory.clone();
            let Some((name, value)) = frame.page.pop_front() else {
                continue;
            };
            self.n_walked += 1;
            let item = self.entry(&directory, &name, &value)?;
            if let Item::Entry { path, entry } = &item
                && entry.is_dir()
            {
                self.stack.push(Frame::of(path.as_str().to_owned()));
            }
            return Ok(Some(item));
        }
    }

    fn entry(&mut self, directory: &str, name: &[u8], value: &Bytes) -> Result<Item, SourceError> {
        let above = directory.trim_end_matches('/');
        // What would stand in its place is another name.
        let Ok(name) = std::str::from_utf8(name) else {
            return Ok(Item::Refused {
                what: format!("{above}/{}", name.escape_ascii()),
                why: "has a name that is no UTF-8".to_owned(),
            });
        };
        let what = || format!("{above}/{name}");
        let refused = |why| Item::Refused { what: what(), why };
        let path = match FullPath::of(directory, name) {
            Ok(path) if path.as_str() == what() => path,
            Ok(_) => return Ok(refused("is no plain path".to_owned())),
            Err(error) => return Ok(refused(error.to_string())),
        };
        let own = decode_value(value).and_then(|entry| {
            let fields = entry.fields().map_err(|e| e.to_string())?;
            Ok((entry, fields.hard_link_id))
        });
        let (own, id) = match own {
            Ok(own) => own,
            Err(why) => return Ok(refused(why)),
        };
        // All of a hard link's names show what lies under its id.
        let shared = match id.is_empty() {
            true => None,
            false => self.tree.kv(&id)?,
        };
        let shared = shared.filter(|value| is_hard_link(&id, value));
        let shared = shared.and_then(|value| decode_value(&value).ok());
        let entry = match shared {
            Some(shared) => shared,
            None if id.is_empty() => own,
            // Each name has what its own row says, and these may differ: it is a file of its own.
            None => {
                self.n_apart += 1;
                apart(&own)
            }
        };
        Ok(Item::Entry { path, entry })
    }

    fn rest(&mut self) -> Result<Option<Item>, SourceError> {
        loop {
            if self.rows.is_empty() {
                if !self.is_over {
                    self.rows = self.tree.rows(&mut self.position)?.into();
                }
                self.is_over |= self.rows.is_empty();
            }
            return Ok(match self.rows.pop_front() {
                None => None,
                Some(Row::Hashed) => {
                    self.n_reached += 1;
                    continue;
                }
                Some(Row::Kv { key, value }) if is_local_key(&key, &value) => Some(Item::Local),
                Some(Row::Kv { value, .. }) if value.is_empty() => continue,
                Some(Row::Kv { key, value }) => Some(Item::Kv { key, value }),
                Some(Row::Odd(what)) => Some(Item::Refused {
                    what,
                    why: "is neither an entry nor a pair of the key-value space".to_owned(),
                }),
                Some(Row::Entry {
                    directory,
                    name,
                    value,
                }) => match std::str::from_utf8(&directory) {
                    Ok(directory) if self.is_reached(directory)? => {
                        self.n_reached += 1;
                        continue;
                    }
                    Ok(directory) => Some(self.entry(directory, &name, &value)?),
                    // What would stand in its place is another directory.
                    Err(_) => Some(Item::Refused {
                        what: format!("{}/{}", directory.escape_ascii(), name.escape_ascii()),
                        why: "lies in a directory whose name is no UTF-8".to_owned(),
                    }),
                },
            });
        }
    }

    /// Whether directories lead from the root to this one.
    fn is_reached(&mut self, directory: &str) -> Result<bool, SourceError> {
        let mut asked = Vec::new();
        let mut at = directory;
        let found = loop {
            if at == "/" {
                break true;
            }
            if let Some(known) = self.reached.get(at) {
                break *known;
            }
            let Some((parent, name)) = at.rsplit_once('/') else {
                break false;
            };
            let parent = if parent.is_empty() { "/" } else { parent };
            let value = self.tree.entry(parent, name)?;
            let is_dir = value.is_some_and(|v| decode_value(&v).is_ok_and(|e| e.is_dir()));
            asked.push(at);
            if !is_dir {
                break false;
            }
            at = parent;
        };
        if self.reached.len() > REACHED_MAX {
            self.reached.clear();
        }
        // What lies below a directory that nobody comes upon is not come upon either.
        for at in asked {
            self.reached.insert(at.to_owned(), found);
        }
        Ok(found)
    }
}

impl<T: Tree> Iterator for Items<'_, T> {
    type Item = Result<Item, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.walk() {
            Ok(None) => self.rest().transpose(),
            walked => walked.transpose(),
        }
    }
}

#[cfg(test)]
mod tests;
