// SPDX-License-Identifier: Apache-2.0
//! The suites of entry stores that PostgreSQL passes, in both of upstream's layouts.

#[path = "support/server.rs"]
mod server;

use std::path::Path;

use dulse_shared::{SharedOptions, SharedStore};
use dulse_store::Error;
use dulse_store_postgres::{Postgres, Tables};
use dulse_store_testkit::opener;

/// Both layouts run every suite, so the list stands once.
macro_rules! suites {
    ($trials:ident, $prefix:literal, $open:expr, $lacks:expr, [$($suite:ident),* $(,)?]) => {
        $($trials.extend(dulse_store_testkit::$suite::SUITE.trials(&$open, $lacks, $prefix));)*
    };
}

fn main() -> std::process::ExitCode {
    let lacks = server::start().err().map(|e| format!("{e:#}"));
    let mut trials = Vec::new();
    let (one, two) = (
        opener(|dir| open(Tables::One, dir)),
        opener(|dir| open(Tables::PerBucket, dir)),
    );
    suites!(
        trials,
        "postgres::",
        one,
        lacks.as_deref(),
        [
            core,
            listing,
            transactions,
            trees,
            sizes,
            kv,
            concurrency,
            reopen,
            random,
        ]
    );
    suites!(
        trials,
        "postgres2::",
        two,
        lacks.as_deref(),
        [
            core,
            listing,
            transactions,
            trees,
            sizes,
            kv,
            concurrency,
            reopen,
            random,
        ]
    );
    let code = dulse_store_testkit::run(trials);
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
