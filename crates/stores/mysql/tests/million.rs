// SPDX-License-Identifier: Apache-2.0
//! The directory of a million entries of the suites in `conformance.rs`, on MariaDB and MySQL. It
//! takes a minute or more on each and runs beside other tests; in one layout, since a directory
//! lies in one table in both.

#[path = "support/server.rs"]
mod server;
#[path = "support/store.rs"]
mod store;

use dulse_store_mysql::Tables;
use dulse_store_testkit::{self as testkit, opener};
use store::{SERVERS, open};

fn main() -> std::process::ExitCode {
    let mut trials = Vec::new();
    for (kind, server, more) in SERVERS {
        let lacks = server::start(kind, more).err().map(|e| format!("{e:#}"));
        let opener = opener(move |dir| open(kind, Tables::One, dir));
        let prefix = format!("{server}::mysql::");
        let million = testkit::million::SUITE;
        trials.extend(million.trials(&opener, lacks.as_deref(), &prefix));
    }
    let code = testkit::run(trials);
    server::stop();
    code
}
