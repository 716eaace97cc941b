// SPDX-License-Identifier: Apache-2.0
//! Filers on Cassandra, as real processes: the cases of `dulse_tests::shared` that depend on the
//! database, and a keyspace without a table, which the first filer makes.

#[path = "databases/cassandra.rs"]
mod cassandra;

use anyhow::Result;
use dulse_tests::pair::two_filers_show_and_tell_what_both_make;
use dulse_tests::shared::{briefly, run_trials, trial};

fn main() -> std::process::ExitCode {
    let mut trials = briefly::<cassandra::Cassandra>();
    let name = "two_filers_on_one_keyspace_show_and_tell_what_both_make";
    trials.push(trial(name, two_filers()));
    run_trials(trials)
}

async fn two_filers() -> Result<()> {
    // It asks the server from a runtime of its own.
    let server = tokio::task::spawn_blocking(cassandra::Server::start).await??;
    server.make_keyspace("seaweedfs")?;
    let toml = format!(
        "[cassandra2]\nenabled = true\nkeyspace = \"seaweedfs\"\nhosts = [\"{}\"]\n\
         connection_timeout_millisecond = 10000\n",
        server.address()
    );
    two_filers_show_and_tell_what_both_make(&toml, "/seaweedfs").await
}
