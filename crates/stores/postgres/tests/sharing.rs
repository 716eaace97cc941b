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
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use bytes::Bytes;
use dulse_shared::{Announcement, Backend, Held, Settled, SharedOptions, SharedStore, Work};
use dulse_store::{EntryStore, Error, ErrorKind, ListRange, Operation, Outcome, Step, Transaction};
use dulse_store_postgres::{Config, Postgres, SslMode, Tables};
use dulse_store_testkit::{commit, directory, file, path};
use dulse_types::{Entry, FullPath, Stamp};
use libtest_mimic::{Arguments, Completion, Trial};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use server::Server;

/// A sentence, and what it does with a server of its own.
type Case = (&'static str, fn(Server));

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
    (
        "a_change_that_was_made_unseen_is_announced_at_the_next_start",
        made_unseen,
    ),
    ("a_change_that_was_not_made_is_never_announced", not_made),
    (
        "what_others_wrote_over_an_unknown_change_is_what_is_told",
        overwritten,
    ),
    ("a_killed_server_loses_and_doubles_nothing", killed),
    (
        "a_commit_whose_answer_is_cut_off_is_told_as_what_became_of_it",
        cut_off,
    ),
    (
        "only_a_server_that_a_trusted_authority_names_is_spoken_to",
        encrypted,
    ),
    ("a_promise_holds_back_what_is_under_way", promised),
];

fn main() -> std::process::ExitCode {
    let lacks = Server::start().map(drop).err().map(|e| format!("{e:#}"));
    let trial = |(name, case): &Case| {
        let (case, lacks) = (*case, lacks.clone());
        Trial::ignorable_test(*name, move || {
            if let Some(why) = lacks {
                if std::env::var_os("CI").is_some() {
                    return Err(why.into());
                }
                return Ok(Completion::ignored_with(why));
            }
            case(Server::start()?);
            Ok(Completion::Completed)
        })
    };
    let mut arguments = Arguments::from_args();
    // Each has a server of its own.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, CASES.iter().map(trial).collect()).exit_code()
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

    fn open(&self, filer: u8) -> Result<Arc<SharedStore<Postgres>>, Error> {
        dulse_store_postgres::open(self.config.clone(), &self.options(filer)).map(Arc::new)
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
    drop(dulse_store_postgres::open(two.config.clone(), &options).unwrap());
    let error = dulse_store_postgres::open(two.config.clone(), &one.options(1))
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
    inner: Postgres,
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
            inner: Postgres::connect(config).await?,
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

/// A way to the server that ends when a commit is sent, before or behind the server's getting
/// it, as often as is asked for. Gives its port.
fn cutting(to: u16, n_before: &Arc<AtomicUsize>, n_behind: &Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (n_before, n_behind) = (Arc::clone(n_before), Arc::clone(n_behind));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (
                client.unwrap(),
                TcpStream::connect(("127.0.0.1", to)).unwrap(),
            );
            let (mut from, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut back));
            let (n_before, n_behind) = (Arc::clone(&n_before), Arc::clone(&n_behind));
            let take = |n: &AtomicUsize| {
                n.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_ok()
            };
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(n @ 1..) = client.read(&mut bytes) {
                    let is_commit = bytes[..n].windows(7).any(|text| text == b"COMMIT\0");
                    if is_commit && take(&n_before) {
                        break;
                    }
                    let is_cut = is_commit && take(&n_behind);
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
            });
        }
    });
    port
}

fn cut_off(server: Server) {
    let shared = Shared::on(&server);
    let (n_before, n_behind) = (Arc::default(), Arc::default());
    let config = Config {
        port: cutting(server.port, &n_before, &n_behind),
        ..shared.config.clone()
    };
    let filer = Arc::new(dulse_store_postgres::open(config, &shared.options(1)).unwrap());
    let store = as_store(&filer);
    for n in 0..40 {
        let cut = if n % 2 == 0 { &n_before } else { &n_behind };
        cut.store(1, Ordering::SeqCst);
        let at = format!("/{n}");
        // Made, found out to be, or made anew: never called failed, never made twice.
        commit(&store, create(&at, "x")).unwrap();
        assert_eq!(cut.load(Ordering::SeqCst), 0, "it was cut");
    }
    let log = announced(&filer);
    assert_eq!(log.len(), 40, "each once");
    assert_eq!(told(&[log]), state(&store));
}

/// An authority, as a file, and the certificate of `localhost` that it signed.
fn authority(dir: &Path) -> (std::path::PathBuf, [String; 2]) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = dir.join("authority.crt");
    std::fs::write(&file, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let signed = params.signed_by(&key, &issuer).unwrap();
    (file, [signed.pem(), key.serialize_pem()])
}

fn encrypted(mut server: Server) {
    let (mine, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trusted, [certificate, key]) = authority(mine.path());
    let (not_trusted, _) = authority(another.path());
    let shared = Shared::on(&server);
    server.encrypt(&certificate, &key).unwrap();
    let open = |hostname: &str, authorities: &Path| {
        let config = Config {
            hostname: hostname.to_owned(),
            ssl: SslMode::VerifyFull {
                authorities: Some(authorities.to_owned()),
            },
            ..shared.config.clone()
        };
        dulse_store_postgres::open(config, &shared.options(1))
    };
    let refused = [open("localhost", &not_trusted), open("127.0.0.1", &trusted)];
    for result in refused {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(
            error.repeated().to_string().contains("certificate"),
            "{error:?}"
        );
    }
    let store = Arc::new(open("localhost", &trusted).unwrap());
    commit(&as_store(&store), create("/a", "x")).unwrap();
    let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
               WHERE application_name = 'dulse'";
    assert_eq!(
        server.sql(&shared.config.database, sql).unwrap().trim(),
        "t"
    );
}

/// The helper of other tests is used in parts.
const _: fn(Tables, &Path) -> Config = server::database_of;
