// SPDX-License-Identifier: Apache-2.0
//! Two filers on one shared store whose server takes long to start: one scenario for all of it.

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;

use crate::{Cluster, PATIENCE};

/// Waits until a filer tells its subscriber that something came to a path.
async fn told_of(cluster: &Cluster, filer: usize, path: &str) -> Result<()> {
    let request = pb::SubscribeMetadataRequest {
        client_name: "who waits".to_owned(),
        client_id: 77,
        path_prefix: "/".to_owned(),
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut filer = cluster.grpc(filer).await?;
    let mut stream = filer.subscribe_metadata(request).await?.into_inner();
    let told = async {
        loop {
            let event = stream.message().await?.context("the stream ended")?;
            let Some(told) = event.event_notification else {
                continue;
            };
            let name = told.new_entry.map(|new| new.name().to_string());
            let dir = told.new_parent_path.trim_end_matches('/');
            if name.is_some_and(|name| format!("{dir}/{name}") == path) {
                return anyhow::Ok(());
            }
        }
    };
    let within = tokio::time::timeout(PATIENCE, told).await;
    within.with_context(|| format!("nobody was told of {path}"))?
}

async fn store_id(cluster: &Cluster, filer: usize) -> Result<i32> {
    let asked = pb::GetFilerConfigurationRequest {};
    let mut filer = cluster.grpc(filer).await?;
    let said = filer.get_filer_configuration(asked).await?;
    Ok(said.into_inner().signature)
}

/// What one filer makes the other shows, subscribers at each are told of both, and one that is
/// killed comes back as who it was.
///
/// - `toml`: the store's section of `filer.toml`.
/// - `shown`: what the status shows of it.
///
/// # Errors
///
/// What does not hold.
pub async fn two_filers_show_and_tell_what_both_make(toml: &str, shown: &str) -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let config = cluster.dir.path().join("config");
    std::fs::create_dir_all(&config)?;
    std::fs::write(config.join("filer.toml"), toml)?;
    for _ in 0..2 {
        let filer = cluster.add_filer_on(&config, &[])?;
        cluster.wait_ready(filer).await?;
    }
    let id = store_id(&cluster, 0).await?;
    ensure!(store_id(&cluster, 1).await? == id, "one store has one id");
    let text = cluster.dulse(&["status"], 0)?;
    ensure!(text.contains(shown), "{text}");

    let content = vec![7_u8; 5 << 20];
    for (writer, reader) in [(0, 1), (1, 0)] {
        let at = format!("/d/{writer}");
        cluster.put(writer, &at, content.clone()).await?;
        ensure!(cluster.get(reader, &at).await?.as_ref() == Some(&content));
        told_of(&cluster, reader, &at).await?;
    }
    let moved = cluster.url(1, "/e/moved?mv.from=/d/0");
    ensure!(cluster.http.post(moved).send().await?.status().is_success());
    told_of(&cluster, 0, "/e/moved").await?;
    ensure!(cluster.names(0, "/d").await? == ["1"]);
    ensure!(cluster.get(0, "/e/moved").await?.as_ref() == Some(&content));

    cluster.filers[0].kill()?;
    cluster.put(1, "/d/meanwhile", b"x".to_vec()).await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    ensure!(store_id(&cluster, 0).await? == id, "the store is the same");
    ensure!(cluster.names(0, "/d").await? == ["1", "meanwhile"]);
    cluster.put(0, "/d/again", b"x".to_vec()).await?;
    told_of(&cluster, 1, "/d/again").await?;
    let gone = cluster.http.delete(cluster.url(1, "/d/again")).send();
    ensure!(gone.await?.status().is_success());
    ensure!(cluster.get(0, "/d/again").await?.is_none());
    Ok(())
}
