// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that Cassandra passes, with its own limits but those of sizes:
//! entries of ten megabytes are above what it takes unless its operator says otherwise.

#[path = "support/server.rs"]
mod server;
#[path = "support/store.rs"]
mod store;

use dulse_store_testkit::{self as testkit, opener};

fn main() -> std::process::ExitCode {
    let is_listed = std::env::args().any(|argument| argument == "--list");
    let lacks = match is_listed {
        true => None,
        false => server::start().err().map(|e| format!("{e:#}")),
    };
    let opener = opener(store::open);
    // The directory of a million is in `million.rs`: it takes as long as all others together.
    let code = testkit::run(testkit::trials(&opener, lacks.as_deref(), ""));
    server::stop();
    code
}
