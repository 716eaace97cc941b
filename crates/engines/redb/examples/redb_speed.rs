// SPDX-License-Identifier: Apache-2.0
//! Speed of redb alone; what is measured is told at [`dulse_kv_testkit::speed`].

use dulse_engine_redb::RedbEngine;
use dulse_kv_testkit::{opener, speed};

fn main() -> std::io::Result<()> {
    let dir = tempfile::tempdir()?;
    speed::print(&*opener(RedbEngine::open), dir.path());
    Ok(())
}
