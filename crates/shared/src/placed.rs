// SPDX-License-Identifier: Apache-2.0
//! A shared store that has what is below one directory of a tree.
//!
//! It keeps entries as upstream's filers keep those of a directory with a store of its own: by
//! their paths below it, `/tmp/a` as `/a`. Its journal does as well; whoever asks is told paths
//! of the tree. It keeps no keys for the tree, and hard links need one: what its own rows name as
//! hard links, as upstream's filers make them, is shown and not changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_store::{
    Done, EntryStore, Error, ErrorKind, Expect, Found, ListRange, Listed, Operation, Step,
    Transaction,
};
use dulse_types::{FullPath, Origin, Stamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::any::AnyShared;
use crate::backend::Location;
use crate::log::Announcement;

/// See the module.
pub struct Placed {
    store: Arc<dyn AnyShared>,
    location: Location,
    reads: Mutex<Reads>,
}

/// Reads that wait for the database at once, at most, while it does not answer: each holds a
/// thread, and what is elsewhere in the tree needs some, too.
const READS_MAX: usize = 128;

/// It does not answer when no read has come back for this long.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Reads that are under way, and when one last ended.
struct Reads {
    n: usize,
    ended: Instant,
}

/// A read that counts while it lives.
struct Read<'a>(&'a Mutex<Reads>);

impl Drop for Read<'_> {
    fn drop(&mut self) {
        let mut reads = self.0.lock();
        reads.n -= 1;
        reads.ended = Instant::now();
    }
}

impl Placed {
    /// - `path`: the directory.
    /// - `section`: of `filer.toml`, such as `redis2.tmp`.
    #[must_use]
    pub fn new(store: Arc<dyn AnyShared>, path: FullPath, section: String) -> Self {
        store.keep_no_keys();
        let location = Location {
            path,
            section,
            store_id: store.origin().0 as u32,
        };
        Self {
            store,
            location,
            reads: Mutex::new(Reads {
                n: 0,
                ended: Instant::now(),
            }),
        }
    }

    /// Counts a read in.
    fn reading(&self) -> Result<Read<'_>, Error> {
        let mut reads = self.reads.lock();
        if reads.n < READS_MAX || reads.ended.elapsed() < SILENCE_MAX {
            reads.n += 1;
            return Ok(Read(&self.reads));
        }
        let text = format!(
            "{READS_MAX} reads wait for the store of {} already",
            self.location.path
        );
        Err(Error::new(Operation::Find, ErrorKind::Unavailable).with("because", text))
    }

    /// Where an entry of the tree is in the store.
    fn inside(&self, path: &FullPath) -> Result<FullPath, Error> {
        let above = &self.location.path;
        if path == above {
            return Ok(FullPath::root());
        }
        let inside = path.is_below(above).then_some(path.as_str());
        let inside = inside.and_then(|text| text.get(above.as_str().len()..));
        let outside = || {
            let text = format!("{path} is not below {above}");
            Error::new(Operation::Find, ErrorKind::Invalid).with("because", text)
        };
        FullPath::parse(inside.ok_or_else(outside)?).map_err(|_| outside())
    }

    /// Where an entry of the store is in the tree.
    fn outside(&self, path: &FullPath) -> Result<FullPath, Error> {
        let text = format!("{}{}", self.location.path.as_str(), path.as_str());
        let corrupt = |e| Error::new(Operation::Find, ErrorKind::Corrupt).source(e);
        FullPath::parse(&text).map_err(corrupt)
    }

    /// A transaction with the paths of the store.
    fn within(&self, mut transaction: Transaction) -> Result<Transaction, Error> {
        for expect in &mut transaction.expects {
            let (Expect::Absent(path)
            | Expect::Same(path, _)
            | Expect::Directory(path)
            | Expect::Empty(path)) = expect;
            *path = self.inside(path)?;
        }
        for step in &mut transaction.steps {
            match step {
                Step::Create { path, .. }
                | Step::Update { path, .. }
                | Step::Delete { path, .. }
                | Step::RestoreInPlace { path, .. }
                | Step::RestoreCopy { path, .. } => *path = self.inside(path)?,
                Step::Rename { from, to } | Step::Link { from, to } => {
                    *from = self.inside(from)?;
                    *to = self.inside(to)?;
                }
                Step::Dismiss { .. } | Step::KvPut { .. } | Step::KvDelete { .. } => {}
            }
        }
        Ok(transaction)
    }
}

impl EntryStore for Placed {
    fn find(&self, path: &FullPath) -> Result<Option<Found>, Error> {
        let _read = self.reading()?;
        self.store.find(&self.inside(path)?)
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        let _read = self.reading()?;
        self.store.list(&self.inside(directory)?, range)
    }

    fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.store.kv_get(key)
    }

    fn commit(&self, transaction: Transaction, done: Done) {
        match self.within(transaction) {
            Ok(transaction) => self.store.commit(transaction, done),
            Err(error) => done(Err(error)),
        }
    }

    fn origin(&self) -> Origin {
        self.store.origin()
    }
}

impl AnyShared for Placed {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    fn seal(&self) -> bool {
        self.store.seal()
    }

    fn is_new(&self) -> bool {
        self.store.is_new()
    }

    fn keep_no_keys(&self) {
        self.store.keep_no_keys();
    }

    fn locations(&self) -> &[Location] {
        std::slice::from_ref(&self.location)
    }

    fn announcements(&self, after: Stamp, max_bytes: usize) -> Result<Vec<Announcement>, Error> {
        let mut all = self.store.announcements(after, max_bytes)?;
        for event in all.iter_mut().flat_map(|one| &mut one.announced.events) {
            for (path, _) in [&mut event.old, &mut event.new].into_iter().flatten() {
                *path = self.outside(path)?;
            }
        }
        Ok(all)
    }

    fn announced(&self) -> watch::Receiver<Stamp> {
        self.store.announced()
    }

    fn promise(&self) -> Result<Stamp, Error> {
        self.store.promise()
    }

    fn promise_from(&self, seen: Stamp) -> Stamp {
        self.store.promise_from(seen)
    }

    fn trim(&self, oldest: Stamp, budget_bytes: u64) -> Result<u64, Error> {
        self.store.trim(oldest, budget_bytes)
    }

    fn journal_bytes(&self) -> u64 {
        self.store.journal_bytes()
    }

    fn n_unsettled(&self) -> usize {
        self.store.n_unsettled()
    }

    fn journal_failed(&self) -> bool {
        self.store.journal_failed()
    }
}
