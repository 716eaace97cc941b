// SPDX-License-Identifier: Apache-2.0
//! A cluster with mutual TLS and tokens: who is let in, and who is not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dulse_proto::filer::{LookupDirectoryEntryRequest, PingRequest};
use dulse_tests::secured::{self, FILER_READ, FILER_WRITE, TOKENS, ask, token, transport};
use dulse_tests::{Cluster, Whose, program, wait_for};
use dulse_transport::{Dial, Transport};

const FILERS: [&str; 3] = ["redb", "sqlite", "redb"];

/// Looks the root up over gRPC.
async fn look_up(cluster: &Cluster, transport: &Transport) -> Result<()> {
    let grpc = format!("127.0.0.1:{}", cluster.filer_ports[0] + 10_000);
    let channel = transport
        .connect(&grpc, Dial::within(Duration::from_secs(5)))
        .await?;
    let request = LookupDirectoryEntryRequest {
        directory: "/".to_owned(),
        name: "guarded".to_owned(),
    };
    dulse_client::filer(channel)
        .lookup_directory_entry(request)
        .await?;
    Ok(())
}

/// Has a filer ask its master for the time, as it asks everyone: with its certificate.
async fn ping_master(cluster: &Cluster) -> Result<()> {
    let grpc = format!("127.0.0.1:{}", cluster.filer_ports[0] + 10_000);
    let dial = Dial::within(Duration::from_secs(5));
    let channel = transport(cluster.dir.path())?.connect(&grpc, dial).await?;
    let port = cluster.master_port;
    let request = PingRequest {
        target: format!("127.0.0.1:{port}.{}", port + 10_000),
        target_type: "master".to_owned(),
    };
    let answer = dulse_client::filer(channel).ping(request).await?;
    ensure!(answer.into_inner().remote_time_ns > 0, "the master's clock");
    Ok(())
}

#[tokio::test]
async fn certificates_and_tokens_let_in_whom_they_should() -> Result<()> {
    let prepare = |dir: &std::path::Path| secured::certify(dir, TOKENS);
    let cluster = Cluster::start_secured(&FILERS, Whose::Ours, Whose::Ours, prepare).await?;
    secured::exercise(&cluster, &cluster.url(0, ""), &cluster.url(2, "")).await?;
    cluster.wait_converged().await?;
    ensure!(cluster.verify()? == Some(0), "verify");
    look_up(&cluster, &transport(cluster.dir.path())?).await?;
    ping_master(&cluster).await?;

    // Without a certificate, and with one of somebody else.
    ensure!(
        look_up(&cluster, &Transport::plain()).await.is_err(),
        "plain text"
    );
    let elsewhere = tempfile::tempdir()?;
    secured::certify(elsewhere.path(), "")?;
    let stranger = transport(elsewhere.path())?;
    ensure!(look_up(&cluster, &stranger).await.is_err(), "a stranger");
    let master = format!("127.0.0.1:{}", cluster.master_port);
    let mut status = std::process::Command::new(program()?);
    status.args(["status", "--master", &master, "--config-dir"]);
    let output = status.arg(elsewhere.path()).output()?;
    ensure!(!output.status.success(), "dulse status of a stranger");
    Ok(())
}

#[tokio::test]
async fn volume_servers_ask_for_tokens_of_one_file_id() -> Result<()> {
    let prepare = |dir: &std::path::Path| secured::certify(dir, TOKENS);
    let cluster = Cluster::start_secured(&FILERS[..1], Whose::Ours, Whose::Ours, prepare).await?;
    let write = token(FILER_WRITE)?;
    let url = cluster.url(0, "/guarded/file.txt");
    let put = || async {
        let put = ask(&cluster, "PUT", &url, Some(&write), b"content").await;
        put.is_ok_and(|(status, _)| status == 201)
    };
    wait_for("a write with a token", put).await?;
    let read = token(FILER_READ)?;
    let (_, entry) = ask(
        &cluster,
        "GET",
        &format!("{url}?metadata=true"),
        Some(&read),
        b"",
    )
    .await?;
    let entry: serde_json::Value = serde_json::from_slice(&entry)?;
    let id = entry["chunks"][0]["file_id"]
        .as_str()
        .context("a chunk")?
        .to_owned();

    let leave = |query: &'static str| {
        let (cluster, id) = (&cluster, &id);
        async move {
            let port = cluster.master_port;
            let url = format!("http://127.0.0.1:{port}/dir/lookup?fileId={id}{query}");
            let answer = cluster.http.get(url).send().await?;
            let header = answer
                .headers()
                .get("authorization")
                .context("a token")?
                .to_str()?;
            let token = header.trim_start_matches("Bearer ").to_owned();
            let found: serde_json::Value = answer.json().await?;
            let server = found["locations"][0]["url"]
                .as_str()
                .context("a place")?
                .to_owned();
            anyhow::Ok((format!("http://{server}/{id}"), token))
        }
    };
    let (at, reading) = leave("&read=yes").await?;
    let (_, writing) = leave("").await?;
    for (method, token, expect) in [
        ("GET", None, 401),
        ("GET", Some(&writing), 401),
        ("GET", Some(&reading), 200),
        ("HEAD", None, 401),
        ("PUT", None, 401),
        ("PUT", Some(&reading), 401),
        ("DELETE", None, 401),
        ("DELETE", Some(&reading), 401),
        ("DELETE", Some(&writing), 202),
    ] {
        let (status, _) = ask(&cluster, method, &at, token.map(String::as_str), b"x").await?;
        ensure!(
            status == expect,
            "{method} {token:?}: {status} instead of {expect}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn keys_change_at_sighup_and_certificates_by_themselves() -> Result<()> {
    let prepare = |dir: &std::path::Path| secured::certify(dir, TOKENS);
    let cluster = Cluster::start_secured(&FILERS[..2], Whose::Ours, Whose::Ours, prepare).await?;
    let (old, new) = (token(FILER_WRITE)?, token("another secret")?);
    let url = cluster.url(0, "/dir/");
    let mkdir = |token: String| {
        let (cluster, url) = (&cluster, &url);
        async move { Ok::<_, anyhow::Error>(ask(cluster, "POST", url, Some(&token), b"").await?.0) }
    };
    ensure!(mkdir(old.clone()).await? == 201, "the first key");
    ensure!(mkdir(new.clone()).await? == 401, "another key");
    // A new CA and new certificates for everyone, and another key.
    let more = TOKENS.replace(FILER_WRITE, "another secret");
    secured::certify(cluster.dir.path(), &more)?;
    cluster.filers[0].hang_up()?;
    let is_taken = || async { mkdir(new.clone()).await.is_ok_and(|status| status == 409) };
    wait_for("the new key", is_taken).await?;
    ensure!(mkdir(old).await? == 401, "the old key");
    cluster.wait_converged().await?;
    Ok(())
}

#[tokio::test]
async fn contents_go_to_volume_servers_over_https() -> Result<()> {
    let prepare = |dir: &std::path::Path| {
        let at = dir.display();
        let https = format!(
            "[https.volume]\ncert = \"{at}/volume.crt\"\nkey = \"{at}/volume.key\"\n\
             ca = \"{at}/ca.crt\"\n\
             [https.client]\nenabled = true\nca = \"{at}/ca.crt\"\n\
             cert = \"{at}/filer.crt\"\nkey = \"{at}/filer.key\"\n"
        );
        secured::certify(dir, &(TOKENS.to_owned() + &https))
    };
    let cluster = Cluster::start_secured(&FILERS[..2], Whose::Ours, Whose::Ours, prepare).await?;
    secured::exercise(&cluster, &cluster.url(0, ""), &cluster.url(1, "")).await?;
    // The master sends readers there over HTTPS, too.
    let no_redirects = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let at = format!("http://127.0.0.1:{}/1,01234567", cluster.master_port);
    let answer = no_redirects.build()?.get(at).send().await?;
    ensure!(answer.status() == 308, "{}", answer.status());
    let to = answer.headers()["location"].to_str()?;
    let expect = format!("https://127.0.0.1:{}/1,01234567", cluster.volume_port);
    ensure!(to == expect, "{to}");
    Ok(())
}
