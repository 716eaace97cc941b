// SPDX-License-Identifier: Apache-2.0
//! Two filers on one keyspace of Cassandra, as real processes.

#[path = "../../crates/stores/cassandra/tests/support/server.rs"]
mod server;

use anyhow::Result;
use dulse_tests::pair::two_filers_show_and_tell_what_both_make;
use server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn two_filers_on_one_keyspace_show_and_tell_what_both_make() -> Result<()> {
    // It asks the server from a runtime of its own.
    let server = tokio::task::spawn_blocking(Server::start).await??;
    // The table is made by the first filer.
    server.make_keyspace("seaweedfs")?;
    let toml = format!(
        "[cassandra2]\nenabled = true\nkeyspace = \"seaweedfs\"\nhosts = [\"{}\"]\n\
         connection_timeout_millisecond = 10000\n",
        server.address()
    );
    two_filers_show_and_tell_what_both_make(&toml, "/seaweedfs").await
}
