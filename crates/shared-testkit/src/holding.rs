// SPDX-License-Identifier: Apache-2.0
//! What was compared stays as it was until the change is made; what is locked is not told as gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_shared::{Backend, Guard, Held, Work, Write, held};
use dulse_store::{ErrorKind, ListRange, Step};
use dulse_store_testkit::{commit, file, path};

use crate::filers::{Server, Shared, as_store, create, one, shown};

/// Pause before the server is asked again who waits. MySQL 5.6 answers as it did before when it
/// was asked less than 100 ms ago.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Nobody waits and nobody got through for this long: the test has found nothing out.
const LOOK_TIME_MAX: Duration = Duration::from_secs(60);

/// Two writers compare the same two entries, and each writes another one of them: of databases
/// that compare without holding, both would be made, each by what the other undid.
///
/// The second one begins while the first one holds what it compared, and the first one goes on
/// once the server says that somebody waits for a lock, or the second one got through.
///
/// - `waits`: asks the server whether somebody waits for a lock; called on a thread of its own.
///
/// # Panics
///
/// When both are made.
pub fn compared_entries_are_held<S: Server>(server: &S, waits: impl Fn() -> bool + Sync) {
    let shared = Shared::on(server);
    let filer = shared.open(1).unwrap();
    for at in ["/a", "/b"] {
        commit(&as_store(&filer), create(at, "x")).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let connect = || runtime.block_on(S::connect(shared.config.clone())).unwrap();
    let (first, second) = (connect(), Arc::new(connect()));
    let row = |at| runtime.block_on(first.get(&path(at))).unwrap().unwrap();
    let guards = vec![
        Guard::Same(path("/a"), row("/a")),
        Guard::Same(path("/b"), row("/b")),
    ];
    let work = |ticket, at| Work {
        ticket,
        guards: guards.clone(),
        writes: vec![Write::Replace(path(at), Bytes::from_static(b"another"))],
    };
    let is_through = Arc::new(AtomicBool::new(false));
    let (is_seen, others) = (Arc::clone(&is_through), work(2, "/a"));
    let (start, started) = tokio::sync::oneshot::channel::<()>();
    let made_second = runtime.spawn(async move {
        started.await.expect("the first one holds");
        let through: &Held<'_> = &|_| {
            is_seen.store(true, Ordering::SeqCst);
            held()
        };
        second.apply(&others, through).await
    });
    let start = std::sync::Mutex::new(Some(start));
    let holding: &Held<'_> = &|_| {
        let start = start.lock().unwrap().take().expect("it is called once");
        start.send(()).expect("the second one waits");
        // On a thread of its own: who asks the server may do so by a runtime.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let began = Instant::now();
                while !is_through.load(Ordering::SeqCst) && !waits() {
                    assert!(began.elapsed() < LOOK_TIME_MAX, "nobody waits for the lock");
                    std::thread::sleep(LOOK_PAUSE);
                }
            });
        });
        held()
    };
    runtime
        .block_on(first.apply(&work(1, "/b"), holding))
        .unwrap();
    let made_second = runtime.block_on(made_second).unwrap();
    let error = made_second.expect_err("one of them is made, by what is there");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

/// For how long a table is locked: longer than a statement waits for a lock, and shorter than a
/// read is tried again.
const TABLE_LOCKED_S: u64 = 15;

/// What is there is told as there, or not told at all, while somebody holds the whole table.
///
/// - `lock`: locks the table of entries in the database of a configuration for so many seconds,
///   and returns when it has let go.
///
/// # Panics
///
/// When an entry, a name in a directory or a key is told as not there.
pub fn what_is_locked_is_not_told_as_gone<S: Server>(
    server: &S,
    lock: impl Fn(&S::Config, u64) + Sync,
) {
    let shared = Shared::on(server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let (key, value) = (Bytes::from_static(&[7; 16]), Bytes::from_static(b"v"));
    let put = Step::KvPut {
        key: key.clone(),
        value: value.clone(),
    };
    commit(&store, create("/a", "x")).unwrap();
    commit(&store, one(put)).unwrap();
    let range = ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: false,
        limit: 10,
    };
    let is_over = AtomicBool::new(false);
    let until_over = |look: &dyn Fn()| {
        while !is_over.load(Ordering::SeqCst) {
            look();
        }
    };
    std::thread::scope(|scope| {
        let find = || assert_eq!(shown(&store, "/a"), Some(file("x")));
        scope.spawn(move || until_over(&find));
        let list = || assert_eq!(store.list(&path("/"), &range).unwrap().len(), 1);
        scope.spawn(move || until_over(&list));
        let kv_get = || assert_eq!(store.kv_get(&key).unwrap().as_ref(), Some(&value));
        scope.spawn(move || until_over(&kv_get));
        lock(&shared.config, TABLE_LOCKED_S);
        is_over.store(true, Ordering::SeqCst);
    });
}
