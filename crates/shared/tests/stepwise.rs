// SPDX-License-Identifier: Apache-2.0
//! Databases without transactions: two filers on one, every order of their calls with up to two
//! changes of turn, and every fault at every call.
//!
//! Whatever happens: what all filers announce, in order of stamps, leads to what is there; what
//! was acknowledged is there, what was refused is not, as if one had been done after the other;
//! nothing is out of reach.

#[path = "support/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use dulse_shared::{Announcement, SharedOptions, SharedStore, Stepwise, value};
use dulse_store::{EntryStore, Error, ErrorKind, Expect, Operation, Outcome, Step, Transaction};
use dulse_types::entry::{FuseAttributes, MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FullPath, Stamp};
use table::{AWAY, FAULTS, Fault, Gate, Link, REFUSED, Table, UNLISTED};

/// The scene in which each of two directories moves into the other.
const CIRCLE: &str = "two trees that move into one another";

/// The scene in which a file gets a further name.
const LINK: &str = "a link and the removal of its file";

/// The scene in which the database does not take one of several rows.
const PARTIAL: &str = "creates of which one is not taken and a write to another";

/// Scenes that are run at a time.
const N_THREADS: usize = 16;

type Store = SharedStore<Stepwise<Link>>;

fn path(text: &str) -> FullPath {
    FullPath::parse(text).unwrap()
}

fn entry(mode: u32, content: &str) -> Entry {
    let fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: mode,
            ..FuseAttributes::default()
        }),
        content: bytes::Bytes::copy_from_slice(content.as_bytes()),
        ..EntryFields::default()
    };
    fields.to_entry(&UnknownFields::default())
}

fn file(content: &str) -> Entry {
    entry(0o644, content)
}

fn directory() -> Entry {
    entry(MODE_DIRECTORY | 0o755, "")
}

fn create(at: &str, content: &str) -> Transaction {
    let parent = path(at).parent().unwrap();
    Transaction {
        expects: vec![Expect::Directory(parent)],
        steps: vec![Step::Create {
            path: path(at),
            entry: file(content),
        }],
        ..Transaction::default()
    }
}

fn all(steps: Vec<Step>) -> Transaction {
    Transaction {
        steps,
        ..Transaction::default()
    }
}

fn joined<const N: usize>(parts: [Transaction; N]) -> Transaction {
    let mut out = Transaction::default();
    for part in parts {
        out.expects.extend(part.expects);
        out.steps.extend(part.steps);
    }
    out
}

fn update(at: &str, content: &str) -> Transaction {
    all(vec![Step::Update {
        path: path(at),
        entry: file(content),
        delete_chunks: true,
    }])
}

fn removal(at: &str) -> Step {
    Step::Delete {
        path: path(at),
        delete_chunks: true,
    }
}

fn delete(at: &[&str]) -> Transaction {
    all(at.iter().map(|at| removal(at)).collect())
}

fn rename(from: &str, to: &str) -> Transaction {
    Transaction {
        expects: vec![Expect::Directory(path(to).parent().unwrap())],
        steps: vec![Step::Rename {
            from: path(from),
            to: path(to),
        }],
        ..Transaction::default()
    }
}

fn link(from: &str, to: &str) -> Transaction {
    let (from, to) = (path(from), path(to));
    all(vec![Step::Link { from, to }])
}

/// What is there before, and what the two filers do, each one after another.
struct Scene {
    name: &'static str,
    before: &'static [&'static str],
    first: Vec<Transaction>,
    second: Vec<Transaction>,
}

fn scenes() -> Vec<Scene> {
    let scene = |name, before, first, second| Scene {
        name,
        before,
        first,
        second,
    };
    vec![
        scene(
            "a create and the removal of its directory",
            &["/d/"],
            vec![create("/d/x", "x")],
            vec![delete(&["/d"])],
        ),
        scene(
            "a create and the move of its directory",
            &["/d/", "/d/y"],
            vec![create("/d/x", "x")],
            vec![rename("/d", "/e")],
        ),
        scene(
            "a write and the move of its directory",
            &["/d/", "/d/y", "/d/z"],
            vec![update("/d/y", "new")],
            vec![rename("/d", "/e")],
        ),
        scene(
            "a write and a move",
            &["/a", "/d/"],
            vec![update("/a", "new")],
            vec![rename("/a", "/d/b")],
        ),
        scene(
            "a removal and the move of its directory",
            &["/d/", "/d/y", "/d/z"],
            vec![delete(&["/d/y"])],
            vec![rename("/d", "/e")],
        ),
        scene(
            "two creates",
            &[],
            vec![create("/a", "1")],
            vec![create("/a", "2")],
        ),
        scene(
            "two writes",
            &["/a"],
            vec![update("/a", "1")],
            vec![update("/a", "2")],
        ),
        scene(
            "two moves",
            &["/a", "/d/", "/e/"],
            vec![rename("/a", "/d/b")],
            vec![rename("/a", "/e/c")],
        ),
        scene(
            "two moves to one name",
            &["/a", "/b", "/d/"],
            vec![rename("/a", "/d/c")],
            vec![rename("/b", "/d/c")],
        ),
        scene(
            "a move and the removal of where it goes",
            &["/a", "/d/"],
            vec![rename("/a", "/d/b")],
            vec![delete(&["/d"])],
        ),
        scene(
            "a move over a file and its write",
            &["/a=same", "/d/", "/d/b=same"],
            vec![rename("/a", "/d/b")],
            vec![update("/d/b", "new")],
        ),
        scene(
            "a name that comes, goes and comes",
            &[],
            vec![create("/a", "1"), delete(&["/a"])],
            vec![create("/a", "2"), delete(&["/a"]), create("/a", "3")],
        ),
        scene(
            "writes to and fro",
            &["/a"],
            vec![update("/a", "1"), update("/a", "2")],
            vec![update("/a", "2"), update("/a", "1")],
        ),
        scene(
            LINK,
            &["/a", "/d/"],
            vec![link("/a", "/d/l")],
            vec![delete(&["/a"])],
        ),
        scene(
            "a tree that goes and a create in it",
            &["/t/", "/t/a", "/t/d/", "/t/d/b"],
            vec![create("/t/d/n", "n")],
            vec![delete(&["/t/a", "/t/d/b", "/t/d", "/t"])],
        ),
        scene(
            "a tree that goes and a write in it",
            &["/t/", "/t/a", "/t/d/", "/t/d/b"],
            vec![update("/t/a", "new"), update("/t/d/b", "new")],
            vec![delete(&["/t/a", "/t/d/b", "/t/d", "/t"])],
        ),
        scene(
            "two moves of one tree",
            &["/d/", "/d/y"],
            vec![rename("/d", "/e")],
            vec![rename("/d", "/f")],
        ),
        partial(REFUSED),
        scene(
            CIRCLE,
            &["/d/", "/d/y", "/e/"],
            vec![rename("/d", "/e/d")],
            vec![rename("/e", "/d/e")],
        ),
    ]
}

/// - `name`: of the row that is not taken.
fn partial(name: &str) -> Scene {
    let last = format!("/e/{name}");
    Scene {
        name: PARTIAL,
        before: &["/d/", "/e/"],
        first: vec![joined(["/d/a", "/d/b", &last].map(|at| create(at, at)))],
        second: vec![update("/d/a", "new")],
    }
}

/// One filer.
struct Filer {
    gate: Arc<Gate>,
    store: Option<Arc<Store>>,
    table: Arc<Table>,
    dir: std::path::PathBuf,
    n_lives: usize,
    slot: u64,
    group_max: usize,
}

impl Filer {
    fn new(table: &Arc<Table>, dir: &Path, slot: u64, group_max: usize) -> Self {
        let mut filer = Self {
            gate: Arc::default(),
            store: None,
            table: Arc::clone(table),
            dir: dir.join(slot.to_string()),
            n_lives: 0,
            slot,
            group_max,
        };
        filer.open();
        filer
    }

    fn open(&mut self) {
        self.store = None;
        if self.gate.is_dead() {
            self.n_lives += 1;
        }
        self.gate = Arc::default();
        let journal = self.dir.join(self.n_lives.to_string());
        let link = Link {
            table: Arc::clone(&self.table),
            gate: Arc::clone(&self.gate),
            group_max: self.group_max,
            journal: journal.clone(),
            corpse: self.dir.join((self.n_lives + 1).to_string()),
        };
        let options = SharedOptions {
            journal,
            random: self.slot << 32 | 7,
        };
        let store = SharedStore::open(&options, || async { Ok(Stepwise(link)) });
        self.store = Some(Arc::new(store.unwrap()));
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    /// Has the filer do things, one call at a time from here on; the results come in the end.
    fn begin(&self, work: &[Transaction], fault: Option<(usize, Fault)>) -> Running {
        self.gate.bind(fault);
        let (store, gate, work) = (self.store(), Arc::clone(&self.gate), work.to_vec());
        std::thread::spawn(move || {
            let one = |one| match gate.is_dead() {
                // Whoever is dead does nothing more.
                true => Err(Error::new(Operation::Commit, ErrorKind::Unavailable)),
                false => commit(&store, one),
            };
            let results = work.into_iter().map(one).collect();
            drop(store);
            gate.done();
            results
        })
    }
}

type Running = std::thread::JoinHandle<Vec<Result<(), Error>>>;

fn commit(store: &Store, transaction: Transaction) -> Result<(), Error> {
    let (answer, answered) = mpsc::channel();
    store.commit(
        transaction,
        Box::new(move |result| drop(answer.send(result))),
    );
    answered.recv().unwrap().map(drop)
}

/// A tree, as scenes and models have it.
type Tree = BTreeMap<FullPath, Entry>;

/// A run: the first filer makes `n_first` calls, the second `n_second`, then the first ends and
/// then the second.
struct Run<'a> {
    scene: &'a Scene,
    n_first: usize,
    n_second: usize,
    fault: Option<(usize, Fault)>,
    group_max: usize,
    is_skewed: bool,
}

impl Run<'_> {
    /// Does it and checks everything; `false` when the first filer had fewer calls to make.
    fn check(&self) -> bool {
        // What syncs cost is not what is tested here.
        let memory = Path::new("/dev/shm");
        let dir = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let dir = dir.unwrap();
        let table = Arc::new(Table::default());
        let mut first = Filer::new(&table, dir.path(), 1, self.group_max);
        let mut second = Filer::new(&table, dir.path(), 2, self.group_max);
        let before = before(self.scene.before);
        for (at, entry) in &before {
            let step = Step::Create {
                path: at.clone(),
                entry: entry.clone(),
            };
            commit(&first.store(), all(vec![step])).unwrap();
        }
        if self.is_skewed {
            // The second filer's clock is an hour ahead from here on.
            let ahead = announced(&first.store())
                .last()
                .map_or(1, |one| one.stamp.0);
            let ahead = ahead.max(1_700_000_000_000_000_000) + 3_600_000_000_000;
            table.data.lock().unwrap().clocks.insert(9, ahead);
            second.open();
            table.data.lock().unwrap().clocks.remove(&9);
        }
        let running = first.begin(&self.scene.first, self.fault);
        let is_long = (0..self.n_first).all(|_| first.gate.step());
        let other = second.begin(&self.scene.second, None);
        let _ = (0..self.n_second).all(|_| second.gate.step());
        while first.gate.step() {}
        while second.gate.step() {}
        let results = [running.join().unwrap(), other.join().unwrap()];
        let is_dead = first.gate.is_dead();
        // What is begun is ended at the next start, and no later.
        first.open();
        second.open();
        first.open();
        // What nobody ended comes late.
        table.data.lock().unwrap().end();
        self.verify(&before, &results, is_dead, [&first, &second]);
        is_long
    }

    fn verify(
        &self,
        before: &Tree,
        results: &[Vec<Result<(), Error>>; 2],
        is_dead: bool,
        filers: [&Filer; 2],
    ) {
        let what = self.what();
        let state: Tree = {
            let data = filers[0].table.data.lock().unwrap();
            let decode = |v: &bytes::Bytes| value::decode(v.clone()).unwrap();
            data.rows
                .iter()
                .map(|(at, v)| (at.clone(), decode(v)))
                .collect()
        };
        for at in state.keys() {
            let parent = at.parent().unwrap();
            assert!(
                parent.is_root() || state.contains_key(&parent),
                "{at} is out of reach: {what} {results:?}\n{:?}",
                plain(&state)
            );
        }
        let logs = filers.map(|filer| announced(&filer.store()));
        let told = told(&logs);
        let is_told = match self.scene.name {
            // Of a link the new name is told, not what it adds to the old one.
            LINK => plain(&told) == plain(&state),
            _ => told == state,
        };
        assert!(
            is_told,
            "what is told is not what is there: {what} {results:?}\n{told:#?}\n{state:#?}\n{logs:#?}"
        );
        let mut seen = BTreeSet::new();
        for event in logs.iter().flatten().flat_map(|one| &one.announced.events) {
            let at = |side: &Option<(FullPath, Entry)>| {
                side.as_ref().map(|(at, e)| (at.clone(), e.raw().clone()))
            };
            let (old, new) = (at(&event.old), at(&event.new));
            let is_new = old.is_some() || seen.insert((old, new));
            assert!(
                is_new
                    || is_dead
                    || self.fault.is_some()
                    || self.scene.name.contains("comes")
                    || event.new.as_ref().is_some_and(|(_, e)| e.is_dir()),
                "told twice: {event:?} {what}"
            );
        }
        let files = |tree: &BTreeMap<String, String>| -> BTreeSet<String> {
            let contents = tree.values().filter(|content| *content != "/");
            contents.cloned().collect()
        };
        let may_be_twice = self.may_be_twice(results, is_dead);
        let possible = possible(before, self.scene, results, is_dead, may_be_twice);
        let is_unknown = is_dead || results.iter().flatten().any(is_open);
        let is_possible = |one: &BTreeMap<String, String>| match self.scene.name {
            // Directories that move into one another are not told apart from what is in them:
            // everything is there, and may be there twice.
            CIRCLE => files(one) == files(&plain(&state)),
            // What others built on stays and is told, and then nobody is told that nothing was made.
            PARTIAL => is_unknown || plain(&state) == plain(before),
            _ if may_be_twice => files(one).is_subset(&files(&plain(&state))),
            _ => without_empty(one) == without_empty(&plain(&state)),
        };
        assert!(
            possible.iter().any(is_possible),
            "not as if done one after the other: {what} {results:?}\n{:?}\nof {:?}",
            plain(&state),
            possible
        );
    }

    /// Whether what became of a move is not known. Whoever ends it cannot tell then who took a
    /// file that is not there any more, and leaves the copy.
    fn may_be_twice(&self, results: &[Vec<Result<(), Error>>; 2], is_dead: bool) -> bool {
        let works = [&self.scene.first, &self.scene.second];
        let moves = |one: &Transaction| {
            let is_move = |step: &Step| matches!(step, Step::Rename { .. });
            one.steps.iter().any(is_move)
        };
        let is_open = |(filer, i): (usize, usize)| match &results[filer][i] {
            Ok(()) => false,
            Err(error) => error.outcome() == Outcome::Unknown || is_dead && filer == 0,
        };
        let all = works.iter().enumerate().flat_map(|(filer, work)| {
            let moving = work.iter().enumerate().filter(|(_, one)| moves(one));
            moving.map(move |(i, _)| (filer, i))
        });
        all.into_iter().any(is_open)
    }

    fn what(&self) -> String {
        format!(
            "{}, turns at {} and {}, fault {:?}, groups of {}, skewed {}",
            self.scene.name,
            self.n_first,
            self.n_second,
            self.fault,
            self.group_max,
            self.is_skewed
        )
    }
}

fn before(list: &[&str]) -> Tree {
    let one = |at: &&str| match at.strip_suffix('/') {
        Some(dir) => (path(dir), directory()),
        None => {
            let (at, content) = at.split_once('=').unwrap_or((at, at));
            (path(at), file(&format!("old {content}")))
        }
    };
    list.iter().map(one).collect()
}

fn announced(store: &Store) -> Vec<Announcement> {
    let (mut out, mut after) = (Vec::<Announcement>::new(), Stamp::ZERO);
    loop {
        let page = store.announcements(after, 4_096).unwrap();
        let Some(last) = page.last() else {
            assert!(out.is_sorted_by(|a, b| a.stamp < b.stamp));
            return out;
        };
        after = last.stamp;
        out.extend(page);
    }
}

/// What subscribers of all filers know in the end.
fn told(logs: &[Vec<Announcement>; 2]) -> Tree {
    let mut all: Vec<(&Announcement, usize)> = Vec::new();
    for (filer, log) in logs.iter().enumerate() {
        all.extend(log.iter().map(|one| (one, filer)));
    }
    all.sort_by_key(|(one, filer)| (one.stamp, *filer));
    let mut tree = Tree::new();
    for event in all.iter().flat_map(|(one, _)| &one.announced.events) {
        if let Some((at, _)) = &event.old {
            tree.remove(at);
        }
        if let Some((at, entry)) = &event.new {
            tree.insert(at.clone(), entry.clone());
        }
    }
    tree
}

/// Paths and what is in them, without what links add.
fn plain(tree: &Tree) -> BTreeMap<String, String> {
    let content = |entry: &Entry| match entry.is_dir() {
        true => "/".to_owned(),
        false => String::from_utf8(entry.fields().unwrap().content.to_vec()).unwrap(),
    };
    let rows = tree.iter();
    rows.map(|(at, entry)| (at.as_str().to_owned(), content(entry)))
        .collect()
}

/// A tree without directories that nothing is in: one that another filer met half moved may stay.
fn without_empty(tree: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_needed = |at: &str| {
        let front = format!("{at}/");
        tree.iter()
            .any(|(other, content)| content != "/" && other.starts_with(&front))
    };
    let rows = tree
        .iter()
        .filter(|(at, content)| *content != "/" || is_needed(at));
    rows.map(|(at, content)| (at.clone(), content.clone()))
        .collect()
}

/// Whether nobody knows what became of it.
fn is_open(result: &Result<(), Error>) -> bool {
    let outcome = result.as_ref().map_err(Error::outcome);
    outcome.is_err_and(|outcome| outcome == Outcome::Unknown)
}

/// What may be there in the end: what was acknowledged was done, what was refused was not, what
/// is unknown may have been, in any order that keeps each filer's own.
fn possible(
    before: &Tree,
    scene: &Scene,
    results: &[Vec<Result<(), Error>>; 2],
    is_dead: bool,
    may_be_twice: bool,
) -> BTreeSet<BTreeMap<String, String>> {
    let mut out = BTreeSet::new();
    let is_removal = |filer: usize, i: usize| {
        let work = [&scene.first, &scene.second][filer];
        let mut steps = work[i].steps.iter();
        steps.any(|step| matches!(step, Step::Delete { .. }))
    };
    let is_open = |filer: usize, i: usize| match &results[filer][i] {
        Ok(()) => (true, may_be_twice && is_removal(filer, i)),
        Err(error) if error.outcome() == Outcome::Unknown || is_dead && filer == 0 => (true, true),
        Err(_) => (false, true),
    };
    let mut open = vec![(plain(before), 0, 0)];
    while let Some((tree, i, j)) = open.pop() {
        if i == scene.first.len() && j == scene.second.len() {
            out.insert(tree);
            continue;
        }
        for (filer, at, work) in [(0, i, &scene.first), (1, j, &scene.second)] {
            let Some(one) = work.get(at) else { continue };
            let (i, j) = if filer == 0 { (i + 1, j) } else { (i, j + 1) };
            let (may_be, may_not) = is_open(filer, at);
            if may_not {
                open.push((tree.clone(), i, j));
            }
            let next = done(&tree, one).or_else(|| half_moved(before, one).then(|| tree.clone()));
            if may_be && let Some(next) = next {
                open.push((next, i, j));
            }
            if may_be && may_not {
                // What goes goes one after another.
                for part in parts(one) {
                    open.extend(done(&tree, &part).map(|next| (next, i, j)));
                }
            }
        }
    }
    out
}

/// What may have been done of a removal of many that was not ended.
fn parts(one: &Transaction) -> Vec<Transaction> {
    let steps = &one.steps;
    let is_removal = |step: &Step| matches!(step, Step::Delete { .. });
    if steps.len() < 2 || !steps.iter().all(is_removal) {
        return Vec::new();
    }
    let part = |bits: usize| {
        let chosen = steps.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
        all(chosen.map(|(_, step)| step.clone()).collect())
    };
    (1..1 << steps.len()).map(part).collect()
}

/// Whether it moves a directory that was there: half moved by the other filer, with nothing in it
/// any more, it could be moved once more.
fn half_moved(before: &Tree, one: &Transaction) -> bool {
    let moves = |step: &Step| match step {
        Step::Rename { from, .. } => before.get(from).is_some_and(Entry::is_dir),
        _ => false,
    };
    one.steps.iter().any(moves)
}

/// The tree behind a transaction; a directory that is needed and gone is made again.
fn done(tree: &BTreeMap<String, String>, one: &Transaction) -> Option<BTreeMap<String, String>> {
    let mut tree = tree.clone();
    let need = |tree: &mut BTreeMap<String, String>, at: &FullPath| {
        let mut above = at.parent();
        while let Some(dir) = above.filter(|dir| !dir.is_root()) {
            tree.entry(dir.as_str().to_owned())
                .or_insert_with(|| "/".to_owned());
            above = dir.parent();
        }
    };
    let content =
        |entry: &Entry| String::from_utf8(entry.fields().unwrap().content.to_vec()).unwrap();
    let below = |tree: &BTreeMap<String, String>, at: &str| -> Vec<String> {
        let front = format!("{at}/");
        tree.keys()
            .filter(|key| key.starts_with(&front))
            .cloned()
            .collect()
    };
    for step in &one.steps {
        match step {
            Step::Create { path, entry } => {
                need(&mut tree, path);
                if tree
                    .insert(path.as_str().to_owned(), content(entry))
                    .is_some()
                {
                    return None;
                }
            }
            Step::Update { path, entry, .. } => {
                tree.insert(path.as_str().to_owned(), content(entry))?;
            }
            Step::Delete { path, .. } => {
                // What others put into a directory that goes keeps it.
                if below(&tree, path.as_str()).is_empty() {
                    tree.remove(path.as_str())?;
                }
            }
            Step::Rename { from, to } => {
                need(&mut tree, to);
                let top = tree.remove(from.as_str())?;
                for old in below(&tree, from.as_str()) {
                    let content = tree.remove(&old).unwrap();
                    tree.insert(format!("{to}{}", &old[from.as_str().len()..]), content);
                }
                tree.insert(to.as_str().to_owned(), top);
            }
            Step::Link { from, to } => {
                need(&mut tree, to);
                let content = tree.get(from.as_str())?.clone();
                tree.insert(to.as_str().to_owned(), content);
            }
            other => unreachable!("{other:?} is in no scene"),
        }
    }
    Some(tree)
}

/// Runs of one scene, checked; what failed is said.
#[derive(Default)]
struct Checked {
    n_runs: usize,
    failures: Vec<String>,
}

impl Checked {
    /// Every number of calls that the first filer may make before the second's turn.
    fn turns(&mut self, run: impl Fn(usize) -> Run<'static>) {
        for n_first in 0..500 {
            if !self.is_long(&run(n_first)) {
                return;
            }
        }
        panic!("a plan that does not end");
    }

    fn is_long(&mut self, run: &Run<'static>) -> bool {
        self.n_runs += 1;
        match std::panic::catch_unwind(AssertUnwindSafe(|| run.check())) {
            Ok(is_long) => is_long,
            Err(_) => {
                self.failures.push(run.what());
                true
            }
        }
    }
}

/// Runs all scenes, several at a time: they mostly wait.
fn each_scene(scenes: Vec<Scene>, check: impl Fn(&'static Scene, &mut Checked) + Sync) {
    let scenes: &'static [Scene] = Box::leak(scenes.into_boxed_slice());
    let next = AtomicUsize::new(0);
    let checked: Vec<Checked> = std::thread::scope(|scope| {
        let work = || {
            let mut checked = Checked::default();
            while let Some(scene) = scenes.get(next.fetch_add(1, Ordering::SeqCst)) {
                check(scene, &mut checked);
            }
            checked
        };
        let threads: Vec<_> = (0..N_THREADS).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| thread.join().unwrap());
        joined.collect()
    });
    let n_runs: usize = checked.iter().map(|one| one.n_runs).sum();
    println!("{n_runs} runs");
    let failures: Vec<&String> = checked.iter().flat_map(|one| &one.failures).collect();
    assert!(
        failures.is_empty(),
        "{} of {n_runs} runs failed: {failures:#?}",
        failures.len()
    );
}

#[test]
fn two_filers_at_once_end_in_one_state_in_every_order_of_calls() {
    each_scene(scenes(), |scene, checked| {
        for (group_max, is_skewed) in [(1, false), (8, true)] {
            for n_second in [0, 1, 2, 3, 4, 5, 6, 8, 11, 15, usize::MAX] {
                checked.turns(|n_first| Run {
                    scene,
                    n_first,
                    n_second,
                    fault: None,
                    group_max,
                    is_skewed,
                });
            }
        }
    });
}

#[test]
fn every_fault_at_every_call_ends_in_one_state() {
    let both = scenes()
        .into_iter()
        .chain(scenes().into_iter().map(swapped));
    each_scene(both.collect(), |scene, checked| {
        for fault in FAULTS {
            // The other filer works before the fault, behind it, or not until all is over.
            let others = [(1, usize::MAX), (0, usize::MAX), (0, 0)];
            let n = match fault {
                Fault::CrashBefore | Fault::CrashBehind | Fault::CrashProposed => 3,
                _ => 2,
            };
            for (before, n_second) in others.into_iter().take(n) {
                checked.turns(|n| Run {
                    scene,
                    n_first: n + 1 - before,
                    n_second,
                    fault: Some((n + 1, fault)),
                    // Of rows that are written at once some may be written over, and others not.
                    group_max: match before == 0 && scene.name != PARTIAL {
                        true => 1,
                        false => 8,
                    },
                    is_skewed: false,
                });
            }
        }
    });
}

/// The servers of one row are away for longer than a filer waits, after the answer about others
/// was lost and one of these was written over.
#[test]
fn what_shows_is_told_though_the_rest_was_never_written() {
    let n_next = AtomicUsize::new(0);
    let all = (0..N_THREADS).map(|_| partial(AWAY)).collect();
    each_scene(all, |scene, checked| {
        let n = n_next.fetch_add(1, Ordering::SeqCst);
        checked.is_long(&Run {
            scene,
            n_first: n + 1,
            n_second: usize::MAX,
            fault: Some((n + 1, Fault::LostBehind)),
            group_max: 8,
            is_skewed: false,
        });
    });
}

#[test]
fn no_directory_moves_from_or_to_where_names_are_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let filer = Filer::new(&Arc::default(), dir.path(), 1, 8);
    let store = filer.store();
    let made = |at: &str| Step::Create {
        path: path(at),
        entry: directory(),
    };
    let large = format!("/{UNLISTED}");
    commit(&store, all(vec![made("/d"), made("/e")])).unwrap();
    commit(&store, create("/d/x", "x")).unwrap();
    let refused = |from: &str, to: &str| {
        let error = commit(&store, rename(from, to)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    };
    refused("/d", &large);
    assert!(store.find(&path("/d/x")).unwrap().is_some());
    commit(&store, all(vec![made(&large)])).unwrap();
    refused(&large, "/f");
    // What has nothing in it that is to be listed goes where it likes.
    commit(&store, rename("/d/x", &format!("{large}/x"))).unwrap();
    commit(&store, rename("/d", &format!("{large}/d"))).unwrap();
    let moved = format!("{large}/d");
    assert!(store.find(&path(&moved)).unwrap().is_some());
    refused("/e", &format!("{moved}/{UNLISTED}"));
}

fn swapped(scene: Scene) -> Scene {
    Scene {
        first: scene.second,
        second: scene.first,
        ..scene
    }
}
