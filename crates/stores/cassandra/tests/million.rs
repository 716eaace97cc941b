// SPDX-License-Identifier: Apache-2.0
//! The directory of a million entries of the suites in `conformance.rs`: it takes Cassandra some
//! six minutes, mostly of waiting for one write after the other, and runs beside other tests.

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
    let trials = testkit::million::SUITE.trials(&opener(store::open), lacks.as_deref(), "");
    let code = testkit::run(trials.into_iter().collect());
    server::stop();
    code
}
