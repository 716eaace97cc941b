// SPDX-License-Identifier: Apache-2.0
//! The directory of a million entries of the suites in `conformance.rs`: it takes Cassandra some
//! six minutes, mostly of waiting for one write after the other, and runs beside other tests.

#[path = "support/server.rs"]
mod server;

use std::path::Path;

use dulse_shared::{SharedOptions, SharedStore, Stepwise};
use dulse_store::Error;
use dulse_store_cassandra::Cassandra;
use dulse_store_testkit::{self as testkit, opener};

fn main() -> std::process::ExitCode {
    let is_listed = std::env::args().any(|argument| argument == "--list");
    let lacks = match is_listed {
        true => None,
        false => server::start().err().map(|e| format!("{e:#}")),
    };
    let trials = testkit::million::SUITE.trials(&opener(open), lacks.as_deref(), "");
    let code = testkit::run(trials.into_iter().collect());
    server::stop();
    code
}

/// The store of a directory: a keyspace that is its own meanwhile, its journal inside it.
fn open(dir: &Path) -> Result<SharedStore<Stepwise<Cassandra>>, Error> {
    let options = SharedOptions {
        journal: dir.join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    let config = server::keyspace_of(dir).expect("the server makes or empties a keyspace");
    dulse_store_cassandra::open(config, &options)
}
