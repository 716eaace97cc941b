// SPDX-License-Identifier: Apache-2.0
//! Several filers on one table: what each announces, lost answers, a server that is killed; and
//! what is HBase's own: regions, scanners, versions, times to live, sizes of cells.
//!
//! Against the real server, one for all cases; without one they are ignored with the reason, in
//! CI failed.

#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_hbase_client::{Client, Family};
use dulse_shared::{At, GroupMax, RowWrite, Rows, SharedStore, Stepwise};
use dulse_shared_testkit::{
    Case, Server as _, announced, as_store, cases_of_rows, create, one, run, shown, state, told,
    trial,
};
use dulse_store::{EntryStore, Error, ErrorKind, ListRange, Operation, Outcome, Step, Transaction};
use dulse_store_hbase::{Config, Hbase};
use dulse_store_testkit::{commit, directory, entry, file, path};
use dulse_types::{Entry, FullPath};
use server::Server;

type Shared = dulse_shared_testkit::Shared<One>;

/// What is asked of this server alone.
const CASES: &[Case<One>] = &[
    (
        "an_answer_that_was_lost_is_looked_for_and_not_guessed",
        asked,
    ),
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
];

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

fn main() -> std::process::ExitCode {
    let is_listed = std::env::args().any(|argument| argument == "--list");
    let lacks = match is_listed {
        true => None,
        false => Server::start()
            .map(|server| *held() = Some(server))
            .err()
            .map(|e| format!("{e:#}")),
    };
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, || Ok(One), lacks.clone());
    let all = cases_of_rows().into_iter().chain(CASES.iter().copied());
    let code = run(all.map(of).collect());
    drop(held().take());
    code
}

/// The one server of all cases, each with tables of its own; some of them kill it.
struct One;

/// The server; a case that failed leaves it to the next.
fn held() -> MutexGuard<'static, Option<Server>> {
    SERVER
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl dulse_shared_testkit::Server for One {
    type Backend = Stepwise<Hbase>;
    type Config = Config;
    const LAYOUTS: usize = 1;
    const HAS_TRANSACTIONS: bool = false;
    const COMMIT: &'static [u8] = b"Mutate";

    fn database(&self, _: usize, _: usize, dir: &Path) -> Config {
        held().as_ref().expect("it was started").table_of(dir)
    }
    async fn connect(config: Config) -> Result<Self::Backend, Error> {
        Hbase::connect(config).await.map(Stepwise)
    }
    /// ZooKeeper's, where a filer begins.
    fn port(&self) -> u16 {
        held().as_ref().expect("it was started").zookeeper
    }
    fn through(config: &Config, port: u16) -> Config {
        Config {
            zkquorum: format!("127.0.0.1:{port}"),
            ..config.clone()
        }
    }
    fn kill(&mut self) -> anyhow::Result<()> {
        held().as_mut().expect("it was started").kill()
    }
    fn start_again(&mut self) -> anyhow::Result<()> {
        held().as_mut().expect("it was started").start_again()
    }
}

fn client(shared: &Shared) -> Client {
    Client::new(shared.config.options().unwrap())
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

fn asked(server: One) {
    let shared = Shared::on(&server);
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
    let told_of = |lost, transaction| {
        fault.store(lost, Ordering::SeqCst);
        commit(&store, transaction)
            .map(drop)
            .map_err(|e| e.outcome())
    };
    // A value says whose it is; what is not there may never have been, or have been removed.
    assert_eq!(told_of(MADE_AND_LOST, create("/a", "x")), Ok(()));
    assert_eq!(told_of(MADE_AND_LOST, delete("/a")), Err(Outcome::Unknown));
    assert_eq!(shown(&store, "/a"), None);
    assert_eq!(
        told_of(LOST_BEFORE, create("/a", "y")),
        Err(Outcome::Unknown)
    );
    assert_eq!(shown(&store, "/a"), None);
    assert_eq!(told_of(SOUND, create("/a", "z")), Ok(()));
    // It is still there, so it was not made, and is made at the second try.
    assert_eq!(told_of(LOST_BEFORE, delete("/a")), Ok(()));
    assert_eq!(shown(&store, "/a"), None);
    let log = announced(&broken);
    // The one that nobody knows of is told as it is: others may have seen it.
    assert_eq!(log.len(), 5, "each once");
    assert_eq!(told(&[log]), state(&store));
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A deletion hides versions by their time, in milliseconds: nothing made in the same one may be
/// hidden with them. Row by row, so that there is no time between.
fn anew(server: One) {
    let shared = Shared::on(&server);
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

fn expires(server: One) {
    let shared = Shared::on(&server);
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
    let client = client(shared);
    let making = client.create_table(&FAMILIES, &[], splits);
    runtime.block_on(making).unwrap();
}

fn too_large(server: One) {
    let large = entry(|fields| fields.content = vec![7; 11 << 20].into());
    // A table of upstream's has HBase's own limit.
    let shared = Shared::on(&server);
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
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    commit(&as_store(&filer), one(created("/large", &large))).unwrap();
    assert!(shown(&as_store(&filer), "/large") == Some(large));
}

fn several_regions(server: One) {
    let shared = Shared::on(&server);
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

fn much_below(server: One) {
    let shared = Shared::on(&server);
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
fn figures(server: One) {
    const N_WRITERS: usize = 16;
    const EACH: usize = 50;
    let shared = Shared::on(&server);
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

fn listed_on(mut server: One) {
    let shared = Shared::on(&server);
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

/// The helpers of other tests are used in parts.
const _: fn(&Path) -> Config = server::table_of;
