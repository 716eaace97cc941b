// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that the embedded replica passes, on redb.

use std::path::Path;
use std::sync::Arc;

use dulse_engine_redb::RedbEngine;
use dulse_journal::RealDisk;
use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, ReplicaStore, SystemClock};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_store_testkit::{self as testkit, opener};

fn main() -> std::process::ExitCode {
    let open = opener(open);
    let mut trials = testkit::trials(&open, None, "");
    trials.extend(testkit::million::SUITE.trials(&open, None, ""));
    testkit::run(trials)
}

fn open(dir: &Path) -> Result<ReplicaStore, Error> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(Operation::Open, ErrorKind::Io).source(e)
    };
    let (log, engine) = (dir.join("log"), dir.join("engine"));
    std::fs::create_dir_all(&log).map_err(|e| failed(e.into()))?;
    std::fs::create_dir_all(&engine).map_err(|e| failed(e.into()))?;
    let replica = Replica::open(ReplicaOptions {
        disk: Arc::new(RealDisk::open(&log).map_err(|e| failed(e.into()))?),
        engine: Arc::new(RedbEngine::open(&engine).map_err(|e| failed(e.into()))?),
        clock: Arc::new(SystemClock),
        random: 0x1234_5678_9abc_def1,
        // What survives power loss is the crash suite's; this one closes its stores.
        durability: Durability::Os,
        limits: Limits::STANDARD,
    })?;
    ReplicaStore::start(replica)
}
