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
    let suites = [
        testkit::core::SUITE,
        testkit::listing::SUITE,
        testkit::transactions::SUITE,
        testkit::trees::SUITE,
        testkit::sizes::SUITE,
        testkit::kv::SUITE,
        testkit::concurrency::SUITE,
        testkit::reopen::SUITE,
        testkit::random::SUITE,
        testkit::million::SUITE,
    ];
    let of = |suite: &testkit::Suite| suite.trials(&opener, lacks.as_deref(), "");
    let code = testkit::run(suites.iter().flat_map(of).collect());
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
