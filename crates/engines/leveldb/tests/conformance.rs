// SPDX-License-Identifier: Apache-2.0
//! The suites that LevelDB passes.

#[path = "conformance/recorded.rs"]
mod recorded;

use dulse_engine_leveldb::LeveldbEngine;
use dulse_kv_testkit::conformance;

conformance! {
    open: LeveldbEngine::open,
    suites: [core, scans, batches, snapshots, concurrency, random, reopen, files, full_disk],
    crash: recorded::Recorded,
}
