// SPDX-License-Identifier: Apache-2.0
//! LevelDB itself meets a full disk, as nothing is refused before; once there is room the open
//! store goes on.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use dulse_engine_leveldb::{LeveldbEngine, Options};
use dulse_kv::{Batch, Engine, ErrorKind, ReadExt};
use dulse_kv_testkit::{Body, Case, Open, Suite, full_disk, opener, run};

const OPTIONS: Options = Options {
    margin_bytes: 0,
    ..Options::STANDARD
};

/// The case in which others take all room and give it back. The others ask that a store is
/// opened on a full disk, which takes a margin.
const CASE: &str = "a_disk_that_others_fill_loses_nothing";

/// Batches become a table at 1 MiB.
const SMALL_TABLES: Options = Options {
    write_buffer_size_bytes: 1 << 20,
    ..OPTIONS
};

const DISK_BYTES: u64 = 32 << 20;

/// What others leave: room for rows in the log, and none for a table.
const LEFT_BYTES: u64 = 600 << 10;

/// How often it is tried until LevelDB has met the full disk in the background.
const TRIES_MAX: u32 = 3000;
const PAUSE: Duration = Duration::from_millis(20);

/// After so many refusals of the engine's own there is room for one row more: only a write that
/// reaches LevelDB hears what its background met.
const REFUSALS: u32 = 50;
const MORE_BYTES: u64 = 24 << 10;

const SUITE: Suite = Suite {
    name: "no_margin",
    cases: &[Case {
        name: "a_table_that_finds_no_room_is_made_once_there_is_some",
        body: Body::SmallDisk(
            DISK_BYTES,
            a_table_that_finds_no_room_is_made_once_there_is_some,
        ),
    }],
};

/// LevelDB takes no batch any more once it could not make a table, whatever room there is: until
/// it is opened anew.
fn a_table_that_finds_no_room_is_made_once_there_is_some(open: &Open, dir: &Path) {
    let store = dir.join("store");
    std::fs::create_dir(&store).unwrap();
    let engine = open(&store).unwrap();
    for n in 0..40 {
        engine.write(row(n)).unwrap();
    }
    // Somebody takes almost all that is left.
    let other = dir.join("other");
    std::fs::write(&other, vec![7u8; 64 << 20]).unwrap_err();
    let taken = std::fs::metadata(&other).unwrap().len();
    let file = File::options().write(true).open(&other).unwrap();
    file.set_len(taken - LEFT_BYTES).unwrap();
    // Its room is given back only when nobody has it open.
    drop(file);
    let (mut n, mut n_refused) = (40, 0);
    let met = (0..TRIES_MAX).any(|_| match engine.write(row(n)) {
        Ok(()) => {
            n += 1;
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
            // The engine's own refusals have no cause; a table may be on its way just then.
            let is_leveldbs = std::error::Error::source(&error).is_some();
            if !is_leveldbs {
                std::thread::sleep(PAUSE);
                n_refused += 1;
                if n_refused % REFUSALS == 0 {
                    let more = u64::from(n_refused / REFUSALS) * MORE_BYTES;
                    let file = File::options().write(true).open(&other).unwrap();
                    file.set_len(taken - LEFT_BYTES - more).unwrap();
                }
            }
            is_leveldbs
        }
    });
    assert!(met, "LevelDB never met the full disk, with {n} rows");
    holds(&*engine, n);
    std::fs::remove_file(&other).unwrap();
    engine.write(row(n)).unwrap();
    holds(&*engine, n + 1);
    engine.checkpoint().unwrap();
    drop(engine);
    holds(&*open(&store).unwrap(), n + 1);
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
    let open = opener(|dir: &Path| LeveldbEngine::open_with(dir, OPTIONS));
    let suite = Suite {
        name: "full_disk",
        cases: full_disk::SUITE.cases,
    };
    let mut trials = suite.trials(&open);
    trials.retain(|trial| trial.name().ends_with(CASE));
    assert_eq!(trials.len(), 1, "the suite has the case");
    let small = opener(|dir: &Path| LeveldbEngine::open_with(dir, SMALL_TABLES));
    trials.extend(SUITE.trials(&small));
    run(trials)
}
