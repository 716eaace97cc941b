// SPDX-License-Identifier: Apache-2.0
//! The suites that redb passes.

#[path = "conformance/recorded.rs"]
mod recorded;

use dulse_engine_redb::RedbEngine;
use dulse_kv_testkit::conformance;

conformance! {
    open: RedbEngine::open,
    suites: [core, scans, batches, snapshots, concurrency, random, reopen, files, full_disk],
    crash: recorded::Recorded,
}
