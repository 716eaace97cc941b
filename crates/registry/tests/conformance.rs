// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that the replica passes on every engine that a filer can open.
//!
//! On redb they are those of `crates/replica`. A build with RocksDB runs RocksDB's alone: one
//! without it runs the others'.

use std::path::Path;
use std::process::ExitCode;

use dulse_registry::{ENGINES, Writes, open_embedded};
use dulse_replica::{Durability, ReplicaStore};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_store_testkit::{self as testkit, opener};

fn main() -> ExitCode {
    let has_rocksdb = ENGINES.contains(&"rocksdb");
    let is_run_here = |engine: &&&str| **engine != "redb" && (**engine == "rocksdb") == has_rocksdb;
    let mut trials = Vec::new();
    for engine in ENGINES.iter().filter(is_run_here) {
        let open = opener(move |dir| open(engine, dir));
        let prefix = format!("{engine}::");
        trials.extend(testkit::trials(&open, None, &prefix));
        trials.extend(testkit::million::SUITE.trials(&open, None, &prefix));
    }
    assert!(!trials.is_empty(), "some engine is run");
    testkit::run(trials)
}

/// What survives power loss is the crash suite's; these stores are closed.
fn open(engine: &str, dir: &Path) -> Result<ReplicaStore, Error> {
    let writes = Writes::from(Durability::Os);
    open_embedded(engine, dir, &writes, 0x1234_5678_9abc_def1)
        .map_err(|error| Error::new(Operation::Open, ErrorKind::Io).source(error))
}
