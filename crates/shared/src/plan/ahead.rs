// SPDX-License-Identifier: Apache-2.0
//! Rows that a transaction is going to look at, read together rather than one after another: of a
//! thousand new entries each is looked for before it is made.
//!
//! What was read ahead counts from the moment in which the plan looks at it. The guards compare
//! it, as they compare what was read alone.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dulse_store::{Error, Expect, Step, Transaction};
use dulse_types::FullPath;

use super::Planner;
use crate::backend::{Backend, PATHS_MAX};

/// What is to be looked at, and what was read of it.
pub(super) struct Ahead {
    /// In the order in which it is looked at.
    to_come: VecDeque<FullPath>,
    read: BTreeMap<FullPath, Option<Bytes>>,
}

impl Ahead {
    /// What a transaction is sure to look at.
    pub(super) fn of(transaction: &Transaction) -> Self {
        let expected = transaction
            .expects
            .iter()
            .filter_map(|expect| match expect {
                Expect::Absent(path) | Expect::Same(path, _) | Expect::Directory(path) => {
                    Some(path)
                }
                Expect::Empty(_) => None,
            });
        let changed = transaction.steps.iter().filter_map(|step| match step {
            Step::Create { path, .. } | Step::Update { path, .. } | Step::Delete { path, .. } => {
                Some(path)
            }
            _ => None,
        });
        let all = expected.chain(changed).filter(|path| !path.is_root());
        Self {
            to_come: all.cloned().collect(),
            read: BTreeMap::new(),
        }
    }

    /// What was read of a path.
    pub(super) fn take(&mut self, path: &FullPath) -> Option<Option<Bytes>> {
        self.read.remove(path)
    }

    /// What is read with a path: that, and what comes behind it.
    ///
    /// - `is_known`: what was looked at already.
    fn with(&mut self, path: &FullPath, is_known: impl Fn(&FullPath) -> bool) -> Vec<FullPath> {
        let mut paths = vec![path.clone()];
        while paths.len() < PATHS_MAX
            && let Some(next) = self.to_come.pop_front()
        {
            if next != *path && !is_known(&next) && !paths.contains(&next) {
                paths.push(next);
            }
        }
        paths
    }
}

impl<B: Backend> Planner<'_, B> {
    /// The value of a row that was not read yet; what is looked at next is read with it.
    pub(super) async fn read_ahead(&mut self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        let rows = &self.rows;
        let paths = self.ahead.with(path, |path| rows.contains_key(path));
        let mut values = match self.backend.get_all(&paths).await {
            Ok(values) => values,
            // What fails may be what the plan would not have come to: all of it is more than one
            // answer may take, or a row is no entry. The rest is read when it is looked at.
            Err(_) if paths.len() > 1 => return self.backend.get(path).await,
            Err(error) => return Err(error),
        };
        // One too few would be taken for a row that is not there.
        assert_eq!(values.len(), paths.len(), "each path has an answer");
        let rest = values.split_off(1);
        let next = paths.into_iter().skip(1);
        self.ahead.read.extend(next.zip(rest));
        Ok(values.pop().flatten())
    }
}

#[cfg(test)]
mod tests {
    use dulse_types::EntryFields;
    use dulse_types::entry::UnknownFields;

    use super::*;

    fn path(text: &str) -> FullPath {
        FullPath::parse(text).unwrap()
    }

    fn of(names: impl Iterator<Item = String>) -> Ahead {
        let entry = EntryFields::default().to_entry(&UnknownFields::default());
        let create = |name: String| Step::Create {
            path: path(&name),
            entry: entry.clone(),
        };
        Ahead::of(&Transaction {
            expects: vec![
                Expect::Directory(FullPath::root()),
                Expect::Absent(path("/d/0")),
            ],
            steps: names.map(create).collect(),
            ..Transaction::default()
        })
    }

    #[test]
    fn what_comes_next_is_read_together_and_each_path_once() {
        let mut ahead = of((0..200).map(|n| format!("/d/{n}")));
        let first = ahead.with(&path("/d/0"), |_| false);
        let expected: Vec<FullPath> = (0..128).map(|n| path(&format!("/d/{n}"))).collect();
        assert_eq!(first, expected);
        let rest = ahead.with(&path("/d/128"), |path| path.as_str() == "/d/130");
        assert_eq!(rest.len(), 200 - 128 - 1);
        assert_eq!(rest[..3], ["/d/128", "/d/129", "/d/131"].map(path));
        assert_eq!(ahead.with(&path("/x"), |_| false), [path("/x")]);
    }

    #[test]
    fn what_was_read_is_given_once() {
        let mut ahead = of(std::iter::empty());
        ahead.read.insert(path("/a"), None);
        assert_eq!(ahead.take(&path("/a")), Some(None));
        assert_eq!(ahead.take(&path("/a")), None);
    }
}
