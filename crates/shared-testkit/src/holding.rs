// SPDX-License-Identifier: Apache-2.0
//! What was compared stays as it was until the change is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_shared::{Backend, Guard, Held, Work, Write, held};
use dulse_store::ErrorKind;
use dulse_store_testkit::{commit, path};

use crate::filers::{Server, Shared, as_store, create};

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
