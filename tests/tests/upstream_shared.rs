// SPDX-License-Identifier: Apache-2.0
//! Upstream's real filer and ours on one PostgreSQL database, under one master: each serves what
//! the other wrote, and our subscribers are told of both.

#[path = "../../crates/stores/postgres/tests/support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;
use dulse_store_postgres::{Config, Tables};
use dulse_tests::{Cluster, PATIENCE, free_port, start_weed_filer, wait_for};
use server::Server;

/// One file for both: upstream's keys, and its own statement for new tables.
fn filer_toml(config: &Config) -> String {
    format!(
        "[postgres]\nenabled = true\nhostname = \"{}\"\nport = {}\nusername = \"postgres\"\n\
         password = \"\"\ndatabase = \"{}\"\nschema = \"\"\nsslmode = \"disable\"\n\
         connection_max_idle = 10\nconnection_max_open = 10\n\
         connection_max_lifetime_seconds = 300\nenableUpsert = true\n\
         upsertQuery = \"\"\"INSERT INTO \"%[1]s\" (dirhash, name, directory, meta) \
         VALUES($1, $2, $3, $4) ON CONFLICT (dirhash, name) DO UPDATE SET \
         directory=EXCLUDED.directory, meta=EXCLUDED.meta\"\"\"\n",
        config.hostname, config.port, config.database
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_filer_beside_ours_on_one_database() -> Result<()> {
    let server = Server::start()?;
    let config = server.database_of(Tables::One, Path::new("beside"));
    let mut cluster = Cluster::start(&[]).await?;
    let dir = cluster.dir.path().join("beside");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("filer.toml"), filer_toml(&config))?;
    let ours = cluster.add_filer_on(&dir, &[])?;
    cluster.wait_ready(ours).await?;
    let port = free_port()?;
    cluster
        .filers
        .push(start_weed_filer(&dir, port, cluster.master_port, &[])?);
    cluster.filer_ports.push(port);
    let theirs = ours + 1;
    let answers = || async { cluster.get(theirs, "/?limit=1").await.is_ok() };
    wait_for("upstream's filer", answers).await?;

    let mut grpc = cluster.grpc(ours).await?;
    let id = |n: usize| {
        let asked = pb::GetFilerConfigurationRequest {};
        let connected = cluster.grpc(n);
        async move { Ok::<_, anyhow::Error>(connected.await?.get_filer_configuration(asked).await?) }
    };
    let (own, other) = (id(ours).await?, id(theirs).await?);
    ensure!(
        own.get_ref().signature == other.get_ref().signature,
        "one store has one id"
    );

    // Our subscribers are told of both, once ours follows upstream's.
    let followed = || async {
        let text = cluster.dulse(&["status"], ours).unwrap_or_default();
        text.contains("foreign,") && !text.contains("no answer")
    };
    wait_for("our filer that follows upstream's", followed).await?;
    let request = pb::SubscribeMetadataRequest {
        client_name: "both".to_owned(),
        client_id: 5,
        path_prefix: "/d".to_owned(),
        since_ns: i64::try_from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)?
                .as_nanos(),
        )?,
        ..pb::SubscribeMetadataRequest::default()
    };
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
            let new = event.event_notification.and_then(|told| told.new_entry);
            let name = new.map(|entry| entry.name().into_owned());
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
