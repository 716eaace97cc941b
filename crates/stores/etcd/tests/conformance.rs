// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that etcd passes, with its own limits but one: entries of ten
//! megabytes are above what it takes unless its operator says otherwise.

#[path = "support/server.rs"]
mod server;

use std::path::Path;
use std::sync::Arc;

use dulse_shared::{SharedOptions, SharedStore, Stepwise};
use dulse_store::Error;
use dulse_store_etcd::{Config, Etcd};
use dulse_store_testkit::{self as testkit, opener};
use server::Server;

/// Twenty mebibytes: a request, and room in the database for what all cases leave.
const OPTIONS: [&str; 2] = [
    "--max-request-bytes=20971520",
    "--quota-backend-bytes=8589934592",
];

fn main() -> std::process::ExitCode {
    let server = Server::start(&OPTIONS).map(Arc::new);
    let lacks = server.as_ref().err().map(|e| format!("{e:#}"));
    let address = server.as_ref().map(|server| server.address());
    let address = address.unwrap_or_default();
    let opener = opener(move |dir| open(&address, dir));
    let mut trials = testkit::trials(&opener, lacks.as_deref(), "etcd::");
    trials.extend(testkit::million::SUITE.trials(&opener, lacks.as_deref(), "etcd::"));
    testkit::run(trials)
}

/// The store of a directory: keys that begin with its name, its journal inside it.
fn open(address: &str, dir: &Path) -> Result<SharedStore<Stepwise<Etcd>>, Error> {
    let config = Config {
        key_prefix: format!("{}.", dir.display()),
        ..Config::at(&[address])
    };
    let options = SharedOptions {
        journal: dir.join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    dulse_store_etcd::open(config, &options)
}
