// SPDX-License-Identifier: Apache-2.0
//! Several filers on one table: what each announces, lost answers, a server that is killed; and
//! what is HBase's own: regions, scanners, versions, times to live, sizes of cells.
//!
//! Against the real server, one for all cases; without one they are ignored with the reason, in
//! CI failed.

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_hbase_client::{Client, Family};
use dulse_shared::{
    Announcement, At, Backend, GroupMax, RowWrite, Rows, SharedOptions, SharedStore, Stepwise,
};
use dulse_store::{EntryStore, Error, ErrorKind, ListRange, Operation, Outcome, Step, Transaction};
use dulse_store_hbase::{Config, Hbase};
use dulse_store_testkit::{commit, directory, entry, file, path};
use dulse_types::{Entry, FullPath, Stamp};
use libtest_mimic::{Arguments, Completion, Trial};
use server::Server;

/// A sentence, and what it does with the server.
type Case = (&'static str, fn(&mut Server));

const CASES: &[Case] = &[
    ("filers_on_one_store_know_and_see_one_another", know),
    ("a_journal_of_another_store_is_refused", refused_journal),
    (
        "announcements_of_all_in_order_of_stamps_lead_to_the_state",
        replay,
    ),
    (
        "an_answer_that_was_lost_is_asked_for_and_not_guessed",
        asked,
    ),
    ("a_promise_holds_back_what_is_under_way", promised),
    (
        "what_is_made_where_something_was_just_deleted_is_there",
        anew,
    ),
    (
        "what_expires_goes_by_itself_and_nothing_older_shows_again",
        expires,
    ),
    ("an_entry_above_the_limit_of_a_cell_is_refused", too_large),
    (
        "rows_of_several_regions_are_listed_in_one_order",
        several_regions,
    ),
    ("directories_with_much_below_are_listed_whole", much_below),
    ("many_writers_and_readers_make_these_figures", figures),
    (
        "listings_go_on_behind_the_last_row_when_the_server_was_killed",
        listed_on,
    ),
    ("a_killed_server_loses_and_doubles_nothing", killed),
];

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

fn main() -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    // One server for all, which some of them kill.
    arguments.test_threads = Some(1);
    let lacks = match arguments.list {
        true => None,
        false => Server::start()
            .map(|server| *held() = Some(server))
            .err()
            .map(|e| format!("{e:#}")),
    };
    let trial = |(name, case): &Case| {
        let (case, lacks) = (*case, lacks.clone());
        Trial::ignorable_test(*name, move || {
            if let Some(why) = lacks {
                if std::env::var_os("CI").is_some() {
                    return Err(why.into());
                }
                return Ok(Completion::ignored_with(why));
            }
            let mut server = held();
            let began = Instant::now();
            case(server.as_mut().expect("it was started"));
            print!("{:.1} s ", began.elapsed().as_secs_f32());
            Ok(Completion::Completed)
        })
    };
    let code = libtest_mimic::run(&arguments, CASES.iter().map(trial).collect()).exit_code();
    drop(held().take());
    code
}

/// The server; a case that failed leaves it to the next.
fn held() -> MutexGuard<'static, Option<Server>> {
    SERVER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

type Filer = Arc<SharedStore<Stepwise<Hbase>>>;

/// A table, and journals of filers on it.
struct Shared {
    dir: tempfile::TempDir,
    config: Config,
}

impl Shared {
    fn on(server: &Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = server.table_of(dir.path());
        Self { dir, config }
    }

    fn options(&self, filer: u8) -> SharedOptions {
        SharedOptions {
            journal: self.dir.path().join(format!("journal-{filer}")),
            random: u64::from(filer) << 40 | 0x1234_5678,
        }
    }

    fn open(&self, filer: u8) -> Result<Filer, Error> {
        dulse_store_hbase::open(self.config.clone(), &self.options(filer)).map(Arc::new)
    }

    fn client(&self) -> Client {
        Client::new(self.config.options().unwrap())
    }
}

fn as_store<B: Backend>(store: &Arc<SharedStore<B>>) -> Arc<dyn EntryStore> {
    Arc::clone(store) as Arc<dyn EntryStore>
}

fn one(step: Step) -> Transaction {
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

fn create(at: &str, content: &str) -> Transaction {
    one(created(at, &file(content)))
}

fn created(at: &str, entry: &Entry) -> Step {
    Step::Create {
        path: path(at),
        entry: entry.clone(),
    }
}

fn delete(at: &str) -> Transaction {
    one(Step::Delete {
        path: path(at),
        delete_chunks: true,
    })
}

fn shown(store: &Arc<dyn EntryStore>, at: &str) -> Option<Entry> {
    store.find(&path(at)).unwrap().map(|found| found.entry)
}

fn announced<B: Backend>(store: &SharedStore<B>) -> Vec<Announcement> {
    let (mut out, mut after) = (Vec::<Announcement>::new(), Stamp::ZERO);
    loop {
        let page = store.announcements(after, 4_096).unwrap();
        let Some(last) = page.last() else {
            return out;
        };
        after = last.stamp;
        out.extend(page);
    }
}

/// What subscribers of all filers know in the end.
fn told(all: &[Vec<Announcement>]) -> BTreeMap<FullPath, Entry> {
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

fn list(store: &Arc<dyn EntryStore>, dir: &str, limit: usize) -> Result<Vec<String>, Error> {
    let mut out: Vec<String> = Vec::new();
    loop {
        let range = ListRange {
            prefix: String::new(),
            start: out.last().cloned().unwrap_or_default(),
            inclusive: false,
            limit,
        };
        let page = store.list(&path(dir), &range)?;
        let is_end = page.len() < limit;
        out.extend(page.into_iter().map(|row| row.name));
        if is_end {
            return Ok(out);
        }
    }
}

fn state(store: &Arc<dyn EntryStore>) -> BTreeMap<FullPath, Entry> {
    let mut out = BTreeMap::new();
    let mut open = vec![FullPath::root()];
    while let Some(dir) = open.pop() {
        for name in list(store, dir.as_str(), 10_000).unwrap() {
            let at = FullPath::of(dir.as_str(), &name).unwrap();
            let Some(found) = store.find(&at).unwrap() else {
                continue;
            };
            if found.entry.is_dir() {
                open.push(at.clone());
            }
            out.insert(at, found.entry);
        }
    }
    out
}

fn know(server: &mut Server) {
    let shared = Shared::on(server);
    let (a, b) = (shared.open(1).unwrap(), shared.open(2).unwrap());
    assert_eq!(a.origin().signature(), b.origin().signature());
    assert_ne!(a.origin(), b.origin());
    let (a, b) = (as_store(&a), as_store(&b));
    for n in 0..50 {
        let (writer, reader) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let at = format!("/{n}");
        commit(writer, create(&at, "x")).unwrap();
        assert_eq!(shown(reader, &at), Some(file("x")), "at once");
    }
}

fn refused_journal(server: &mut Server) {
    let (one, two) = (Shared::on(server), Shared::on(server));
    drop(one.open(1).unwrap());
    let options = SharedOptions {
        random: 7 << 32 | 99,
        ..two.options(1)
    };
    drop(dulse_store_hbase::open(two.config.clone(), &options).unwrap());
    let opened = dulse_store_hbase::open(two.config.clone(), &one.options(1));
    let error = opened.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("a directory of its own"),
        "{error}"
    );
}

fn replay(server: &mut Server) {
    let shared = Shared::on(server);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    commit(&as_store(&filers[0]), one(created("/d", &directory()))).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4_usize {
            let store = as_store(&filers[writer % 2]);
            scope.spawn(move || {
                for n in 0..50_usize {
                    // Few paths, so that writers of both filers meet.
                    let at = path(&format!("/d/{}", (n * 7 + writer * 3) % 5));
                    let there = store.find(&at).unwrap();
                    let entry = file(&format!("{writer} {n}"));
                    let step = match (there, n % 4) {
                        (None, _) => Step::Create { path: at, entry },
                        (Some(_), 0) => Step::Delete {
                            path: at,
                            delete_chunks: true,
                        },
                        (Some(_), 1) => Step::Rename {
                            from: at,
                            to: path(&format!("/d/m{writer}")),
                        },
                        (Some(_), _) => Step::Update {
                            path: at,
                            entry,
                            delete_chunks: true,
                        },
                    };
                    // Losing a race is fine.
                    let _ = commit(&store, one(step));
                }
            });
        }
    });
    let all = [announced(&filers[0]), announced(&filers[1])];
    for log in &all {
        assert!(!log.is_empty());
        assert!(log.is_sorted_by(|a, b| a.stamp < b.stamp && b.prev == a.stamp));
    }
    assert_eq!(told(&all), state(&as_store(&filers[0])));
}

/// What happens to writes of a [`Faulty`] table.
const SOUND: u8 = 0;
const MADE_AND_LOST: u8 = 1;
const LOST_BEFORE: u8 = 2;

/// The real table behind a connection whose answers are lost on demand.
struct Faulty {
    inner: Hbase,
    fault: Arc<AtomicU8>,
}

impl Rows for Faulty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        self.inner.get(path).await
    }
    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        self.inner.list(directory, range).await
    }
    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.inner.kv_get(key).await
    }
    async fn write(&self, group: &[RowWrite]) -> Result<bool, Error> {
        let lost = || Error::new(Operation::Commit, ErrorKind::Unavailable).unknown_outcome();
        match self.fault.swap(SOUND, Ordering::SeqCst) {
            MADE_AND_LOST => {
                self.inner.write(group).await?;
                Err(lost())
            }
            LOST_BEFORE => Err(lost()),
            _ => self.inner.write(group).await,
        }
    }
    fn group_max(&self) -> GroupMax {
        self.inner.group_max()
    }
    fn writes_max(&self) -> usize {
        self.inner.writes_max()
    }
    fn late_max(&self) -> Duration {
        // What is lost here is lost at once.
        Duration::from_millis(1)
    }
    async fn raise(&self, filer: u32, stamp: i64) -> Result<(), Error> {
        self.inner.raise(filer, stamp).await
    }
    async fn raised(&self) -> Result<Vec<(u32, i64)>, Error> {
        self.inner.raised().await
    }
}

fn asked(server: &mut Server) {
    let shared = Shared::on(server);
    let fault = Arc::new(AtomicU8::new(SOUND));
    let (config, its_fault) = (shared.config.clone(), Arc::clone(&fault));
    let connect = move || async move {
        Ok(Stepwise(Faulty {
            inner: Hbase::connect(config).await?,
            fault: its_fault,
        }))
    };
    let broken = Arc::new(SharedStore::open(&shared.options(1), connect).unwrap());
    let store = as_store(&broken);
    for (n, lost) in [MADE_AND_LOST, LOST_BEFORE, SOUND].into_iter().enumerate() {
        let at = format!("/{n}");
        for transaction in [create(&at, "x"), delete(&at), create(&at, "y")] {
            fault.store(lost, Ordering::SeqCst);
            // Made, or made at the second try: the caller is told what is true.
            commit(&store, transaction).unwrap();
        }
        assert_eq!(shown(&store, &at), Some(file("y")));
    }
    let log = announced(&broken);
    assert_eq!(log.len(), 9, "each once");
    assert_eq!(told(&[log]), state(&store));
}

fn promised(server: &mut Server) {
    let shared = Shared::on(server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (store, is_over) = (&store, &is_over);
            scope.spawn(move || {
                for n in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    commit(store, create(&format!("/{writer}-{n}"), "x")).unwrap();
                }
            });
        }
        // The writers end also when this fails.
        let _over = Over(&is_over);
        let mut last = Stamp::ZERO;
        for _ in 0..100 {
            let promise = filer.promise().unwrap();
            assert!(promise >= last, "a promise is not taken back");
            last = promise;
            let known = announced(&filer).len();
            let after = filer.announcements(promise, 1 << 20).unwrap();
            let behind = announced(&filer);
            // What came since the promise is above it: nothing slipped in below.
            let below = behind.iter().filter(|one| one.stamp <= promise).count();
            assert!(
                below <= known,
                "{below} at or below the promise, {known} were known"
            );
            assert!(after.iter().all(|one| one.stamp > promise));
        }
    });
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A deletion hides versions by their time, in milliseconds: nothing made in the same one may be
/// hidden with them. Row by row, so that there is no time between.
fn anew(server: &mut Server) {
    let shared = Shared::on(server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let table = Hbase::connect(shared.config.clone()).await.unwrap();
        let at = path("/a");
        let value = |n: u32| Some(Bytes::from(format!("value {n}")));
        let write = async |before: Option<Bytes>, after: Option<Bytes>| {
            let at = At::Path(at.clone());
            table
                .write(&[RowWrite { at, before, after }])
                .await
                .unwrap()
        };
        for n in 0..1_000 {
            assert!(write(None, value(n)).await, "{n} is made");
            assert_eq!(table.get(&at).await.unwrap(), value(n), "{n} is there");
            assert!(!write(value(n + 1), None).await, "it has another value");
            assert!(write(value(n), None).await, "{n} is removed");
        }
        assert_eq!(table.get(&at).await.unwrap(), None);
    });
}

fn expires(server: &mut Server) {
    let shared = Shared::on(server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let lasting = |seconds: i32| {
        entry(|fields| {
            fields.attrs_mut().crtime = 2_000_000_000;
            fields.attrs_mut().ttl_sec = seconds;
        })
    };
    commit(&store, one(created("/stays", &lasting(1_000)))).unwrap();
    // For ever, then for a moment.
    commit(&store, create("/goes", "for ever")).unwrap();
    let update = Step::Update {
        path: path("/goes"),
        entry: lasting(2),
        delete_chunks: true,
    };
    commit(&store, one(update)).unwrap();
    let began = Instant::now();
    while shown(&store, "/goes").is_some() {
        assert!(
            shown(&store, "/goes").is_none_or(|entry| entry == lasting(2)),
            "what was there before shows again"
        );
        assert!(began.elapsed() < Duration::from_secs(60), "it stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(list(&store, "/", 10).unwrap(), ["stays"]);
    commit(&store, create("/goes", "again")).unwrap();
    assert_eq!(shown(&store, "/goes"), Some(file("again")));
}

/// Families as a table of upstream's has them, as far as it matters.
const FAMILIES: [Family; 2] = [
    Family {
        name: "kv",
        settings: &[],
    },
    Family {
        name: "meta",
        settings: &[],
    },
];

/// A table made beforehand.
fn make(shared: &Shared, splits: &[&[u8]]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = shared.client();
    let making = client.create_table(&FAMILIES, &[], splits);
    runtime.block_on(making).unwrap();
}

fn too_large(server: &mut Server) {
    let large = entry(|fields| fields.content = vec![7; 11 << 20].into());
    // A table of upstream's has HBase's own limit.
    let shared = Shared::on(server);
    make(&shared, &[]);
    let filer = shared.open(1).unwrap();
    let refused = commit(&as_store(&filer), one(created("/large", &large)));
    let error = refused.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(
        error
            .repeated()
            .to_string()
            .contains("hbase.server.keyvalue.maxsize"),
        "{error}"
    );
    assert_eq!(shown(&as_store(&filer), "/large"), None);
    assert!(announced(&filer).is_empty());
    // One that is made here takes what any store takes.
    let shared = Shared::on(server);
    let filer = shared.open(1).unwrap();
    commit(&as_store(&filer), one(created("/large", &large))).unwrap();
    assert!(shown(&as_store(&filer), "/large") == Some(large));
}

fn several_regions(server: &mut Server) {
    let shared = Shared::on(server);
    // In the middle of a directory, of a name, and of what is below one.
    make(&shared, &[b"/d/3", b"/d/5555", b"/d/7/x", b"/e"]);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let names: Vec<String> = (0..90).map(|n| format!("{n:02}")).collect();
    let mut steps = vec![created("/d", &directory()), created("/e", &directory())];
    steps.push(created("/d/7", &directory()));
    steps.extend((0..20).map(|n| created(&format!("/d/7/{n}x"), &file("x"))));
    steps.extend(
        names
            .iter()
            .map(|name| created(&format!("/d/{name}"), &file("x"))),
    );
    let transaction = Transaction {
        steps,
        ..Transaction::default()
    };
    commit(&store, transaction).unwrap();
    let mut expect = [&names[..], &["7".to_owned()]].concat();
    expect.sort_unstable();
    for limit in [1, 7, 1_000] {
        assert_eq!(list(&store, "/d", limit).unwrap(), expect, "{limit}");
        assert_eq!(list(&store, "/", limit).unwrap(), ["d", "e"], "{limit}");
    }
    let rename = Step::Rename {
        from: path("/d"),
        to: path("/e/d"),
    };
    commit(&store, one(rename)).unwrap();
    assert_eq!(list(&store, "/e/d", 1_000).unwrap(), expect);
    assert_eq!(list(&store, "/e/d/7", 1_000).unwrap().len(), 20);
    assert_eq!(list(&store, "/", 1_000).unwrap(), ["e"]);
}

fn much_below(server: &mut Server) {
    let shared = Shared::on(server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    // Names around the slash, which all that is below comes behind.
    let names = ["a", "a b", "a!", "a-", "a.", "a0", "aa", "é"];
    for name in names {
        let mut steps = vec![created(&format!("/{name}"), &directory())];
        let below = (0..100).map(|n| created(&format!("/{name}/{n}"), &file("x")));
        steps.extend(below);
        let transaction = Transaction {
            steps,
            ..Transaction::default()
        };
        commit(&store, transaction).unwrap();
    }
    let mut expect: Vec<String> = names.map(str::to_owned).to_vec();
    expect.sort_unstable();
    for limit in [1, 3, 8, 1_000] {
        assert_eq!(list(&store, "/", limit).unwrap(), expect, "{limit}");
    }
    let range = ListRange {
        prefix: "a".to_owned(),
        start: "a-".to_owned(),
        inclusive: true,
        limit: 3,
    };
    let page = store.list(&path("/"), &range).unwrap();
    let page: Vec<&str> = page.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(page, ["a-", "a.", "a0"]);
}

/// What `docs/stores.md` says of speed; nothing is asked of it here.
fn figures(server: &mut Server) {
    const N_WRITERS: usize = 16;
    const EACH: usize = 50;
    let shared = Shared::on(server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, one(created("/d", &directory()))).unwrap();
    let timed = |what: &str, n: usize, work: &(dyn Fn(usize) + Sync)| {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for writer in 0..N_WRITERS {
                scope.spawn(move || work(writer));
            }
        });
        print!("{:.0} {what}/s, ", n as f64 / began.elapsed().as_secs_f64());
    };
    let at = |writer: usize, n: usize| format!("/d/{writer:02}-{n:03}");
    let n_all = N_WRITERS * EACH;
    timed("creates", n_all, &|writer| {
        (0..EACH).for_each(|n| drop(commit(&store, create(&at(writer, n), "x")).unwrap()));
    });
    timed("finds", n_all, &|writer| {
        (0..EACH).for_each(|n| assert!(shown(&store, &at(writer, n)).is_some()));
    });
    timed("listed", N_WRITERS * n_all, &|_| {
        assert_eq!(list(&store, "/d", 1_000).unwrap().len(), n_all);
    });
    timed("deletes", n_all, &|writer| {
        (0..EACH).for_each(|n| drop(commit(&store, delete(&at(writer, n))).unwrap()));
    });
    assert!(list(&store, "/d", 10).unwrap().is_empty());
}

fn listed_on(server: &mut Server) {
    let shared = Shared::on(server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let content = "x".repeat(8 << 10);
    commit(&store, one(created("/d", &directory()))).unwrap();
    let expect: Vec<String> = (0..1_500).map(|n| format!("{n:05}")).collect();
    // Some answers of two mebibytes each.
    for part in expect.chunks(250) {
        let steps = part
            .iter()
            .map(|name| created(&format!("/d/{name}"), &file(&content)));
        let transaction = Transaction {
            steps: steps.collect(),
            ..Transaction::default()
        };
        commit(&store, transaction).unwrap();
    }
    let (is_over, n_whole, n_failed) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        let _over = Over(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    match list(&store, "/d", 10_000) {
                        Ok(names) => {
                            assert_eq!(names, expect);
                            n_whole.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                            n_failed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
        let more = |n: usize| {
            let until = n_whole.load(Ordering::SeqCst) + n;
            while n_whole.load(Ordering::SeqCst) < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        more(4);
        server.kill().unwrap();
        server.start_again().unwrap();
        more(4);
    });
    println!("{n_whole:?} whole listings, {n_failed:?} refused");
}

fn killed(server: &mut Server) {
    let shared = Shared::on(server);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    let (is_over, n_made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let results = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_usize)
            .map(|writer| {
                let store = as_store(&filers[writer % 2]);
                let (is_over, n_made) = (&is_over, &n_made);
                scope.spawn(move || {
                    let mut results = Vec::new();
                    for n in 0.. {
                        if is_over.load(Ordering::SeqCst) {
                            break;
                        }
                        let at = format!("/{writer}-{n}");
                        let result = commit(&store, create(&at, &at));
                        n_made.fetch_add(usize::from(result.is_ok()), Ordering::SeqCst);
                        results.push((path(&at), result.map(drop)));
                    }
                    results
                })
            })
            .collect();
        let _over = Over(&is_over);
        let more = |n: usize| {
            let until = n_made.load(Ordering::SeqCst) + n;
            while n_made.load(Ordering::SeqCst) < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        for _ in 0..2 {
            more(100);
            server.kill().unwrap();
            server.start_again().unwrap();
        }
        more(100);
        is_over.store(true, Ordering::SeqCst);
        let joined = writers.into_iter().map(|writer| writer.join().unwrap());
        joined.flatten().collect::<Vec<_>>()
    });
    // What is unknown is known at the next start.
    drop(filers);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    let there = state(&as_store(&filers[0]));
    let mut n_unknown = 0;
    for (at, result) in &results {
        match result {
            Ok(()) => assert!(there.contains_key(at), "{at} was acknowledged and is lost"),
            Err(error) if error.outcome() == Outcome::NotApplied => {
                assert!(
                    !there.contains_key(at),
                    "{at} was refused and is there: {error}"
                );
            }
            Err(_) => n_unknown += 1,
        }
    }
    println!("{} writes, {n_unknown} unknown", results.len());
    let all = [announced(&filers[0]), announced(&filers[1])];
    let n_events: usize = all
        .iter()
        .flatten()
        .map(|one| one.announced.events.len())
        .sum();
    assert_eq!(n_events, there.len(), "each change is announced once");
    assert_eq!(told(&all), there);
}

/// The helpers of other tests are used in parts.
const _: fn(&std::path::Path) -> Config = server::table_of;
