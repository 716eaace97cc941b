// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that Cassandra passes, with its own limits but those of sizes:
//! entries of ten megabytes are above what it takes unless its operator says otherwise.

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
    let opener = opener(open);
    // The directory of a million is in `million.rs`: it takes as long as all others together.
    let code = testkit::run(testkit::trials(&opener, lacks.as_deref(), ""));
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
