// SPDX-License-Identifier: Apache-2.0
//! One `security.toml` for us and for upstream: mutual TLS and tokens of all kinds.

use anyhow::Result;
use dulse_tests::secured::{self, TOKENS};
use dulse_tests::{Cluster, Whose, free_port, start_weed_filer};

async fn beside(engines: &[&str], master: Whose, volume: Whose) -> Result<Cluster> {
    let prepare = |dir: &std::path::Path| secured::certify(dir, TOKENS);
    Cluster::start_secured(engines, master, volume, prepare).await
}

async fn exercise(master: Whose, volume: Whose) -> Result<()> {
    let cluster = beside(&["redb", "sqlite"], master, volume).await?;
    secured::exercise(&cluster, &cluster.url(0, ""), &cluster.url(1, "")).await
}

#[tokio::test]
async fn our_filers_under_upstreams_master_and_volume_server() -> Result<()> {
    exercise(Whose::Upstreams, Whose::Upstreams).await
}

#[tokio::test]
async fn upstreams_volume_server_under_our_master() -> Result<()> {
    exercise(Whose::Ours, Whose::Upstreams).await
}

#[tokio::test]
async fn our_volume_server_under_upstreams_master() -> Result<()> {
    exercise(Whose::Upstreams, Whose::Ours).await
}

#[tokio::test]
async fn upstreams_filer_under_our_master_and_volume_server() -> Result<()> {
    let cluster = beside(&[], Whose::Ours, Whose::Ours).await?;
    let port = free_port()?;
    let _filer = start_weed_filer(cluster.dir.path(), port, cluster.master_port, &[])?;
    let url = format!("http://127.0.0.1:{port}");
    secured::exercise(&cluster, &url, &url).await
}
