// SPDX-License-Identifier: Apache-2.0
//! Filers that come later, and filers that do not go with the others.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;

use super::calls::write;
use super::follow::{compare, follow, now_ns, seen};
use super::{Database, Shared, configure};
use crate::{Cluster, PATIENCE, wait_for};

/// A filer that would be the odd one does not start, and says why; those that run go on.
pub(super) async fn odd_ones<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let mut shared = Shared::start(server, section, 1, &[]).await?;
    // Embedded, beside a shared store.
    let odd = shared.cluster.add_filer("redb")?;
    let text = shared.cluster.refusal(odd).await?;
    ensure!(
        text.contains("This filer is the odd one: enable the section"),
        "{text}"
    );
    // Another database.
    let dir = shared.cluster.dir.path().join("another");
    let other = server.make(section, &dir.display().to_string())?;
    configure(&dir, &other)?;
    let odd = shared.cluster.add_filer_on(&dir, &[])?;
    let text = shared.cluster.refusal(odd).await?;
    ensure!(
        text.contains("point this filer's filer.toml at the same database"),
        "{text}"
    );
    shared.cluster.put(0, "/goes/on", b"x".to_vec()).await?;
    // One that no master tells of the others starts; those notice it once it is listed.
    shared.cluster.master.freeze()?;
    let odd = shared.cluster.add_filer("redb")?;
    let listens = async || shared.cluster.misfits(odd).await.is_some();
    wait_for("the odd one that listens", listens).await?;
    shared.cluster.master.thaw()?;
    let noticed = async || shared.cluster.misfits(0).await == Some(1.0);
    wait_for("a misfit that is counted", noticed).await?;
    shared.cluster.put(0, "/goes/on", b"y".to_vec()).await?;
    shared.cluster.filers[odd].kill()?;
    let gone = async || shared.cluster.misfits(0).await == Some(0.0);
    wait_for("a misfit that is gone", gone).await?;
    for line in [
        "two filers of one group do not go together",
        "a filer that did not go with this one is gone",
    ] {
        let said =
            async || matches!(shared.cluster.filers[0].said(), Ok(text) if text.contains(line));
        wait_for(line, said).await?;
    }

    // Shared, beside an embedded store.
    let mut embedded = Cluster::start(&["redb"]).await?;
    let dir = embedded.dir.path().join("config");
    configure(&dir, &other)?;
    let odd = embedded.add_filer_on(&dir, &[])?;
    let text = embedded.refusal(odd).await?;
    ensure!(
        text.contains("take the section of the shared store out"),
        "{text}"
    );
    // In a group of its own it may be there.
    let fits = embedded.add_filer_on(&dir, &["--filer-group=other"])?;
    embedded.wait_ready(fits).await?;
    embedded.put(0, "/goes/on", b"x".to_vec()).await
}

/// A filer that comes later resumes at a cursor from before it, or is told the state: nothing is
/// skipped.
pub(super) async fn a_new_one<D: Database>(server: &mut D, section: &str) -> Result<()> {
    let mut shared = Shared::start(server, section, 1, &[]).await?;
    let from_ns = now_ns()?;
    let mut filer = shared.grpc(0).await?;
    for n in 0..30 {
        let written = write(&mut filer, "/w", &n.to_string(), "x").await;
        ensure!(written.is_ok(), "{written:?}");
    }
    let new = shared.add(&[]).await?;
    let mut at_new = shared.grpc(new).await?;
    let request = pb::SubscribeMetadataRequest {
        client_name: "who changes".to_owned(),
        client_id: 9,
        path_prefix: "/".to_owned(),
        since_ns: from_ns,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut stream = at_new.subscribe_metadata(request).await?.into_inner();
    let told = async {
        let mut told = BTreeSet::new();
        while told.len() < 30 {
            let event = stream.message().await?.context("the stream ended")?;
            let new = seen(&event).and_then(|seen| seen.new);
            told.extend(
                new.map(|(path, _)| path)
                    .filter(|path| path.starts_with("/w/")),
            );
        }
        Ok::<_, anyhow::Error>(told)
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .context("everything from before")??;
    // Stopped in order, it is waited for by nobody.
    let from_ns = now_ns()?;
    shared.cluster.filers[new].terminate()?;
    let told = tokio::spawn(follow(shared.cluster.filer_ports[0], 10, from_ns));
    compare(&shared, vec![told]).await.map(drop)
}
