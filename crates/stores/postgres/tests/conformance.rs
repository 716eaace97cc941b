// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that PostgreSQL passes, in both of upstream's layouts.

#[path = "support/server.rs"]
mod server;

use std::path::Path;

use dulse_shared::{SharedOptions, SharedStore};
use dulse_store::Error;
use dulse_store_postgres::{Postgres, Tables};
use dulse_store_testkit::{self as testkit, opener};

fn main() -> std::process::ExitCode {
    let lacks = server::start().err().map(|e| format!("{e:#}"));
    let mut trials = Vec::new();
    for (prefix, tables) in [
        ("postgres::", Tables::One),
        ("postgres2::", Tables::PerBucket),
    ] {
        let opener = opener(move |dir| open(tables, dir));
        trials.extend(testkit::trials(&opener, lacks.as_deref(), prefix));
        // For a minute, so in one layout: a directory lies in one table in both.
        if tables == Tables::One {
            let million = testkit::million::SUITE;
            trials.extend(million.trials(&opener, lacks.as_deref(), prefix));
        }
    }
    let code = testkit::run(trials);
    server::stop();
    code
}

/// The store of a directory: a database named after it, its journal inside it.
fn open(tables: Tables, dir: &Path) -> Result<SharedStore<Postgres>, Error> {
    let config = server::database_of(tables, dir);
    let options = SharedOptions {
        journal: dir.join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    dulse_store_postgres::open(config, &options)
}
