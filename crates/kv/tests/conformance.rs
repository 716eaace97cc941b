// SPDX-License-Identifier: Apache-2.0
//! The suites that the memory engine passes. It has no files: it cannot be killed, owned or
//! fill a disk; the simulation crashes it by its own method.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dulse_kv::{Error, MemoryEngine};
use dulse_kv_testkit::conformance;
use parking_lot::Mutex;

/// Stores by directory, so that opening again finds the rows.
static STORES: LazyLock<Mutex<HashMap<PathBuf, MemoryEngine>>> = LazyLock::new(Mutex::default);

fn open(dir: &Path) -> Result<MemoryEngine, Error> {
    Ok(STORES.lock().entry(dir.to_owned()).or_default().clone())
}

conformance! {
    open: open,
    suites: [core, scans, batches, snapshots, concurrency, random, reopen],
}
