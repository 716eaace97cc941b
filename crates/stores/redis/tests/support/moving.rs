// SPDX-License-Identifier: Apache-2.0
//! Slots that move while filers write and list.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dulse_shared_testkit::{announced, as_store, create, state, told};
use dulse_store_testkit::{commit, path};

use super::server::Server;
use super::{Shared, id_of, make_directory};

/// Moves slots from server to server under two filers: what they made is there and is told.
pub(crate) fn under_load(shared: &Shared, servers: &[Server]) {
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    commit(&as_store(&filers[0]), make_directory("/d")).unwrap();
    let (is_over, n_made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let made = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_usize)
            .map(|writer| {
                let store = as_store(&filers[writer % 2]);
                let (is_over, n_made) = (&is_over, &n_made);
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for n in 0.. {
                        if is_over.load(Ordering::SeqCst) {
                            break;
                        }
                        let at = format!("/d/{writer}-{n}");
                        match commit(&store, create(&at, &at)) {
                            Ok(_) => made.push(at),
                            // Keys of one slot may be on two servers for a moment.
                            Err(error) => assert!(error.is_retryable(), "{error:?}"),
                        }
                        n_made.fetch_add(1, Ordering::SeqCst);
                    }
                    made
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut n_read = 0;
            while !is_over.load(Ordering::SeqCst) {
                n_read = state(&as_store(&filers[0])).len();
            }
            n_read
        });
        let ids: Vec<String> = servers.iter().map(|one| id_of(one).unwrap()).collect();
        for (from, to) in [(0, 1), (1, 2)] {
            let address = servers[from].address();
            let said = servers[from].command(&[
                "--cluster",
                "reshard",
                &address,
                "--cluster-from",
                &ids[from],
                "--cluster-to",
                &ids[to],
                "--cluster-slots",
                "300",
                "--cluster-yes",
            ]);
            said.unwrap();
        }
        let until = n_made.load(Ordering::SeqCst) + 50;
        while n_made.load(Ordering::SeqCst) < until {
            std::thread::yield_now();
        }
        is_over.store(true, Ordering::SeqCst);
        assert!(reader.join().unwrap() > 0);
        let joined = writers.into_iter().map(|writer| writer.join().unwrap());
        joined.flatten().collect::<Vec<_>>()
    });
    println!("{} writes were made", made.len());
    let there = state(&as_store(&filers[1]));
    for at in &made {
        assert!(there.contains_key(&path(at)), "{at} is lost");
    }
    let logs = [announced(&filers[0]), announced(&filers[1])];
    assert_eq!(told(&logs), there);
}
