// SPDX-License-Identifier: Apache-2.0
//! Several filers on one server: what each announces, lost answers, a server that is killed, one
//! that is replaced.
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
use dulse_store_redis::{Config, Names, Redis, Servers, Tls};
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
        "a_multi_whose_answer_is_cut_off_is_told_as_what_became_of_it",
        cut_off,
    ),
    (
        "only_a_server_that_a_trusted_authority_names_is_spoken_to",
        encrypted,
    ),
    ("user_password_database_and_prefix_are_used", logged_in),
    ("a_promise_holds_back_what_is_under_way", promised),
    ("a_killed_master_is_replaced", failover),
    ("a_stopped_master_is_replaced", stopped_master),
    ("a_full_server_refuses_writes_and_loses_nothing", full),
    (
        "a_server_that_misses_its_replicas_makes_nothing",
        without_replicas,
    ),
    ("what_expired_keeps_no_name", expired),
    ("upstreams_lock_on_a_list_of_names_is_waited_for", locked),
    ("tickets_go_once_they_are_known", few_tickets),
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
        let servers = Servers::One(server.address());
        let config = Config::at(Names::SortedSet, servers);
        Self { dir, config }
    }

    fn options(&self, filer: u8) -> SharedOptions {
        SharedOptions {
            journal: self.dir.path().join(format!("journal-{filer}")),
            random: u64::from(filer) << 40 | 0x1234_5678,
        }
    }

    fn open(&self, filer: u8) -> Result<Arc<SharedStore<Redis>>, Error> {
        dulse_store_redis::open(self.config.clone(), &self.options(filer)).map(Arc::new)
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
    let (one, mut two) = (Shared::on(&server), Shared::on(&server));
    "two:".clone_into(&mut two.config.key_prefix);
    drop(one.open(1).unwrap());
    let options = SharedOptions {
        random: 7 << 32 | 99,
        ..two.options(1)
    };
    drop(dulse_store_redis::open(two.config.clone(), &options).unwrap());
    let error = dulse_store_redis::open(two.config.clone(), &one.options(1))
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("a directory of its own"),
        "{error}"
    );
}

fn replay(server: Server) {
    for names in [Names::SortedSet, Names::SkipList] {
        replay_in(&server, names);
    }
}

fn replay_in(server: &Server, names: Names) {
    let mut shared = Shared::on(server);
    shared.config.names = names;
    shared.config.key_prefix = format!("{names:?}:");
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
    inner: Redis,
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
            inner: Redis::connect(config).await?,
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
    for names in [Names::SortedSet, Names::SkipList] {
        killed_in(&mut server, names);
    }
}

fn killed_in(server: &mut Server, names: Names) {
    let mut shared = Shared::on(server);
    shared.config.names = names;
    shared.config.key_prefix = format!("{names:?}:");
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

/// A way to the server that ends when a `MULTI` is sent, before or behind the server's getting
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
                    let is_commit = bytes[..n].windows(6).any(|text| text == b"EXEC\r\n");
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
    let port = cutting(server.port, &n_before, &n_behind);
    let config = Config {
        servers: Servers::One(format!("127.0.0.1:{port}")),
        ..shared.config.clone()
    };
    let filer = Arc::new(dulse_store_redis::open(config, &shared.options(1)).unwrap());
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

fn encrypted(_: Server) {
    let (mine, another) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trusted, [certificate, key]) = authority(mine.path());
    let (not_trusted, _) = authority(another.path());
    let file = |name: &str, content: &str| {
        let file = mine.path().join(name);
        std::fs::write(&file, content).unwrap();
        file
    };
    let own = (file("server.crt", &certificate), file("server.key", &key));
    let text = |path: &Path| path.display().to_string();
    let tls_port = server::free_port().unwrap();
    let server = Server::start_with(&[
        "--tls-port",
        &tls_port.to_string(),
        "--tls-cert-file",
        &text(&own.0),
        "--tls-key-file",
        &text(&own.1),
        "--tls-ca-cert-file",
        &text(&trusted),
        "--tls-auth-clients",
        "yes",
    ])
    .unwrap();
    let shared = Shared::on(&server);
    let open = |host: &str, authorities: &Path, own: Option<_>| {
        let config = Config {
            servers: Servers::One(format!("{host}:{tls_port}")),
            tls: Tls::On {
                authorities: Some(authorities.to_owned()),
                own,
            },
            ..shared.config.clone()
        };
        dulse_store_redis::open(config, &shared.options(1))
    };
    let refused = [
        open("localhost", &not_trusted, Some(own.clone())),
        open("127.0.0.1", &trusted, Some(own.clone())),
        // The server asks for a certificate.
        open("localhost", &trusted, None),
    ];
    for result in refused {
        let error = result.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    let store = Arc::new(open("localhost", &trusted, Some(own)).unwrap());
    commit(&as_store(&store), create("/a", "x")).unwrap();
    assert_eq!(shown(&as_store(&store), "/a"), Some(file_of("x")));
}

fn file_of(content: &str) -> Entry {
    dulse_store_testkit::file(content)
}

fn logged_in(server: Server) {
    server
        .command(&[
            "ACL", "SETUSER", "filer", "on", ">secret", "~*", "+@all", "-config", "-@admin",
        ])
        .unwrap();
    server
        .command(&["ACL", "SETUSER", "default", "off"])
        .unwrap();
    let shared = Shared::on(&server);
    let open = |password: &str| {
        let config = Config {
            username: "filer".to_owned(),
            password: password.to_owned(),
            database: 5,
            key_prefix: "p:".to_owned(),
            ..shared.config.clone()
        };
        dulse_store_redis::open(config, &shared.options(1))
    };
    let error = open("wrong").map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    let store = Arc::new(open("secret").unwrap());
    commit(&as_store(&store), create("/a", "x")).unwrap();
    let user = ["--user", "filer", "--pass", "secret", "--no-auth-warning"];
    let keys = |database: &str| {
        let mut all = user.to_vec();
        all.extend(["-n", database, "KEYS", "p:/*"]);
        server.command(&all).unwrap()
    };
    assert_eq!(keys("0"), "");
    assert!(keys("5").contains("p:/a"), "{}", keys("5"));
}

/// A master with a replica and a sentinel, and a store that asks the sentinel.
struct Watched {
    master: Server,
    replica: Server,
    sentinel: Server,
}

impl Watched {
    fn start() -> Self {
        let master = Server::start().unwrap();
        let of = format!("127.0.0.1 {}", master.port);
        let replica = Server::start_with(&[
            "--appendonly",
            "yes",
            "--replicaof",
            &of,
            "--repl-diskless-sync-delay",
            "0",
        ])
        .unwrap();
        replica
            .wait_for(&["INFO", "replication"], "master_link_status:up")
            .unwrap();
        let sentinel = Server::start_sentinel(master.port).unwrap();
        sentinel
            .wait_for(&["SENTINEL", "REPLICAS", "main"], "slave")
            .unwrap();
        Self {
            master,
            replica,
            sentinel,
        }
    }

    fn servers(&self) -> Servers {
        Servers::Sentinel {
            sentinels: vec!["127.0.0.1:1".to_owned(), self.sentinel.address()],
            master: "main".to_owned(),
            username: String::new(),
            password: String::new(),
        }
    }

    /// Waits until the master has what was acknowledged at its replica.
    fn settle(&self) {
        let replicated = self.master.command(&["WAIT", "1", "30000"]).unwrap();
        assert_eq!(replicated, "1");
    }
}

/// A master that is killed, or stops, is replaced; writes go on at the new one, and what was at
/// both is there.
fn replaced(signal: &str, server: &Server) {
    let watched = Watched::start();
    let mut shared = Shared::on(server);
    shared.config.servers = watched.servers();
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    for n in 0..50 {
        commit(&store, create(&format!("/before-{n}"), "x")).unwrap();
    }
    watched.settle();
    watched.master.signal(signal).unwrap();
    // What is asked for meanwhile is refused, or its outcome unknown; then it goes on.
    let (mut made, mut n_failed) = (Vec::new(), 0);
    for n in 0.. {
        let at = format!("/behind-{n}");
        match commit(&store, create(&at, "x")) {
            Ok(_) => made.push(at),
            Err(error) => {
                assert!(
                    error.is_retryable() || error.outcome() == Outcome::Unknown,
                    "{error:?}"
                );
                n_failed += 1;
                assert!(n_failed < 100, "no other master: {error:?}");
            }
        }
        if made.len() == 50 {
            break;
        }
    }
    println!("{n_failed} writes failed until the replica took over");
    let role = watched.replica.command(&["ROLE"]).unwrap();
    assert!(role.starts_with("master"), "{role}");
    for at in made
        .iter()
        .map(String::as_str)
        .chain(["/before-0", "/before-49"])
    {
        assert!(shown(&store, at).is_some(), "{at} is lost");
    }
    // It comes back as a replica: nobody reads there what is old.
    watched.master.signal("CONT").unwrap_or(());
    commit(&store, create("/last", "x")).unwrap();
    assert_eq!(shown(&store, "/last"), Some(file("x")));
}

fn failover(server: Server) {
    replaced("KILL", &server);
}

fn stopped_master(server: Server) {
    replaced("STOP", &server);
}

fn full(server: Server) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, create("/a", "x")).unwrap();
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    let error = commit(&store, create("/b", "x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(shown(&store, "/a"), Some(file("x")), "reads go on");
    server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .unwrap();
    assert_eq!(shown(&store, "/b"), None);
    commit(&store, create("/b", "x")).unwrap();
    let log = announced(&filer);
    assert_eq!(log.len(), 2);
    assert_eq!(told(&[log]), state(&store));
}

fn without_replicas(server: Server) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    server
        .command(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .unwrap();
    let error = commit(&store, create("/a", "x")).unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Unavailable, Outcome::NotApplied),
        "{error:?}"
    );
    assert_eq!(shown(&store, "/a"), None);
    server
        .command(&["CONFIG", "SET", "min-replicas-to-write", "0"])
        .unwrap();
    commit(&store, create("/a", "x")).unwrap();
}

/// What the server takes out when its time is over is not listed, and its name goes, too.
fn expired(server: Server) {
    let mut shared = Shared::on(&server);
    for names in [Names::SortedSet, Names::SkipList] {
        shared.config.names = names;
        shared.config.key_prefix = format!("{names:?}:");
        let journal = match names {
            Names::SortedSet => 1,
            Names::SkipList => 2,
        };
        let store = as_store(&shared.open(journal).unwrap());
        let mut fields = file("x").fields().unwrap();
        fields.attrs_mut().ttl_sec = 3_600;
        let entry = fields.to_entry(&file("x").unknown());
        commit(
            &store,
            one(Step::Create {
                path: path("/d"),
                entry: directory(),
            }),
        )
        .unwrap();
        commit(
            &store,
            one(Step::Create {
                path: path("/d/a"),
                entry,
            }),
        )
        .unwrap();
        commit(&store, create("/d/b", "x")).unwrap();
        let key = format!("{names:?}:/d/a");
        let left: i64 = server.command(&["TTL", &key]).unwrap().parse().unwrap();
        assert!((1..=3_600).contains(&left), "{left}");
        server.command(&["PEXPIRE", &key, "1"]).unwrap();
        server.wait_for(&["EXISTS", &key], "0").unwrap();
        assert_eq!(shown(&store, "/d/a"), None);
        // A name without its row is nothing that keeps the directory.
        let delete = |at: &str| {
            one(Step::Delete {
                path: path(at),
                delete_chunks: true,
            })
        };
        commit(&store, delete("/d/b")).unwrap();
        commit(&store, delete("/d")).unwrap();
        assert!(state(&store).is_empty());
    }
}

/// Upstream's filers change lists of names under a lock; nothing of ours is made meanwhile.
fn locked(server: Server) {
    let mut shared = Shared::on(&server);
    shared.config.names = Names::SkipList;
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    server
        .command(&[
            "EVAL",
            "return redis.call('SET', '/\\0lock', 'theirs', 'PX', 300)",
            "0",
        ])
        .unwrap();
    commit(&store, create("/a", "x")).unwrap();
    let held = ["EVAL", "return redis.call('EXISTS', '/\\0lock')", "0"];
    assert_eq!(
        server.command(&held).unwrap(),
        "0",
        "it waited until the lock was gone"
    );
    assert_eq!(state(&store).len(), 1);
}

/// Only what is not known yet has tickets in the server, and those of a while ago go.
fn few_tickets(server: Server) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    for n in 0..100 {
        commit(&store, create(&format!("/{n}"), "x")).unwrap();
    }
    let keys = ["EVAL", "return #redis.call('KEYS', 'dulse.ticket.*')", "0"];
    let count = || server.command(&keys).unwrap().parse::<usize>().unwrap();
    assert!(count() > 0);
    let ttl = [
        "EVAL",
        "return redis.call('TTL', redis.call('KEYS', 'dulse.ticket.*')[1])",
        "0",
    ];
    assert!(
        server.command(&ttl).unwrap().parse::<i64>().unwrap() > 0,
        "they go by themselves"
    );
    // Those above are known for long enough after a while; each attempt takes some out.
    let began = std::time::Instant::now();
    let mut n = 100;
    while count() > 50 {
        commit(&store, create(&format!("/{n}"), "x")).unwrap();
        n += 1;
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(
            began.elapsed().as_secs() < 60,
            "{} tickets are left",
            count()
        );
    }
}
