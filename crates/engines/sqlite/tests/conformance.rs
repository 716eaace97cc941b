// SPDX-License-Identifier: Apache-2.0
//! The suites that SQLite passes.

#[path = "conformance/recorded.rs"]
mod recorded;

use dulse_engine_sqlite::SqliteEngine;
use dulse_kv_testkit::conformance;

conformance! {
    open: SqliteEngine::open,
    suites: [core, scans, batches, snapshots, concurrency, random, reopen, files, full_disk],
    crash: recorded::Recorded,
}
