// SPDX-License-Identifier: Apache-2.0
//! Filers on one database, and what they and their subscribers see.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use dulse_shared::{Announcement, Backend, SharedOptions, SharedStore};
use dulse_store::{EntryStore, Error, ListRange, Step, Transaction};
use dulse_store_testkit::{file, path};
use dulse_types::{Entry, FullPath, Stamp};

/// A server under test.
pub trait Server: Send + Sync + Sized + 'static {
    /// The store's connection to it.
    type Backend: Backend;

    /// Where a store lies, and how it is reached.
    type Config: Clone + Send + 'static;

    /// Layouts that are tried under load; cases that need one take the first.
    const LAYOUTS: usize;

    /// Whether a loser of a race always knows that nothing of it was made: not where the
    /// database has no transactions.
    const HAS_TRANSACTIONS: bool = true;

    /// How often it is killed under load.
    const N_KILLS: usize = 3;

    /// What a client's message has in it that makes an attempt.
    const COMMIT: &'static [u8];

    /// An empty store.
    ///
    /// - `layout`: below [`Server::LAYOUTS`].
    /// - `n`: stores of different `n` on one server have nothing in common.
    /// - `dir`: a directory of that store alone.
    fn database(&self, layout: usize, n: usize, dir: &Path) -> Self::Config;

    /// Opens a connection.
    fn connect(
        config: Self::Config,
    ) -> impl Future<Output = Result<Self::Backend, Error>> + Send + 'static;

    /// The port that it listens on, on the loopback interface.
    fn port(&self) -> u16;

    /// The same store, reached by another port of the loopback interface.
    fn through(config: &Self::Config, port: u16) -> Self::Config;

    /// Ends the server at once, as if its power were cut.
    ///
    /// # Errors
    ///
    /// When it cannot be ended.
    fn kill(&mut self) -> anyhow::Result<()>;

    /// Starts it on what it left, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    fn start_again(&mut self) -> anyhow::Result<()>;
}

/// A store, and journals of filers on it.
pub struct Shared<S: Server> {
    dir: tempfile::TempDir,
    /// How it is reached; to be changed before a filer opens it.
    pub config: S::Config,
}

impl<S: Server> Shared<S> {
    /// The first store of the first layout.
    #[must_use]
    pub fn on(server: &S) -> Self {
        Self::of(server, 0, 0)
    }

    /// As [`Server::database`].
    #[must_use]
    pub fn of(server: &S, layout: usize, n: usize) -> Self {
        let dir = tempfile::tempdir().expect("there is room");
        let config = server.database(layout, n, dir.path());
        Self { dir, config }
    }

    /// How a filer of that number opens it.
    #[must_use]
    pub fn options(&self, filer: u8) -> SharedOptions {
        SharedOptions {
            journal: self.dir.path().join(format!("journal-{filer}")),
            random: u64::from(filer) << 40 | 0x1234_5678,
        }
    }

    /// The filer of that number.
    ///
    /// # Errors
    ///
    /// As [`SharedStore::open`].
    pub fn open(&self, filer: u8) -> Result<Arc<SharedStore<S::Backend>>, Error> {
        self.open_with(self.config.clone(), &self.options(filer))
    }

    /// A filer, opened otherwise.
    ///
    /// # Errors
    ///
    /// As [`SharedStore::open`].
    pub fn open_with(
        &self,
        config: S::Config,
        options: &SharedOptions,
    ) -> Result<Arc<SharedStore<S::Backend>>, Error> {
        SharedStore::open(options, move || S::connect(config)).map(Arc::new)
    }
}

/// A filer as what the namespace needs of it.
#[must_use]
pub fn as_store<B: Backend>(store: &Arc<SharedStore<B>>) -> Arc<dyn EntryStore> {
    Arc::clone(store) as Arc<dyn EntryStore>
}

/// A transaction of one step.
#[must_use]
pub fn one(step: Step) -> Transaction {
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

/// A new file.
#[must_use]
pub fn create(at: &str, content: &str) -> Transaction {
    one(Step::Create {
        path: path(at),
        entry: file(content),
    })
}

/// What a filer shows at a path.
///
/// # Panics
///
/// When it does not answer.
#[must_use]
pub fn shown(store: &Arc<dyn EntryStore>, at: &str) -> Option<Entry> {
    let found = store.find(&path(at)).expect("it answers");
    found.map(|found| found.entry)
}

/// All that a filer announced.
///
/// # Panics
///
/// When its journal cannot be read.
#[must_use]
pub fn announced<B: Backend>(store: &SharedStore<B>) -> Vec<Announcement> {
    let (mut out, mut after) = (Vec::<Announcement>::new(), Stamp::ZERO);
    loop {
        let page = store
            .announcements(after, 4_096)
            .expect("its journal is read");
        let Some(last) = page.last() else {
            return out;
        };
        after = last.stamp;
        out.extend(page);
    }
}

/// What subscribers of all filers know in the end.
#[must_use]
pub fn told(all: &[Vec<Announcement>]) -> BTreeMap<FullPath, Entry> {
    let mut all: Vec<&Announcement> = all.iter().flatten().collect();
    all.sort_by_key(|one| one.stamp);
    let mut tree = BTreeMap::new();
    for event in all.iter().flat_map(|one| &one.announced.events) {
        if let Some((at, _)) = &event.old {
            tree.remove(at);
        }
        if let Some((at, entry)) = &event.new {
            tree.insert(at.clone(), entry.clone());
        }
    }
    tree
}

/// Every entry that a filer shows.
///
/// # Panics
///
/// When it does not answer.
#[must_use]
pub fn state(store: &Arc<dyn EntryStore>) -> BTreeMap<FullPath, Entry> {
    let mut out = BTreeMap::new();
    let mut open = vec![FullPath::root()];
    while let Some(dir) = open.pop() {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: false,
            limit: 10_000,
        };
        for row in store.list(&dir, &range).expect("it answers") {
            let at = FullPath::of(dir.as_str(), &row.name).expect("a listed name is one");
            if row.entry.is_dir() {
                open.push(at.clone());
            }
            out.insert(at, row.entry);
        }
    }
    out
}
