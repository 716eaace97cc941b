// SPDX-License-Identifier: Apache-2.0
//! From an attempt to keys: what is watched and compared, what is written.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use dulse_shared::{Guard, Work, Write, is_directory, value};
use dulse_store::Error;
use dulse_types::FullPath;

use crate::config::{Config, Names};
use crate::error;

/// What must hold of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Check {
    Absent,
    Same(Bytes),
    /// It is there; the row is looked at here.
    Row,
    /// It holds this type, or nothing.
    Type(&'static str),
    /// So many rows whose names lie in it, their keys beginning with this.
    Names(u64, Vec<u8>),
}

/// What becomes of the names in one directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct NameChanges {
    pub(crate) added: BTreeSet<String>,
    pub(crate) removed: BTreeSet<String>,
    /// The directory goes, and all its names with it.
    pub(crate) is_dropped: bool,
}

/// What an attempt becomes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rows {
    /// Keys and what must hold of each; those whose number is below `n_watched` are watched.
    pub(crate) checks: Vec<(Vec<u8>, Check)>,
    /// Keys that nobody else may touch until it is made.
    pub(crate) watched: Vec<Vec<u8>>,
    /// Values to set and for how many seconds; 0 is for ever.
    pub(crate) set: Vec<(Vec<u8>, Bytes, i32)>,
    /// Keys that go.
    pub(crate) gone: Vec<Vec<u8>>,
    /// Names by directory.
    pub(crate) names: BTreeMap<String, NameChanges>,
    /// Directories in skip lists that must have so many rows.
    pub(crate) counted: BTreeMap<String, u64>,
    /// Bytes of all values.
    pub(crate) n_bytes: usize,
}

impl Rows {
    /// # Errors
    ///
    /// `Invalid` for keys that cannot be stored, and for moves of directories whose names are
    /// not kept.
    pub(crate) fn of(config: &Config, work: &Work) -> Result<Self, Error> {
        let mut rows = Self::default();
        for guard in &work.guards {
            rows.guard(config, guard, work)?;
        }
        for write in &work.writes {
            rows.write(config, write)?;
        }
        check_super_large(config, work)?;
        if config.names == Names::SortedSet {
            for directory in rows.names.keys() {
                let key = config.names_key(directory);
                rows.checks.push((key, Check::Type("zset")));
            }
        }
        Ok(rows)
    }

    fn guard(&mut self, config: &Config, guard: &Guard, work: &Work) -> Result<(), Error> {
        let (key, check) = match guard {
            Guard::Absent(path) => (config.row_key(path), Check::Absent),
            Guard::Same(path, value) => (config.row_key(path), Check::Same(value.clone())),
            Guard::Directory(path) => (config.row_key(path), Check::Row),
            Guard::Names(path, n) if config.names == Names::SkipList => {
                self.counted.insert(path.as_str().to_owned(), *n);
                return Ok(());
            }
            Guard::Names(path, n) => {
                let key = config.names_key(path.as_str());
                let prefix = config.rows_prefix(path.as_str());
                (key, Check::Names(*n, prefix))
            }
            Guard::Key(key, None) => (config.pair_key(key), Check::Absent),
            Guard::Key(key, Some(value)) => (config.pair_key(key), Check::Same(value.clone())),
        };
        if let Check::Same(value) = &check {
            self.n_bytes += value.len();
        }
        // What is to be made in a directory that is not there yet needs no watching of its own:
        // who makes it there watches, or is, that directory. Watching costs the server a search
        // among all that is watched already.
        let is_below_absent = matches!(guard, Guard::Absent(path) if path.parent().is_some_and(
            |parent| work.guards.binary_search_by(|other| by_path(other, &parent)).is_ok_and(
                |at| matches!(work.guards.get(at), Some(Guard::Absent(_)))
            )
        ));
        if !is_below_absent {
            self.watched.push(key.clone());
        }
        self.checks.push((key, check));
        Ok(())
    }

    fn write(&mut self, config: &Config, write: &Write) -> Result<(), Error> {
        match write {
            Write::Insert(path, value) => {
                self.set_row(config, path, value)?;
                self.names_of_parent(config, path, |names, name| names.added.insert(name));
            }
            Write::Replace(path, value) => self.set_row(config, path, value)?,
            Write::Remove(path) | Write::RemoveDirectory(path) => {
                self.gone.push(config.row_key(path));
                self.names_of_parent(config, path, |names, name| names.removed.insert(name));
                if matches!(write, Write::RemoveDirectory(_)) {
                    let names = self.names.entry(path.as_str().to_owned()).or_default();
                    names.is_dropped = true;
                }
            }
            Write::PutKey(key, value) => {
                self.n_bytes += value.len();
                self.set.push((config.pair_key(key), value.clone(), 0));
            }
            Write::RemoveKey(key) => self.gone.push(config.pair_key(key)),
        }
        Ok(())
    }

    fn set_row(&mut self, config: &Config, path: &FullPath, row: &Bytes) -> Result<(), Error> {
        let ttl_s = value::decode(row.clone())?.ttl_sec().max(0);
        self.n_bytes += row.len();
        self.set.push((config.row_key(path), row.clone(), ttl_s));
        Ok(())
    }

    fn names_of_parent(
        &mut self,
        config: &Config,
        path: &FullPath,
        change: impl FnOnce(&mut NameChanges, String) -> bool,
    ) {
        let Some((directory, name)) = path.split() else {
            return;
        };
        if !config.is_super_large(directory) {
            let names = self.names.entry(directory.to_owned()).or_default();
            change(names, name.to_owned());
        }
    }
}

/// Guards on rows are ordered by path and come first; those behind them are greater.
fn by_path(guard: &Guard, path: &FullPath) -> std::cmp::Ordering {
    match guard {
        Guard::Absent(own) | Guard::Same(own, _) | Guard::Directory(own) => own.cmp(path),
        Guard::Names(..) | Guard::Key(..) => std::cmp::Ordering::Greater,
    }
}

/// What is in a directory whose names are not kept does not move with it, and would be lost to
/// listings where one moves to such a name.
fn check_super_large(config: &Config, work: &Work) -> Result<(), Error> {
    let mut gone = work.writes.iter().filter_map(|write| match write {
        Write::RemoveDirectory(path) => Some(path),
        _ => None,
    });
    let mut made = work.writes.iter().filter_map(|write| match write {
        Write::Insert(path, value) if is_directory(value.clone()) => Some(path),
        _ => None,
    });
    let is_large = |path: &&FullPath| config.is_super_large(path.as_str());
    let (gone_large, made_large) = (gone.clone().find(is_large), made.clone().find(is_large));
    if gone.next().is_none() || made.next().is_none() {
        // Nothing moves.
        return Ok(());
    }
    let text = match (gone_large, made_large) {
        (Some(from), _) => format!(
            "`{from}` is among `superLargeDirectories`: nobody knows what is in it, so it cannot \
             be moved"
        ),
        (None, Some(to)) => format!(
            "`{to}` is among `superLargeDirectories`: nobody would find what is in a directory \
             that moves there; make it as a new one"
        ),
        (None, None) => return Ok(()),
    };
    Err(error::invalid(text))
}

#[cfg(test)]
mod tests {
    use dulse_types::Entry;
    use dulse_types::entry::{EntryFields, MODE_DIRECTORY, UnknownFields};

    use super::*;
    use crate::config::Servers;

    fn path(text: &str) -> FullPath {
        FullPath::parse(text).unwrap()
    }

    fn directory() -> Bytes {
        let mut fields = EntryFields::default();
        fields.attrs_mut().file_mode = MODE_DIRECTORY;
        row(fields.to_entry(&UnknownFields::default()))
    }

    fn row(entry: Entry) -> Bytes {
        entry.raw().clone()
    }

    fn config() -> Config {
        let mut config = Config::at(Names::SortedSet, Servers::One("h:1".to_owned()));
        config.super_large.insert("/big".to_owned());
        config
    }

    #[test]
    fn a_row_that_expires_is_set_for_so_many_seconds() {
        let mut fields = EntryFields::default();
        fields.attrs_mut().ttl_sec = 60;
        let entry = fields.to_entry(&UnknownFields::default());
        let work = Work {
            writes: vec![Write::Insert(path("/d/a"), row(entry.clone()))],
            ..Work::default()
        };
        let rows = Rows::of(&config(), &work).unwrap();
        assert_eq!(rows.set, [(b"/d/a".to_vec(), row(entry), 60)]);
        let added = &rows.names.get("/d").unwrap().added;
        assert!(added.contains("a"));
    }

    #[test]
    fn names_in_super_large_directories_are_not_kept() {
        let work = Work {
            writes: vec![
                Write::Insert(path("/big/a"), directory()),
                Write::Insert(path("/big/a/b"), directory()),
            ],
            ..Work::default()
        };
        let rows = Rows::of(&config(), &work).unwrap();
        assert_eq!(rows.names.keys().collect::<Vec<_>>(), ["/big/a"]);
    }

    #[test]
    fn a_super_large_directory_goes_and_does_not_move() {
        let mut work = Work {
            writes: vec![Write::RemoveDirectory(path("/big"))],
            ..Work::default()
        };
        assert!(Rows::of(&config(), &work).is_ok());
        let moved = Write::Insert(path("/other"), directory());
        work.writes.push(moved);
        let refused = |writes: Vec<Write>| {
            let work = Work {
                writes,
                ..Work::default()
            };
            let error = Rows::of(&config(), &work).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("superLargeDirectories"), "{text}");
        };
        refused(work.writes);
        let made = Write::Insert(path("/big"), directory());
        refused(vec![made.clone(), Write::RemoveDirectory(path("/staging"))]);
        let work = Work {
            writes: vec![made],
            ..Work::default()
        };
        assert!(Rows::of(&config(), &work).is_ok());
    }

    #[test]
    fn what_is_made_in_a_new_directory_is_compared_and_not_watched() {
        let work = Work {
            guards: vec![
                Guard::Absent(path("/new")),
                Guard::Absent(path("/new/a")),
                Guard::Absent(path("/old/a")),
                Guard::Names(path("/new"), 0),
            ],
            ..Work::default()
        };
        let rows = Rows::of(&config(), &work).unwrap();
        let watched: Vec<&[u8]> = rows.watched.iter().map(Vec::as_slice).collect();
        assert_eq!(watched, [&b"/new"[..], b"/old/a", b"/new\0"]);
        assert_eq!(rows.checks.len(), 4);
    }
}
