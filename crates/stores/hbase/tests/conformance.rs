// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that HBase passes.

#[path = "support/server.rs"]
mod server;

use std::path::Path;

use dulse_shared::{SharedOptions, SharedStore, Stepwise};
use dulse_store::Error;
use dulse_store_hbase::Hbase;
use dulse_store_testkit::{self as testkit, opener};

fn main() -> std::process::ExitCode {
    let lacks = server::start().err().map(|e| format!("{e:#}"));
    let opener = opener(open);
    let mut trials = testkit::trials(&opener, lacks.as_deref(), "");
    trials.extend(testkit::million::SUITE.trials(&opener, lacks.as_deref(), ""));
    let code = testkit::run(trials);
    server::stop();
    code
}

/// The store of a directory: a table named after it, its journal inside it.
fn open(dir: &Path) -> Result<SharedStore<Stepwise<Hbase>>, Error> {
    let options = SharedOptions {
        journal: dir.join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    dulse_store_hbase::open(server::table_of(dir), &options)
}
