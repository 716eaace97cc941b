// SPDX-License-Identifier: Apache-2.0
//! Many threads at one store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use dulse_kv::{Engine, ReadExt};

use crate::case::{Body, Case, Suite};
use crate::model::{END, all, put};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "concurrency",
    cases: &[
        Case {
            name: "writers_do_not_lose_one_anothers_batches",
            body: Body::Engine(writers_do_not_lose_one_anothers_batches),
        },
        Case {
            name: "what_write_returned_for_every_thread_sees",
            body: Body::Engine(what_write_returned_for_every_thread_sees),
        },
        Case {
            name: "checkpoints_snapshots_and_readers_do_not_disturb_writers",
            body: Body::Engine(checkpoints_snapshots_and_readers_do_not_disturb_writers),
        },
    ],
};

fn writers_do_not_lose_one_anothers_batches(engine: &dyn Engine) {
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            scope.spawn(move || {
                for n in 0..100u8 {
                    engine.write(put(&[thread, n], &[n])).unwrap();
                }
            });
        }
    });
    assert_eq!(all(engine).len(), 400);
}

fn what_write_returned_for_every_thread_sees(engine: &dyn Engine) {
    let (written, returned) = sync_channel::<u32>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..500u32 {
                engine.write(put(b"n", &n.to_be_bytes())).unwrap();
                written.send(n).unwrap();
            }
        });
        for n in returned {
            let value = engine.get(b"n").unwrap().unwrap();
            assert!(u32::from_be_bytes(value[..].try_into().unwrap()) >= n);
        }
    });
}

fn checkpoints_snapshots_and_readers_do_not_disturb_writers(engine: &dyn Engine) {
    let is_done = AtomicBool::new(false);
    let going = || !is_done.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while going() {
                engine.checkpoint().unwrap();
            }
        });
        scope.spawn(|| {
            while going() {
                let snapshot = engine.snapshot().unwrap();
                let rows = all(&*snapshot);
                assert_eq!(all(&*snapshot), rows);
            }
        });
        scope.spawn(|| {
            while going() {
                let rows = engine.scan(b"", END, 50).unwrap();
                assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
            }
        });
        for n in 0..400u32 {
            engine
                .write(put(&(n % 90).to_be_bytes(), &n.to_be_bytes()))
                .unwrap();
        }
        is_done.store(true, Ordering::Relaxed);
    });
    let rows = all(engine);
    assert_eq!(rows.len(), 90);
    assert_eq!(
        rows[&39u32.to_be_bytes()[..]],
        Bytes::copy_from_slice(&399u32.to_be_bytes())
    );
}
