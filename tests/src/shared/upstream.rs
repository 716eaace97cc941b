// SPDX-License-Identifier: Apache-2.0
//! Upstream's real filer and ours on one database, under one master.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;

use super::calls::store_id;
use super::follow::{now_ns, seen};
use super::{Database, Shared};
use crate::{PATIENCE, free_port, start_weed_filer, wait_for};

/// Each serves what the other wrote, and our subscribers are told of both.
///
/// # Errors
///
/// What does not hold.
pub async fn beside<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let mut shared = Shared::start(server, section, 1, &[]).await?;
    let ours = 0;
    let port = free_port()?;
    let master = shared.cluster.master_port;
    let upstream = start_weed_filer(&shared.config, port, master, &[])?;
    shared.cluster.filers.push(upstream);
    shared.cluster.filer_ports.push(port);
    let theirs = 1;
    let cluster = &shared.cluster;
    let answers = || async { cluster.get(theirs, "/?limit=1").await.is_ok() };
    wait_for("upstream's filer", answers).await?;
    let (own, other) = (
        store_id(&shared, ours).await?,
        store_id(&shared, theirs).await?,
    );
    ensure!(own == other, "one store has one id");

    // Our subscribers are told of both, once ours follows upstream's.
    let followed = || async {
        let text = cluster.dulse(&["status"], ours).unwrap_or_default();
        text.contains("foreign,")
    };
    wait_for("our filer that follows upstream's", followed).await?;
    let text = cluster.dulse(&["status"], ours)?;
    ensure!(
        text.contains("upstream's filer")
            && text.contains(&format!("on the same store (store id {own})"))
            && text.contains("converged: true"),
        "{text}"
    );
    let request = pb::SubscribeMetadataRequest {
        client_name: "both".to_owned(),
        client_id: 5,
        path_prefix: "/d".to_owned(),
        since_ns: now_ns()?,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut grpc = shared.grpc(ours).await?;
    let mut stream = grpc.subscribe_metadata(request).await?.into_inner();
    for n in 0..20 {
        let at = [ours, theirs][n % 2];
        cluster
            .put(at, &format!("/d/{n}"), format!("content {n}").into_bytes())
            .await?;
    }
    for n in 0..20 {
        for at in [ours, theirs] {
            let got = cluster.get(at, &format!("/d/{n}")).await?;
            ensure!(
                got == Some(format!("content {n}").into_bytes()),
                "{n} at filer {at}"
            );
        }
    }
    let told = async {
        let mut told = BTreeSet::new();
        while told.len() < 20 {
            let event = stream.message().await?.context("the stream ended")?;
            let new = seen(&event).and_then(|seen| seen.new);
            let name = new.and_then(|(path, _)| path.strip_prefix("/d/").map(str::to_owned));
            told.extend(name.filter(|name| name.parse::<u8>().is_ok()));
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .context("events of both filers")??;
    // Each deletes what the other wrote.
    for n in 0..4 {
        let at = [theirs, ours][n % 2];
        let gone = cluster
            .http
            .delete(cluster.url(at, &format!("/d/{n}")))
            .send()
            .await?;
        ensure!(gone.status().is_success(), "{}", gone.status());
        ensure!(
            cluster
                .get([ours, theirs][n % 2], &format!("/d/{n}"))
                .await?
                .is_none()
        );
    }
    Ok(())
}
