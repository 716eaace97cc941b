// SPDX-License-Identifier: Apache-2.0
//! Speed of RocksDB alone; what is measured is told at [`dulse_kv_testkit::speed`].

use dulse_engine_rocksdb::RocksdbEngine;
use dulse_kv_testkit::{opener, speed};

fn main() -> std::io::Result<()> {
    let dir = tempfile::tempdir()?;
    speed::print(&*opener(RocksdbEngine::open), dir.path());
    Ok(())
}
