// SPDX-License-Identifier: Apache-2.0
//! RocksDB itself meets a full disk, as nothing is refused before: what is in memory is neither
//! lost nor hidden, and once there is room the open store goes on by itself.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use dulse_engine_rocksdb::{Options, RocksdbEngine};
use dulse_kv::{Batch, Engine, ErrorKind, ReadExt};
use dulse_kv_testkit::{Body, Case, Open, Suite, opener, run};

/// Memtables so small that they meet the full disk.
const OPTIONS: Options = Options {
    write_buffer_size_bytes: 1 << 20,
    block_cache_size_bytes: 1 << 20,
    margin_bytes: 0,
};

const DISK_BYTES: u64 = 32 << 20;

/// RocksDB looks for room every five seconds.
const TRIES_MAX: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

const SUITE: Suite = Suite {
    name: "no_margin",
    cases: &[Case {
        name: "tables_that_find_no_room_are_made_later",
        body: Body::SmallDisk(DISK_BYTES, tables_that_find_no_room_are_made_later),
    }],
};

fn tables_that_find_no_room_are_made_later(open: &Open, dir: &Path) {
    let store = dir.join("store");
    std::fs::create_dir(&store).unwrap();
    let engine = open(&store).unwrap();
    for n in 0..20 {
        engine.write(row(n)).unwrap();
    }
    engine.checkpoint().unwrap();
    for n in 20..30 {
        engine.write(row(n)).unwrap();
    }
    // Somebody takes all that is left.
    let other = dir.join("other");
    std::fs::write(&other, vec![7u8; 64 << 20]).unwrap_err();
    let refused = engine.checkpoint().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull, "{refused:?}");
    holds(&*engine, 30);
    let refused = engine.write(row(30)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DiskFull, "{refused:?}");
    holds(&*engine, 30);
    std::fs::remove_file(&other).unwrap();
    let mut done = engine.checkpoint();
    for _ in 0..TRIES_MAX {
        let Err(error) = &done else { break };
        assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
        std::thread::sleep(PAUSE);
        done = engine.checkpoint();
    }
    done.unwrap();
    engine.write(row(30)).unwrap();
    engine.checkpoint().unwrap();
    drop(engine);
    holds(&*open(&store).unwrap(), 31);
}

/// 20,000 bytes that get no smaller.
fn row(n: u32) -> Batch {
    let mut state = n + 1;
    let noise = (0..20_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let writes = vec![(n.to_be_bytes().to_vec(), Some(noise.collect::<Bytes>()))];
    Batch { writes }
}

/// Checks that exactly the first `n` rows are there.
fn holds(engine: &dyn Engine, n: u32) {
    let rows = engine.scan(b"", &[0xff; 5], usize::MAX).unwrap();
    assert_eq!(rows.len() as u32, n);
    for (at, found) in (0..).zip(rows) {
        let (key, value) = row(at).writes.remove(0);
        assert!(found == (Bytes::from(key), value.unwrap()), "row {at}");
    }
}

fn main() -> ExitCode {
    run(SUITE.trials(&opener(|dir: &Path| RocksdbEngine::open_with(dir, OPTIONS))))
}
