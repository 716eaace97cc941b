// SPDX-License-Identifier: Apache-2.0
//! What a store must show, as a sorted map of paths: nothing clever.

use std::collections::BTreeMap;
use std::sync::Arc;

use dulse_store::{EntryStore, ErrorKind, ListRange, Step};
use dulse_types::{Entry, FullPath};

use crate::make::{front, plain};

/// A tree and a key-value space.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Model {
    /// Entries by path.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// Values by key.
    pub(crate) kv: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    /// Applies steps whole or not at all.
    pub(crate) fn apply(&mut self, steps: &[Step]) -> Result<(), ErrorKind> {
        let mut next = self.clone();
        for step in steps {
            next.step(step)?;
        }
        *self = next;
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), ErrorKind> {
        match step {
            Step::Create { path, entry } => {
                if self.entries.contains_key(path.as_str()) {
                    return Err(ErrorKind::Conflict);
                }
                self.entries.insert(path.as_str().to_owned(), entry.clone());
            }
            Step::Update { path, entry, .. } => {
                let there = self.entries.get_mut(path.as_str());
                *there.ok_or(ErrorKind::NotFound)? = entry.clone();
            }
            Step::Delete { path, .. } => {
                let there = self.entries.get(path.as_str());
                there.ok_or(ErrorKind::NotFound)?;
                if self.below(path).next().is_some() {
                    return Err(ErrorKind::NotEmpty);
                }
                self.entries.remove(path.as_str());
            }
            Step::Rename { from, to } => {
                let top = self.entries.remove(from.as_str());
                let top = top.ok_or(ErrorKind::NotFound)?;
                let below: Vec<String> = self.below(from).cloned().collect();
                for old in below {
                    let entry = self.entries.remove(&old).expect("just listed");
                    let new = format!("{}{}", to.as_str(), &old[from.as_str().len()..]);
                    self.entries.insert(new, entry);
                }
                self.entries.insert(to.as_str().to_owned(), top);
            }
            Step::KvPut { key, value } => {
                self.kv.insert(key.to_vec(), value.to_vec());
            }
            Step::KvDelete { key } => {
                self.kv.remove(&key[..]);
            }
            _ => unreachable!("the random case makes no such step"),
        }
        Ok(())
    }

    fn below(&self, dir: &FullPath) -> impl Iterator<Item = &String> {
        let front = format!("{}/", dir.as_str());
        let range = self.entries.range(front.clone()..);
        range
            .map(|(path, _)| path)
            .take_while(move |path| path.starts_with(&front))
    }

    /// The names in a directory, in order.
    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let front = if dir == "/" {
            "/".to_owned()
        } else {
            format!("{dir}/")
        };
        let inside = self
            .entries
            .keys()
            .filter_map(|path| path.strip_prefix(&front));
        let mut names: Vec<String> = inside
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names
    }
}

/// Every entry that a store shows, by walking its listings.
pub(crate) fn walk(store: &Arc<dyn EntryStore>) -> BTreeMap<String, Entry> {
    let mut out = BTreeMap::new();
    let mut open = vec![FullPath::root()];
    while let Some(dir) = open.pop() {
        let mut start = String::new();
        loop {
            // A small page, so that paging is walked through, too.
            let range = ListRange {
                start: start.clone(),
                ..front(7)
            };
            let rows = store.list(&dir, &range).expect("a listing");
            let is_end = rows.len() < range.limit;
            for row in rows {
                let path = FullPath::of(dir.as_str(), &row.name).expect("a name that was stored");
                if row.entry.is_dir() {
                    open.push(path.clone());
                }
                start = row.name;
                out.insert(path.as_str().to_owned(), plain(&row.entry));
            }
            if is_end {
                break;
            }
        }
    }
    out
}
