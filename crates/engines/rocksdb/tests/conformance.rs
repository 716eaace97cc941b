// SPDX-License-Identifier: Apache-2.0
//! The suites that RocksDB passes.

#[path = "conformance/recorded.rs"]
mod recorded;

use dulse_engine_rocksdb::RocksdbEngine;
use dulse_kv_testkit::conformance;

conformance! {
    open: RocksdbEngine::open,
    suites: [core, scans, batches, snapshots, concurrency, random, reopen, files, full_disk],
    crash: recorded::Recorded,
}
