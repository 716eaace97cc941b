// SPDX-License-Identifier: Apache-2.0
//! Two filers on one HBase table, as real processes.

#[path = "../../crates/stores/hbase/tests/support/server.rs"]
mod server;

use anyhow::Result;
use dulse_tests::pair::two_filers_show_and_tell_what_both_make;
use server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn two_filers_on_one_table_show_and_tell_what_both_make() -> Result<()> {
    // It asks the server from a runtime of its own.
    let server = tokio::task::spawn_blocking(Server::start).await??;
    let toml = format!(
        "[hbase]\nenabled = true\nzkquorum = \"127.0.0.1:{}\"\ntable = \"seaweedfs\"\n",
        server.zookeeper
    );
    two_filers_show_and_tell_what_both_make(&toml, "(shared, seaweedfs by ").await
}
