// SPDX-License-Identifier: Apache-2.0
//! Several filers on one cluster: what each announces, servers that are killed or replaced, slots
//! that move, names and rows that lie on several servers.
//!
//! Against real servers, three for all cases but one; without them the cases are ignored with the
//! reason, in CI failed.

#[path = "support/late.rs"]
mod late;
#[path = "support/moving.rs"]
mod moving;
#[path = "support/secured.rs"]
mod secured;
#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use anyhow::Context;
use dulse_shared::Stepwise;
use dulse_shared_testkit::{
    Case, announced, as_store, cases_of_rows, create, one, run, shown, state, told, trial,
};
use dulse_store::{Error, ErrorKind, Outcome, Step, Transaction};
use dulse_store_redis::{Config, Names, RedisCluster, Servers};
use dulse_store_testkit::{commit, directory, file, path};
use server::Server;

type Shared = dulse_shared_testkit::Shared<Cluster>;

/// What is acknowledged is on disk.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

const LAYOUTS: [Names; 2] = [Names::SortedSet, Names::SkipList];

/// What is asked of a cluster alone.
const CASES: &[Case<Cluster>] = &[
    ("slots_that_move_under_load_lose_nothing", moved_slots),
    ("a_name_in_doubt_is_listed_until_it_is_a_name", in_doubt),
    ("a_name_whose_row_expired_goes", expired),
    (
        "braces_in_names_say_where_keys_lie_and_nothing_else",
        braces,
    ),
    ("upstreams_lock_on_a_list_of_names_is_waited_for", locked),
    ("a_full_server_refuses_writes_and_loses_nothing", full),
    (
        "what_was_sent_under_a_lock_that_ended_takes_no_name",
        late::lists,
    ),
    ("a_write_that_met_another_row_is_not_made_later", late::rows),
    ("a_directory_whose_slot_moves_is_listed", late::split),
    ("many_names_without_rows_go_together", late::many_expired),
    ("rows_written_together_are_known_each_for_itself", many),
    ("a_killed_master_is_replaced", failover),
    (
        "servers_that_ask_for_logins_and_certificates_are_followed",
        secured::followed,
    ),
    (
        "servers_are_spoken_to_by_the_names_that_they_announce",
        secured::named,
    ),
];

/// The servers of all cases, each with keys of its own; some of them kill them.
static SERVERS: Mutex<Vec<Server>> = Mutex::new(Vec::new());

/// The number of the last case that was started.
static N_CASES: AtomicUsize = AtomicUsize::new(0);

struct Cluster {
    n: usize,
}

fn servers() -> MutexGuard<'static, Vec<Server>> {
    // A case that panicked has failed; the servers are as good as before.
    SERVERS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn main() -> std::process::ExitCode {
    let started = Server::start_cluster(0, &DURABLE);
    let lacks = started.as_ref().err().map(|e| format!("{e:#}"));
    *servers() = started.unwrap_or_default();
    let start = || {
        let n = N_CASES.fetch_add(1, Ordering::SeqCst);
        Ok(Cluster { n })
    };
    let of = |(name, case): (&str, _)| trial(name.to_owned(), case, start, lacks.clone());
    let cases = cases_of_rows().into_iter().chain(CASES.iter().copied());
    let code = run(cases.map(of).collect());
    servers().clear();
    code
}

impl dulse_shared_testkit::Server for Cluster {
    type Backend = Stepwise<RedisCluster>;
    type Config = Config;
    const LAYOUTS: usize = 2;
    const HAS_TRANSACTIONS: bool = false;
    const COMMIT: &'static [u8] = b"EVAL";

    fn database(&self, layout: usize, n: usize, _: &Path) -> Config {
        let addresses = servers().iter().map(Server::address).collect();
        Config {
            key_prefix: format!("{}.{layout}.{n}:", self.n),
            ..Config::at(LAYOUTS[layout], Servers::Cluster(addresses))
        }
    }
    async fn connect(config: Config) -> Result<Self::Backend, Error> {
        RedisCluster::connect(config).await.map(Stepwise)
    }
    fn port(&self) -> u16 {
        servers().first().expect("it was started").port
    }
    fn through(config: &Config, port: u16) -> Config {
        Config {
            servers: Servers::Cluster(vec![format!("127.0.0.1:{port}")]),
            ..config.clone()
        }
    }
    fn kill(&mut self) -> anyhow::Result<()> {
        servers().iter_mut().try_for_each(Server::kill)
    }
    fn start_again(&mut self) -> anyhow::Result<()> {
        let mut servers = servers();
        servers.iter_mut().try_for_each(Server::start_again)?;
        let ready = |server: &Server| server.wait_for(&["CLUSTER", "INFO"], "cluster_state:ok");
        servers.iter().try_for_each(ready)
    }
}

/// What a command gives at the server that has a key.
fn at(key: &str, arguments: &[&str]) -> String {
    let servers = servers();
    let server = servers.first().expect("it was started");
    server.command_at(arguments, key.as_bytes()).unwrap()
}

/// Has every server do a command; gives what they printed that is not empty.
fn everywhere(arguments: &[&str]) -> Vec<String> {
    let said = servers()
        .iter()
        .map(|server| server.command(arguments).unwrap())
        .collect::<Vec<_>>();
    said.into_iter().filter(|said| !said.is_empty()).collect()
}

/// The id of a server in its cluster.
fn id_of(server: &Server) -> anyhow::Result<String> {
    server.command(&["CLUSTER", "MYID"])
}

fn make_directory(at: &str) -> dulse_store::Transaction {
    one(Step::Create {
        path: path(at),
        entry: directory(),
    })
}

fn moved_slots(cluster: Cluster) {
    for layout in 0..LAYOUTS.len() {
        let shared = Shared::of(&cluster, layout, layout);
        moving::under_load(&shared, &servers());
    }
}

/// Who dies, or is kept from it, between the row and its name leaves a doubt that all look at.
fn in_doubt(cluster: Cluster) {
    let shared = Shared::on(&cluster);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    let stores = [as_store(&filers[0]), as_store(&filers[1])];
    commit(&stores[0], make_directory("/d")).unwrap();
    everywhere(&["ACL", "SETUSER", "default", "-zadd"]);
    let made = commit(&stores[0], create("/d/x", "x"));
    everywhere(&["ACL", "SETUSER", "default", "+zadd"]);
    made.unwrap();
    let prefix = &shared.config.key_prefix;
    let names = format!("{prefix}/d\0");
    let listed = || {
        let script = "return redis.call('ZRANGE', KEYS[1], 0, -1)";
        at(&names, &["EVAL", script, "1"])
    };
    assert_eq!(listed(), "", "its name is not there yet");
    assert_eq!(state(&stores[1]).get(&path("/d/x")), Some(&file("x")));
    // A directory whose only name is in doubt is not empty.
    let delete = |at: &str| {
        one(Step::Delete {
            path: path(at),
            delete_chunks: true,
        })
    };
    assert!(commit(&stores[1], delete("/d")).is_err());
    let doubts = format!("{prefix}dulse.slot.*.names./d");
    let keys = everywhere(&["KEYS", &doubts]);
    assert_eq!(keys.len(), 1, "{keys:?}");
    // Ten minutes later.
    let script = "for _, d in ipairs(redis.call('HKEYS', KEYS[1])) do \
                  redis.call('HSET', KEYS[1], d, 1) end return 1";
    at(&keys[0], &["EVAL", script, "1"]);
    assert_eq!(state(&stores[1]).len(), 2);
    assert_eq!(listed(), "x");
    assert!(everywhere(&["KEYS", &doubts]).is_empty());
    commit(&stores[1], delete("/d/x")).unwrap();
    commit(&stores[0], delete("/d")).unwrap();
    assert!(state(&stores[0]).is_empty());
    assert_eq!(listed(), "");
}

fn expired(cluster: Cluster) {
    for layout in 0..LAYOUTS.len() {
        let shared = Shared::of(&cluster, layout, layout);
        let store = as_store(&shared.open(1).unwrap());
        commit(&store, make_directory("/d")).unwrap();
        let mut fields = file("x").fields().unwrap();
        fields.attrs_mut().ttl_sec = 3_600;
        let entry = fields.to_entry(&file("x").unknown());
        let step = Step::Create {
            path: path("/d/a"),
            entry,
        };
        commit(&store, one(step)).unwrap();
        commit(&store, create("/d/b", "x")).unwrap();
        let prefix = &shared.config.key_prefix;
        let row = format!("{prefix}/d/a");
        let left: i64 = at(&row, &["TTL"]).parse().unwrap();
        assert!((1..=3_600).contains(&left), "{left}");
        assert_eq!(at(&row, &["DEL"]), "1");
        assert_eq!(shown(&store, "/d/a"), None);
        assert_eq!(state(&store).len(), 2);
        for at in ["/d/b", "/d"] {
            let delete = Step::Delete {
                path: path(at),
                delete_chunks: true,
            };
            commit(&store, one(delete)).unwrap();
        }
        assert!(state(&store).is_empty());
        // Nothing is left of the names.
        let names = format!("{prefix}/*\0*").replace('\0', "[^/]");
        let left = everywhere(&["KEYS", &names]);
        let left: Vec<&String> = left.iter().filter(|keys| keys.contains("/d")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn braces(cluster: Cluster) {
    let all = [
        "/{a}",
        "/{a}/}{",
        "/{a}/{b}x",
        "/{}",
        "/{}/y",
        "/{",
        "/{/z}",
    ];
    for layout in 0..LAYOUTS.len() {
        let mut shared = Shared::of(&cluster, layout, layout);
        for prefix in ["", "{t}", "a{"] {
            shared.config.key_prefix = format!("{prefix}{}", shared.config.key_prefix);
            let journal = u8::try_from(prefix.len()).unwrap() + 1;
            let store = as_store(&shared.open(journal).unwrap());
            for at in all {
                let is_directory = all.iter().any(|other| other.starts_with(&format!("{at}/")));
                let step = if is_directory {
                    make_directory(at)
                } else {
                    create(at, at)
                };
                commit(&store, step).unwrap();
            }
            assert_eq!(state(&store).len(), all.len());
            let moved = Step::Rename {
                from: path("/{a}"),
                to: path("/}b{"),
            };
            commit(&store, one(moved)).unwrap();
            assert_eq!(shown(&store, "/}b{/}{"), Some(file("/{a}/}{")));
            assert_eq!(state(&store).len(), all.len());
        }
        shared.config.key_prefix = "a{}".to_owned();
        let error = shared.open(9).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("keyPrefix"), "{error}");
    }
}

fn locked(cluster: Cluster) {
    let shared = Shared::of(&cluster, 1, 0);
    let store = as_store(&shared.open(1).unwrap());
    let lock = format!("{}/\0lock", shared.config.key_prefix);
    let script = "return redis.call('SET', KEYS[1], 'theirs', 'PX', 300)";
    at(&lock, &["EVAL", script, "1"]);
    commit(&store, create("/a", "x")).unwrap();
    assert_eq!(
        at(&lock, &["EXISTS"]),
        "0",
        "it waited, and gave its own up"
    );
    let root = format!("{}/\0", shared.config.key_prefix);
    assert_eq!(at(&root, &["EXISTS"]), "1");
    assert_eq!(state(&store).len(), 1);
}

/// Rows that are written together are each known for themselves: where one server refuses its
/// part, all of it is taken back.
fn many(cluster: Cluster) {
    let many = |first: usize| Transaction {
        steps: (first..first + 600)
            .map(|n| Step::Create {
                path: path(&format!("/d/{n}")),
                entry: file("x"),
            })
            .collect(),
        ..Transaction::default()
    };
    for layout in 0..LAYOUTS.len() {
        let shared = Shared::of(&cluster, 1, layout);
        let filer = shared.open(1).unwrap();
        let store = as_store(&filer);
        commit(&store, make_directory("/d")).unwrap();
        commit(&store, many(0)).unwrap();
        let before = state(&store);
        assert_eq!(before.len(), 601);
        let set = |rule: &str| {
            let servers = servers();
            let set = servers[0].command(&["ACL", "SETUSER", "default", rule]);
            assert_eq!(set.unwrap(), "OK");
        };
        set("-set");
        let made = commit(&store, many(600));
        set("+set");
        let error = made.map(drop).unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
        assert_eq!(state(&store), before);
        commit(&store, many(600)).unwrap();
        let there = state(&store);
        assert_eq!(there.len(), 1_201);
        assert_eq!(told(&[announced(&filer)]), there);
    }
}

fn full(cluster: Cluster) {
    let shared = Shared::on(&cluster);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    commit(&store, create("/a", "x")).unwrap();
    everywhere(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = commit(&store, create("/b", "x"));
    let there = shown(&store, "/a");
    everywhere(&["CONFIG", "SET", "maxmemory", "0"]);
    let error = refused.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(there, Some(file("x")), "reads go on");
    commit(&store, create("/b", "x")).unwrap();
    assert_eq!(told(&[announced(&filer)]), state(&store));
}

/// A master that is killed is replaced by its replica; writes go on, and what was at both is
/// there.
fn failover(cluster: Cluster) {
    let own = Server::start_cluster(1, &DURABLE).unwrap();
    let mut shared = Shared::on(&cluster);
    shared.config.servers = Servers::Cluster(own.iter().map(Server::address).collect());
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    for n in 0..50 {
        commit(&store, create(&format!("/before-{n}"), "x")).unwrap();
    }
    let is_master = |server: &&Server| {
        let role = server.command(&["ROLE"]).unwrap_or_default();
        role.starts_with("master")
    };
    let masters: Vec<&Server> = own.iter().filter(is_master).collect();
    assert_eq!(masters.len(), 3);
    for master in &masters {
        // What was acknowledged at them is at their replicas, too.
        master.wait_for_replica().unwrap();
    }
    let killed = masters.last().context("there are three").unwrap();
    killed.signal("KILL").unwrap();
    // What is asked for meanwhile is refused, or its outcome unknown; then it goes on.
    let (mut made, mut n_failed) = (Vec::new(), 0);
    for n in 0.. {
        let at = format!("/behind-{n}");
        match commit(&store, create(&at, "x")) {
            Ok(_) => made.push(at),
            Err(error) => {
                let is_unknown = error.outcome() == Outcome::Unknown;
                assert!(error.is_retryable() || is_unknown, "{error:?}");
                n_failed += 1;
                assert!(n_failed < 100, "no other master: {error:?}");
            }
        }
        if made.len() == 50 {
            break;
        }
    }
    println!("{n_failed} writes failed until the replica took over");
    assert_eq!(own.iter().filter(is_master).count(), 3, "one took over");
    let there = state(&store);
    for at in made
        .iter()
        .map(String::as_str)
        .chain(["/before-0", "/before-49"])
    {
        assert!(there.contains_key(&path(at)), "{at} is lost");
    }
}
