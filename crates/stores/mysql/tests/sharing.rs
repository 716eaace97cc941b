// SPDX-License-Identifier: Apache-2.0
//! Several filers on one database: what each announces, lost answers, a server that is killed.
//!
//! Against the real server; without one the cases are ignored with the reason, in CI failed.

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use bytes::Bytes;
use dulse_shared::{Announcement, Backend, Held, Settled, SharedOptions, SharedStore, Work};
use dulse_store::{EntryStore, Error, ErrorKind, ListRange, Operation, Outcome, Step, Transaction};
use dulse_store_mysql::{Config, MySql, Tables, Tls};
use dulse_store_testkit::{commit, directory, file, path};
use dulse_types::{Entry, FullPath, Stamp};
use libtest_mimic::{Arguments, Completion, Trial};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use server::{Kind, Server};

/// A sentence, what it does with a server of its own, and which.
type Case = (&'static str, fn(Server), &'static [Kind]);

const BOTH: &[Kind] = &[Kind::MariaDb, Kind::MySql56];

const CASES: &[Case] = &[
    ("filers_on_one_store_know_and_see_one_another", know, BOTH),
    (
        "a_journal_of_another_store_is_refused",
        refused_journal,
        BOTH,
    ),
    (
        "announcements_of_all_in_order_of_stamps_lead_to_the_state",
        replay,
        BOTH,
    ),
    (
        "an_answer_that_was_lost_is_asked_for_and_not_guessed",
        asked,
        BOTH,
    ),
    (
        "a_change_that_was_made_unseen_is_announced_at_the_next_start",
        made_unseen,
        BOTH,
    ),
    (
        "a_change_that_was_not_made_is_never_announced",
        not_made,
        BOTH,
    ),
    (
        "what_others_wrote_over_an_unknown_change_is_what_is_told",
        overwritten,
        BOTH,
    ),
    ("a_killed_server_loses_and_doubles_nothing", killed, BOTH),
    (
        "a_commit_whose_answer_is_cut_off_is_told_as_what_became_of_it",
        cut_off,
        BOTH,
    ),
    (
        "a_commit_that_was_made_and_undone_by_another_is_not_made_again",
        undone,
        BOTH,
    ),
    (
        "a_connection_that_hangs_with_its_locks_is_ended",
        hanging,
        BOTH,
    ),
    (
        "names_are_listed_in_byte_order_against_the_index",
        byte_order,
        BOTH,
    ),
    (
        "names_that_are_one_to_the_collation_are_refused_and_told_apart",
        collation,
        BOTH,
    ),
    (
        "an_entry_above_the_servers_packet_is_refused_with_what_to_do",
        packet,
        BOTH,
    ),
    (
        "the_table_of_a_removed_bucket_goes_unless_it_is_used_again",
        buckets,
        BOTH,
    ),
    ("a_log_of_statements_is_written_to", statement_log, BOTH),
    // MySQL 5.6 speaks no version of TLS that is still spoken.
    (
        "only_a_server_that_a_trusted_authority_names_is_spoken_to",
        encrypted,
        &[Kind::MariaDb],
    ),
    ("a_promise_holds_back_what_is_under_way", promised, BOTH),
];

fn main() -> std::process::ExitCode {
    let mut trials = Vec::new();
    for (kind, server) in [(Kind::MariaDb, "mariadb"), (Kind::MySql56, "mysql56")] {
        let lacks = Server::start(kind, &[])
            .map(drop)
            .err()
            .map(|e| format!("{e:#}"));
        let cases = CASES.iter().filter(|(_, _, kinds)| kinds.contains(&kind));
        trials.extend(cases.map(|case| trial(case, kind, server, lacks.clone())));
    }
    let mut arguments = Arguments::from_args();
    // Each has a server of its own.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial((name, case, _): &Case, kind: Kind, server: &str, lacks: Option<String>) -> Trial {
    let case = *case;
    Trial::ignorable_test(format!("{server}::{name}"), move || {
        if let Some(why) = lacks {
            if std::env::var_os("CI").is_some() {
                return Err(why.into());
            }
            return Ok(Completion::ignored_with(why));
        }
        case(Server::start(kind, &[])?);
        Ok(Completion::Completed)
    })
}

/// A database, and journals of filers on it.
struct Shared {
    dir: tempfile::TempDir,
    config: Config,
}

impl Shared {
    fn on(server: &Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = server.database_of(Tables::PerBucket, dir.path());
        Self { dir, config }
    }

    fn options(&self, filer: u8) -> SharedOptions {
        SharedOptions {
            journal: self.dir.path().join(format!("journal-{filer}")),
            random: u64::from(filer) << 40 | 0x1234_5678,
        }
    }

    fn open(&self, filer: u8) -> Result<Arc<SharedStore<MySql>>, Error> {
        dulse_store_mysql::open(self.config.clone(), &self.options(filer)).map(Arc::new)
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
    one(Step::Create {
        path: path(at),
        entry: file(content),
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

fn state(store: &Arc<dyn EntryStore>) -> BTreeMap<FullPath, Entry> {
    let mut out = BTreeMap::new();
    let mut open = vec![FullPath::root()];
    while let Some(dir) = open.pop() {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: false,
            limit: 10_000,
        };
        for row in store.list(&dir, &range).unwrap() {
            let at = FullPath::of(dir.as_str(), &row.name).unwrap();
            if row.entry.is_dir() {
                open.push(at.clone());
            }
            out.insert(at, row.entry);
        }
    }
    out
}

fn know(server: Server) {
    let shared = Shared::on(&server);
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

fn refused_journal(server: Server) {
    let (one, two) = (Shared::on(&server), Shared::on(&server));
    drop(one.open(1).unwrap());
    let options = SharedOptions {
        random: 7 << 32 | 99,
        ..two.options(1)
    };
    drop(dulse_store_mysql::open(two.config.clone(), &options).unwrap());
    let error = dulse_store_mysql::open(two.config.clone(), &one.options(1))
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("a directory of its own"),
        "{error}"
    );
}

fn replay(server: Server) {
    let shared = Shared::on(&server);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    let top = Step::Create {
        path: path("/d"),
        entry: directory(),
    };
    commit(&as_store(&filers[0]), one(top)).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..6_usize {
            let store = as_store(&filers[writer % 2]);
            scope.spawn(move || {
                for n in 0..80_usize {
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
                    // Losing a race is fine; nothing of a loser is told.
                    if let Err(error) = commit(&store, one(step)) {
                        assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
                    }
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

/// What happens to attempts of a [`Faulty`] backend.
const SOUND: u8 = 0;
const MADE_AND_LOST: u8 = 1;
const LOST_BEFORE: u8 = 2;

/// The real database behind a connection whose answers are lost on demand.
struct Faulty {
    inner: MySql,
    fault: Arc<AtomicU8>,
    /// Whether it can be asked what became of them.
    is_asked: Arc<AtomicBool>,
}

impl Backend for Faulty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn get(&self, path: &FullPath) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        self.inner.get(path)
    }
    fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, Error>> + Send {
        self.inner.list(directory, range)
    }
    fn kv_get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        self.inner.kv_get(key)
    }
    async fn apply(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        let lost = || Error::new(Operation::Commit, ErrorKind::Unavailable).unknown_outcome();
        match self.fault.swap(SOUND, Ordering::SeqCst) {
            MADE_AND_LOST => {
                self.inner.apply(work, held).await?;
                Err(lost())
            }
            LOST_BEFORE => Err(lost()),
            _ => self.inner.apply(work, held).await,
        }
    }
    async fn settle(&self, ticket: i64) -> Result<Settled, Error> {
        if self.is_asked.load(Ordering::SeqCst) {
            self.inner.settle(ticket).await
        } else {
            Err(Error::new(Operation::Commit, ErrorKind::Io))
        }
    }
    fn clock_ns(&self) -> impl Future<Output = Result<i64, Error>> + Send {
        self.inner.clock_ns()
    }
}

struct Broken {
    store: Arc<SharedStore<Faulty>>,
    fault: Arc<AtomicU8>,
    is_asked: Arc<AtomicBool>,
}

fn broken(shared: &Shared) -> Broken {
    let (fault, is_asked) = (
        Arc::new(AtomicU8::new(SOUND)),
        Arc::new(AtomicBool::new(false)),
    );
    let config = shared.config.clone();
    let (its_fault, its_asked) = (Arc::clone(&fault), Arc::clone(&is_asked));
    let connect = move || async move {
        Ok(Faulty {
            inner: MySql::connect(config).await?,
            fault: its_fault,
            is_asked: its_asked,
        })
    };
    let store = Arc::new(SharedStore::open(&shared.options(1), connect).unwrap());
    Broken {
        store,
        fault,
        is_asked,
    }
}

fn asked(server: Server) {
    let shared = Shared::on(&server);
    let broken = broken(&shared);
    broken.is_asked.store(true, Ordering::SeqCst);
    let store = as_store(&broken.store);
    for (n, fault) in [MADE_AND_LOST, LOST_BEFORE, SOUND].into_iter().enumerate() {
        broken.fault.store(fault, Ordering::SeqCst);
        let at = format!("/{n}");
        // Made, or made at the second try: the caller is told what is true.
        commit(&store, create(&at, "x")).unwrap();
        assert_eq!(shown(&store, &at), Some(file("x")));
    }
    let log = announced(&broken.store);
    assert_eq!(log.len(), 3, "each once");
    assert_eq!(told(&[log]), state(&store));
}

/// A create whose outcome stays unknown; the store is closed then.
fn leave_unknown(shared: &Shared, fault: u8) {
    let broken = broken(shared);
    let store = as_store(&broken.store);
    commit(&store, create("/before", "x")).unwrap();
    broken.fault.store(fault, Ordering::SeqCst);
    let error = commit(&store, create("/a", "x")).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "neither made nor failed");
    assert_eq!(announced(&broken.store).len(), 1);
    // Others go on, and are told.
    commit(&store, create("/behind", "x")).unwrap();
    assert_eq!(announced(&broken.store).len(), 2);
}

fn made_unseen(server: Server) {
    let shared = Shared::on(&server);
    leave_unknown(&shared, MADE_AND_LOST);
    for _ in 0..2 {
        let store = shared.open(1).unwrap();
        let log = announced(&store);
        assert_eq!(log.len(), 3, "once, however often it is started");
        assert!(log.is_sorted_by(|a, b| a.stamp < b.stamp));
        assert_eq!(told(&[log]), state(&as_store(&store)));
    }
}

fn not_made(server: Server) {
    let shared = Shared::on(&server);
    leave_unknown(&shared, LOST_BEFORE);
    let store = shared.open(1).unwrap();
    let log = announced(&store);
    assert_eq!(log.len(), 2);
    assert_eq!(shown(&as_store(&store), "/a"), None);
    assert_eq!(told(&[log]), state(&as_store(&store)));
}

fn overwritten(server: Server) {
    let shared = Shared::on(&server);
    leave_unknown(&shared, MADE_AND_LOST);
    let other = shared.open(2).unwrap();
    let update = Step::Update {
        path: path("/a"),
        entry: file("by another"),
        delete_chunks: true,
    };
    commit(&as_store(&other), one(update)).unwrap();
    let store = shared.open(1).unwrap();
    let log = announced(&store);
    let seen = log.last().unwrap();
    assert!(
        seen.announced
            .events
            .iter()
            .all(|event| !event.delete_chunks)
    );
    assert_eq!(told(&[log, announced(&other)]), state(&as_store(&store)));
}

fn killed(mut server: Server) {
    let shared = Shared::on(&server);
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
        let more = |n: usize| {
            let until = n_made.load(Ordering::SeqCst) + n;
            while n_made.load(Ordering::SeqCst) < until {
                std::thread::yield_now();
            }
        };
        for _ in 0..3 {
            more(100);
            server.kill().unwrap();
            server.start_again().unwrap();
        }
        more(100);
        is_over.store(true, Ordering::SeqCst);
        let joined = writers.into_iter().map(|writer| writer.join().unwrap());
        joined.flatten().collect::<Vec<_>>()
    });
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
    drop(filers);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    let all = [announced(&filers[0]), announced(&filers[1])];
    let n_events: usize = all
        .iter()
        .flatten()
        .map(|one| one.announced.events.len())
        .sum();
    assert_eq!(n_events, there.len(), "each change is announced once");
    assert_eq!(told(&all), there);
}

fn promised(server: Server) {
    let shared = Shared::on(&server);
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

/// What a way to the server does to the next commits.
#[derive(Default)]
struct Cuts {
    /// Ends before the server gets it.
    n_before: AtomicUsize,
    /// Ends when the server has it.
    n_behind: AtomicUsize,
    /// The server does not get it, and does not learn that the filer is gone.
    n_hanging: AtomicUsize,
    /// New connections are refused.
    is_closed: AtomicBool,
}

impl Cuts {
    /// A way to the server. Gives its port.
    fn to(self: &Arc<Self>, to: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = Arc::clone(self);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                if cuts.is_closed.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (mut from, mut back) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut back));
                let cuts = Arc::clone(&cuts);
                std::thread::spawn(move || cuts.pass(client, server));
            }
        });
        port
    }

    fn pass(&self, mut client: TcpStream, mut server: TcpStream) {
        let take = |n: &AtomicUsize| {
            n.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
        };
        let mut bytes = vec![0; 1 << 16];
        while let Ok(n @ 1..) = client.read(&mut bytes) {
            let is_commit = bytes[..n].windows(7).any(|text| text == b"\x03COMMIT");
            if is_commit && take(&self.n_hanging) {
                let _ = client.shutdown(Shutdown::Both);
                // The server's side stays open, whatever happens.
                std::mem::forget(server);
                return;
            }
            if is_commit && take(&self.n_before) {
                break;
            }
            let is_cut = is_commit && take(&self.n_behind);
            if is_cut {
                // The answer finds nobody.
                let _ = client.shutdown(Shutdown::Both);
            }
            if server.write_all(&bytes[..n]).is_err() || is_cut {
                break;
            }
        }
        let _ = (
            client.shutdown(Shutdown::Both),
            server.shutdown(Shutdown::Write),
        );
    }
}

/// A filer behind a way that can be cut.
fn behind_cuts(server: &Server, shared: &Shared) -> (Arc<Cuts>, Arc<SharedStore<MySql>>) {
    let cuts = Arc::new(Cuts::default());
    let config = Config {
        port: cuts.to(server.port),
        ..shared.config.clone()
    };
    let filer = dulse_store_mysql::open(config, &shared.options(1)).unwrap();
    (cuts, Arc::new(filer))
}

fn cut_off(server: Server) {
    let shared = Shared::on(&server);
    let (cuts, filer) = behind_cuts(&server, &shared);
    let store = as_store(&filer);
    for n in 0..40 {
        let cut = if n % 2 == 0 {
            &cuts.n_before
        } else {
            &cuts.n_behind
        };
        cut.store(1, Ordering::SeqCst);
        let at = format!("/{n}");
        // Made, found out to be, or made anew: never called failed, never made twice.
        commit(&store, create(&at, "x")).unwrap();
        assert_eq!(cut.load(Ordering::SeqCst), 0, "it was cut");
    }
    let log = announced(&filer);
    assert_eq!(log.len(), 40, "each once");
    assert_eq!(told(&[log]), state(&store));
    // Keys are announced to nobody, and cannot be read back from what was announced.
    for n in 0..20_u8 {
        let cut = if n % 2 == 0 {
            &cuts.n_before
        } else {
            &cuts.n_behind
        };
        cut.store(1, Ordering::SeqCst);
        let (key, value) = (Bytes::from(vec![n; 9]), Bytes::from(vec![n]));
        let put = Step::KvPut {
            key: key.clone(),
            value: value.clone(),
        };
        commit(&store, one(put)).unwrap();
        assert_eq!(cut.load(Ordering::SeqCst), 0, "it was cut");
        assert_eq!(store.kv_get(&key).unwrap(), Some(value));
    }
}

fn undone(server: Server) {
    let shared = Shared::on(&server);
    let (cuts, filer) = behind_cuts(&server, &shared);
    let (store, other) = (as_store(&filer), shared.open(2).unwrap());
    let others = as_store(&other);
    commit(&store, create("/before", "x")).unwrap();
    cuts.n_behind.store(1, Ordering::SeqCst);
    cuts.is_closed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let made = scope.spawn(|| commit(&store, create("/a", "x")));
        while shown(&others, "/a").is_none() {
            std::thread::yield_now();
        }
        let delete = Step::Delete {
            path: path("/a"),
            delete_chunks: true,
        };
        commit(&others, one(delete)).unwrap();
        // Only now can the first one ask.
        cuts.is_closed.store(false, Ordering::SeqCst);
        made.join().unwrap().unwrap();
    });
    assert_eq!(shown(&store, "/a"), None, "it is not made a second time");
    let all = [announced(&filer), announced(&other)];
    assert_eq!(all.each_ref().map(Vec::len), [2, 1]);
    assert_eq!(told(&all), state(&store));
}

fn hanging(server: Server) {
    let shared = Shared::on(&server);
    let (cuts, filer) = behind_cuts(&server, &shared);
    let store = as_store(&filer);
    cuts.n_hanging.store(1, Ordering::SeqCst);
    // The server waits for the commit and holds what was locked, until it is told not to.
    commit(&store, create("/a", "x")).unwrap();
    assert_eq!(cuts.n_hanging.load(Ordering::SeqCst), 0, "it was cut");
    let sql = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
               WHERE VARIABLE_NAME = 'COM_KILL'";
    assert_eq!(server.sql("", sql).unwrap(), ["1"]);
    assert_eq!(announced(&filer).len(), 1);
}

fn listed(store: &Arc<dyn EntryStore>, start: &str, limit: usize) -> Vec<String> {
    let range = ListRange {
        prefix: String::new(),
        start: start.to_owned(),
        inclusive: false,
        limit,
    };
    let rows = store.list(&path("/d"), &range).unwrap();
    rows.into_iter().map(|row| row.name).collect()
}

fn in_d(store: &Arc<dyn EntryStore>, names: &[&str]) {
    let steps = names.iter().map(|name| Step::Create {
        path: FullPath::of("/d", name).unwrap(),
        entry: file(name),
    });
    let mut all = vec![Step::Create {
        path: path("/d"),
        entry: directory(),
    }];
    all.extend(steps);
    let all = Transaction {
        steps: all,
        ..Transaction::default()
    };
    commit(store, all).unwrap();
}

fn byte_order(server: Server) {
    let store = as_store(&Shared::on(&server).open(1).unwrap());
    let mut names = [
        "a", "a\t", "a\tb", "a\u{1}", "a b", "a \n", "ab", "a!", "b\u{1f}", "b", "\u{1}", "A", "é",
        "e\u{301}", "🦀", "z\u{7f}", "z",
    ];
    in_d(&store, &names);
    names.sort_unstable();
    for limit in [1, 2, 3, 5, 100] {
        let (mut all, mut start) = (Vec::new(), String::new());
        loop {
            let page = listed(&store, &start, limit);
            let is_end = page.len() < limit;
            start = page.last().cloned().unwrap_or_default();
            all.extend(page);
            if is_end {
                break;
            }
        }
        assert_eq!(all, names, "pages of {limit}");
    }
    let sql =
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_COLLATION = 'utf8mb4_bin'";
    assert_ne!(server.sql("", sql).unwrap(), ["0"], "it was that collation");
}

fn collation(server: Server) {
    let shared = Shared::on(&server);
    let store = as_store(&shared.open(1).unwrap());
    commit(&store, create("/a", "x")).unwrap();
    let refused = |store: &Arc<dyn EntryStore>, at: &str| {
        let error = commit(store, create(at, "y")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("for one name"), "{error}");
        assert_eq!(shown(store, at), None, "it is another one");
    };
    refused(&store, "/a ");
    assert_eq!(shown(&store, "/a"), Some(file("x")));
    let rename = Step::Rename {
        from: path("/a"),
        to: path("/a "),
    };
    commit(&store, one(rename)).unwrap();
    assert_eq!(shown(&store, "/a "), Some(file("x")));
    refused(&store, "/a");

    // A table that somebody made without thinking of it.
    let mut shared = Shared::on(&server);
    let create_table = &mut shared.config.create_table;
    *create_table = create_table.replace("utf8mb4_bin", "utf8mb4_general_ci");
    let store = as_store(&shared.open(1).unwrap());
    in_d(&store, &["b", "A", "_", "é"]);
    assert_eq!(listed(&store, "", 10), ["A", "_", "b", "é"]);
    assert_eq!(listed(&store, "A", 2), ["_", "b"]);
    refused(&store, "/d/B");
    refused(&store, "/d/e");
    assert_eq!(shown(&store, "/d/b"), Some(file("b")));
}

fn packet(server: Server) {
    let small = Server::start(server.kind(), &["--max-allowed-packet=1M"]).unwrap();
    let store = as_store(&Shared::on(&small).open(1).unwrap());
    let error = commit(&store, create("/a", &"x".repeat(2 << 20))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error
            .to_string()
            .contains("max_allowed_packet of 1048576; raise it"),
        "{error}"
    );
    commit(&store, create("/a", &"x".repeat(900 << 10))).unwrap();
}

fn buckets(server: Server) {
    let shared = Shared::on(&server);
    let store = as_store(&shared.open(1).unwrap());
    let create = |at: &str| {
        let entry = directory();
        commit(
            &store,
            one(Step::Create {
                path: path(at),
                entry,
            }),
        )
        .unwrap();
    };
    let delete = |at: &str| {
        let delete_chunks = true;
        commit(
            &store,
            one(Step::Delete {
                path: path(at),
                delete_chunks,
            }),
        )
        .unwrap();
    };
    let tables = || server.sql(&shared.config.database, "SHOW TABLES").unwrap();
    for at in ["/buckets", "/buckets/one", "/buckets/one/d"] {
        create(at);
    }
    assert_eq!(tables(), ["filemeta", "one"]);
    delete("/buckets/one/d");
    delete("/buckets/one");
    assert_eq!(tables(), ["filemeta"]);
    // And again, as if it had never been.
    for at in ["/buckets/one", "/buckets/one/d"] {
        create(at);
    }
    delete("/buckets/one/d");
    let sql = "INSERT INTO one (dirhash, name, directory, meta) VALUES (1, 'x', '/other', 'y')";
    server.sql(&shared.config.database, sql).unwrap();
    delete("/buckets/one");
    assert_eq!(tables(), ["filemeta", "one"], "somebody's row is in it");
}

fn statement_log(server: Server) {
    let options = [
        "--log-bin=log",
        "--binlog-format=STATEMENT",
        "--server-id=1",
    ];
    let logging = Server::start(server.kind(), &options).unwrap();
    let shared = Shared::on(&logging);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = as_store(&filers[writer % 2]);
            scope.spawn(move || {
                for n in 0..25 {
                    commit(&store, create(&format!("/{n}-{writer}"), "x")).unwrap();
                }
            });
        }
    });
    let all = [announced(&filers[0]), announced(&filers[1])];
    assert_eq!(all.each_ref().map(Vec::len), [50, 50]);
    assert_eq!(told(&all), state(&as_store(&filers[0])));
}

/// An authority, as a file, and what it signed.
struct Authority {
    file: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = dir.join("authority.crt");
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { file, issuer }
    }

    /// A certificate of a name, and its key.
    fn signed(&self, name: &str) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        [signed.pem(), key.serialize_pem()]
    }
}

fn encrypted(mut server: Server) {
    let (mine, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trusted, other) = (Authority::new(mine.path()), Authority::new(another.path()));
    let shared = Shared::on(&server);
    let [certificate, key] = trusted.signed("localhost");
    server.encrypt(&certificate, &key, &trusted.file).unwrap();
    let users = "CREATE USER coded@'%' REQUIRE SSL; CREATE USER known@'%' REQUIRE X509; \
                 GRANT ALL ON *.* TO coded@'%'; GRANT ALL ON *.* TO known@'%'";
    for sql in users.split("; ") {
        server.sql("", sql).unwrap();
    }
    let open = |user: &str, hostname: &str, tls: Option<Tls>| {
        let config = Config {
            hostname: hostname.to_owned(),
            username: user.to_owned(),
            tls,
            ..shared.config.clone()
        };
        dulse_store_mysql::open(config, &shared.options(1))
    };
    let trusting = |authority: &Authority| Tls {
        authorities: Some(authority.file.clone()),
        identity: None,
        server_name: String::new(),
        is_unchecked: false,
    };
    let refused = |result: Result<SharedStore<MySql>, Error>, because: &str| {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let chain = error.repeated().to_string();
        assert!(chain.contains(because), "{chain}");
    };
    refused(
        open("coded", "localhost", Some(trusting(&other))),
        "certificate",
    );
    refused(
        open("coded", "127.0.0.1", Some(trusting(&trusted))),
        "certificate",
    );
    refused(open("coded", "localhost", None), "Access denied");
    // The user may not be spoken to in the clear: that it works shows that it was not.
    let store = Arc::new(open("coded", "localhost", Some(trusting(&trusted))).unwrap());
    commit(&as_store(&store), create("/a", "x")).unwrap();
    drop(store);
    let named = Tls {
        server_name: "localhost".to_owned(),
        ..trusting(&trusted)
    };
    drop(open("coded", "127.0.0.1", Some(named)).unwrap());
    let unchecked = Tls {
        is_unchecked: true,
        ..trusting(&other)
    };
    drop(open("coded", "localhost", Some(unchecked)).unwrap());

    refused(
        open("known", "localhost", Some(trusting(&trusted))),
        "Access denied",
    );
    let files = ["client.crt", "client.key"].map(|name| mine.path().join(name));
    for (file, content) in files.iter().zip(trusted.signed("filer")) {
        std::fs::write(file, content).unwrap();
    }
    let [certificate, key] = files;
    let known = Tls {
        identity: Some((certificate, key)),
        ..trusting(&trusted)
    };
    let store = Arc::new(open("known", "localhost", Some(known)).unwrap());
    commit(&as_store(&store), create("/b", "x")).unwrap();
    let missing = Tls {
        authorities: Some(mine.path().join("none")),
        ..trusting(&trusted)
    };
    let error = open("coded", "localhost", Some(missing))
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("expected PEM certificates"),
        "{error}"
    );
}
