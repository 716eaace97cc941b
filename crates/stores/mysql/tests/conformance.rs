// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that MariaDB and MySQL pass, each in both of upstream's layouts.

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
        for (layout, tables) in [("mysql", Tables::One), ("mysql2", Tables::PerBucket)] {
            let prefix = format!("{server}::{layout}::");
            let opener = opener(move |dir| open(kind, tables, dir));
            trials.extend(testkit::trials(&opener, lacks.as_deref(), &prefix));
        }
    }
    let code = testkit::run(trials);
    server::stop();
    code
}
