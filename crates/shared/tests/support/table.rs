// SPDX-License-Identifier: Apache-2.0
//! A database without transactions in memory, that does one call of one filer at a time: in
//! which order, and which calls fail and how, the test says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dulse_shared::{At, GroupMax, RowWrite, Rows};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use tokio::sync::Notify;

/// What a call meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The filer dies before it is made.
    CrashBefore,
    /// The filer dies when it is made.
    CrashBehind,
    /// It is not made, and the answer does not say so.
    LostBefore,
    /// It is made, and the answer does not come.
    LostBehind,
    /// It is proposed and not made, and the answer does not come: whoever writes next, or settles,
    /// makes it.
    LostProposed,
    /// The filer dies when it is proposed.
    CrashProposed,
    /// It is not made, and the answer says so.
    Away,
}

pub(crate) const FAULTS: [Fault; 7] = [
    Fault::CrashBefore,
    Fault::CrashBehind,
    Fault::LostBefore,
    Fault::LostBehind,
    Fault::LostProposed,
    Fault::CrashProposed,
    Fault::Away,
];

/// Name of a row that the database never takes, as one that is too large.
pub(crate) const REFUSED: &str = "refused";

/// Name of a row whose servers are away, until a filer runs freely.
pub(crate) const AWAY: &str = "away";

/// Name of directories whose names are not listed.
pub(crate) const UNLISTED: &str = "unlisted";

/// What is stored.
#[derive(Default)]
pub(crate) struct Data {
    pub(crate) rows: BTreeMap<FullPath, Bytes>,
    keys: BTreeMap<Bytes, Bytes>,
    pub(crate) clocks: BTreeMap<u32, i64>,
    /// Writes that nobody ended.
    proposed: Vec<Vec<RowWrite>>,
}

impl Data {
    /// Makes what was proposed, where it still may be.
    pub(crate) fn end(&mut self) {
        for group in std::mem::take(&mut self.proposed) {
            self.write(&group);
        }
    }

    fn write(&mut self, group: &[RowWrite]) -> bool {
        let is_same = group.iter().all(|row| {
            let now = match &row.at {
                At::Path(path) => self.rows.get(path),
                At::Key(key) => self.keys.get(key),
            };
            now == row.before.as_ref()
        });
        for row in group.iter().filter(|_| is_same) {
            match (&row.at, row.after.clone()) {
                (At::Path(path), Some(value)) => drop(self.rows.insert(path.clone(), value)),
                (At::Path(path), None) => drop(self.rows.remove(path)),
                (At::Key(key), Some(value)) => drop(self.keys.insert(key.clone(), value)),
                (At::Key(key), None) => drop(self.keys.remove(key)),
            }
        }
        is_same
    }
}

/// The database.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) data: Mutex<Data>,
}

/// Who goes when: a filer's next call waits for its turn, unless it runs freely.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<Turns>,
    changed: Condvar,
    notify: Notify,
}

#[derive(Default)]
struct Turns {
    is_bound: bool,
    n_granted: usize,
    is_waiting: bool,
    is_done: bool,
    n_calls: usize,
    /// The call that fails, and how.
    fault: Option<(usize, Fault)>,
    is_dead: bool,
}

impl Gate {
    /// From here on each call waits for [`Gate::step`]; the given one meets a fault.
    pub(crate) fn bind(&self, fault: Option<(usize, Fault)>) {
        *self.state.lock().unwrap() = Turns {
            is_bound: true,
            fault,
            ..Turns::default()
        };
    }

    /// Lets one call go; `false` when the filer has nothing more to do.
    pub(crate) fn step(&self) -> bool {
        let wait = |turns: &mut Turns| !turns.is_waiting && !turns.is_done;
        let mut turns = self.state.lock().unwrap();
        turns = self.changed.wait_while(turns, wait).unwrap();
        if turns.is_done {
            return false;
        }
        turns.is_waiting = false;
        turns.n_granted += 1;
        self.notify.notify_waiters();
        drop(self.changed.wait_while(turns, wait).unwrap());
        true
    }

    /// The filer has done what it was asked for, and runs freely from here on.
    pub(crate) fn done(&self) {
        let mut turns = self.state.lock().unwrap();
        turns.is_done = true;
        turns.is_bound = false;
        drop(turns);
        self.changed.notify_all();
        self.notify.notify_waiters();
    }

    /// Whether the filer died.
    pub(crate) fn is_dead(&self) -> bool {
        self.state.lock().unwrap().is_dead
    }

    fn is_bound(&self) -> bool {
        self.state.lock().unwrap().is_bound
    }

    async fn turn(&self) -> Option<Fault> {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let mut turns = self.state.lock().unwrap();
                if turns.is_dead {
                    return Some(Fault::CrashBefore);
                }
                if !turns.is_bound {
                    return None;
                }
                if turns.n_granted > 0 {
                    turns.n_granted -= 1;
                    turns.n_calls += 1;
                    let at = turns.n_calls;
                    return turns
                        .fault
                        .filter(|(n, _)| *n == at)
                        .map(|(_, fault)| fault);
                }
                turns.is_waiting = true;
                self.changed.notify_all();
            }
            notified.await;
        }
    }
}

/// One filer's way to the database.
pub(crate) struct Link {
    pub(crate) table: Arc<Table>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) group_max: usize,
    /// Where this filer's journal is; at its death it is copied to where it is found again.
    pub(crate) journal: PathBuf,
    pub(crate) corpse: PathBuf,
}

impl Link {
    async fn call<T>(&self, work: impl FnOnce(&mut Data) -> T + Send) -> Result<T, Error> {
        self.proposing(&[], work).await
    }

    /// - `group`: what is proposed by it.
    async fn proposing<T>(
        &self,
        group: &[RowWrite],
        work: impl FnOnce(&mut Data) -> T + Send,
    ) -> Result<T, Error> {
        let fault = self.gate.turn().await;
        if let Some(Fault::LostProposed | Fault::CrashProposed) = fault
            && !group.is_empty()
        {
            let mut data = self.table.data.lock().unwrap();
            data.proposed.push(group.to_vec());
        }
        let error = |kind| Err(Error::new(Operation::Commit, kind).unknown_outcome());
        match fault {
            None => Ok(work(&mut self.table.data.lock().unwrap())),
            Some(Fault::Away) => Err(Error::new(Operation::Commit, ErrorKind::Unavailable)),
            Some(Fault::LostBefore | Fault::LostProposed) => error(ErrorKind::Unavailable),
            Some(Fault::LostBehind) => {
                work(&mut self.table.data.lock().unwrap());
                error(ErrorKind::Unavailable)
            }
            Some(fault) => {
                if fault == Fault::CrashBehind {
                    work(&mut self.table.data.lock().unwrap());
                }
                let was_dead = {
                    let mut turns = self.gate.state.lock().unwrap();
                    std::mem::replace(&mut turns.is_dead, true)
                };
                if !was_dead {
                    copy(&self.journal, &self.corpse);
                }
                error(ErrorKind::Io)
            }
        }
    }
}

fn comes(row: &RowWrite, name: &str) -> bool {
    matches!(&row.at, At::Path(path) if path.name() == name) && row.after.is_some()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

impl Rows for Link {
    fn name(&self) -> &'static str {
        "table"
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        self.call(|data| data.rows.get(path).cloned()).await
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        self.call(|data| {
            let rows = data.rows.iter().filter(|(path, _)| {
                let name = path.name();
                let is_behind =
                    name > range.start.as_str() || range.inclusive && name == range.start.as_str();
                path.parent().as_ref() == Some(directory)
                    && is_behind
                    && name.starts_with(&range.prefix)
            });
            let mut rows: Vec<(String, Bytes)> = rows
                .map(|(path, value)| (path.name().to_owned(), value.clone()))
                .collect();
            rows.sort();
            rows.truncate(range.limit);
            rows
        })
        .await
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.call(|data| data.keys.get(key).cloned()).await
    }

    async fn write(&self, group: &[RowWrite]) -> Result<bool, Error> {
        assert!(
            group.len() <= self.group_max,
            "more than one write may hold"
        );
        let is_away = group.iter().any(|row| comes(row, AWAY)) && self.gate.is_bound();
        if is_away || group.iter().any(|row| comes(row, REFUSED)) {
            self.call(|_| ()).await?;
            let kind = match is_away {
                true => ErrorKind::Unavailable,
                false => ErrorKind::Invalid,
            };
            return Err(Error::new(Operation::Commit, kind));
        }
        self.proposing(group, |data| {
            data.end();
            data.write(group)
        })
        .await
    }

    async fn settle(&self, _: &[At]) -> Result<(), Error> {
        let dead = || Error::new(Operation::Find, ErrorKind::Io);
        if self.gate.is_dead() {
            return Err(dead());
        }
        self.table.data.lock().unwrap().end();
        Ok(())
    }

    fn group_max(&self) -> GroupMax {
        GroupMax {
            n_rows: self.group_max,
            n_bytes: 1 << 20,
        }
    }

    fn groups(&self, directory: &FullPath) -> bool {
        directory.name() != UNLISTED
    }

    fn writes_max(&self) -> usize {
        1
    }

    fn late_max(&self) -> Duration {
        Duration::ZERO
    }

    async fn raise(&self, filer: u32, stamp: i64) -> Result<(), Error> {
        self.call(|data| {
            let clock = data.clocks.entry(filer).or_default();
            *clock = stamp.max(*clock);
        })
        .await
    }

    async fn raised(&self) -> Result<Vec<(u32, i64)>, Error> {
        self.call(|data| {
            data.clocks
                .iter()
                .map(|(filer, at)| (*filer, *at))
                .collect()
        })
        .await
    }
}
