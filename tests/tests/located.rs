// SPDX-License-Identifier: Apache-2.0
//! Filers of which one directory is in a store of its own, as real processes: PostgreSQL for
//! everything, Redis for `/tmp`.

#[path = "databases/located.rs"]
mod databases;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use databases::Located;
use dulse_proto::filer as pb;
use dulse_shared_testkit::Database;
use dulse_tests::{Cluster, PATIENCE};

/// Asks for a change that is refused; gives what is said.
async fn refused(request: reqwest::RequestBuilder) -> Result<String> {
    let answer = request.send().await?;
    ensure!(answer.status().is_client_error(), "{}", answer.status());
    Ok(answer.text().await?)
}

/// Paths that a filer tells of as new from a time on, up to one, with their times.
async fn told(
    cluster: &Cluster,
    filer: usize,
    since_ns: i64,
    last: &str,
) -> Result<Vec<(i64, String)>> {
    let request = pb::SubscribeMetadataRequest {
        client_name: "who follows".to_owned(),
        client_id: 11,
        path_prefix: "/".to_owned(),
        since_ns,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut grpc = cluster.grpc(filer).await?;
    let mut stream = grpc.subscribe_metadata(request).await?.into_inner();
    let reading = async {
        let mut told = Vec::new();
        loop {
            let event = stream.message().await?.context("the stream ended")?;
            let Some(notification) = event.event_notification else {
                continue;
            };
            let Some(new) = notification.new_entry else {
                continue;
            };
            let dir = notification.new_parent_path.trim_end_matches('/');
            let path = format!("{dir}/{}", new.name());
            let is_last = path == last;
            told.push((event.ts_ns, path));
            if is_last {
                return anyhow::Ok(told);
            }
        }
    };
    let within = tokio::time::timeout(PATIENCE, reading).await;
    within.with_context(|| format!("nobody was told of {last}"))?
}

/// What a filer says that does not start.
async fn odd_one(cluster: &mut Cluster, config: &std::path::Path) -> Result<String> {
    let odd = cluster.add_filer_on(config, &[])?;
    for _ in 0..600 {
        if cluster.filers[odd].has_ended()? {
            let output = cluster.filers[odd].run()?;
            ensure!(output.status.code() == Some(2), "{}", output.status);
            return Ok(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("it goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_directory_is_in_a_store_of_its_own_and_one_tree_shows() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let name = cluster.dir.path().display().to_string();
    let mut stores = Located::start(&name)?;
    let config = stores.configure(&cluster.dir.path().join("config"), Some(stores.tmp()))?;
    for _ in 0..2 {
        let filer = cluster.add_filer_on(&config, &[])?;
        cluster.wait_ready(filer).await?;
    }
    let text = cluster.dulse(&["status"], 0)?;
    ensure!(
        text.contains("; /tmp in ") && text.contains("(redis2.tmp)"),
        "{text}"
    );

    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let since_ns = i64::try_from(since.as_nanos())?;
    // Each filer shows what the other made, wherever it is.
    for (writer, path) in [(0, "/tmp/a"), (1, "/tmp/d/b"), (0, "/x"), (1, "/tmpx/y")] {
        let content = path.as_bytes().to_vec();
        cluster.put(writer, path, content.clone()).await?;
        ensure!(
            cluster.get(1 - writer, path).await? == Some(content),
            "{path}"
        );
    }
    let top = cluster.names(1, "/").await?;
    for name in ["tmp", "tmpx", "x"] {
        ensure!(top.iter().any(|one| one == name), "{name} of {top:?}");
    }
    ensure!(cluster.names(0, "/tmp").await? == ["a", "d"]);
    ensure!(stores.tmp_has("", "a")? && stores.tmp_has("/d", "b")?);
    ensure!(stores.default_has("/", "tmp")? && stores.default_has("/tmpx", "y")?);
    ensure!(!stores.default_has("/tmp", "a")? && !stores.tmp_has("", "x")?);

    // One order at each, of all stores.
    let (at_0, at_1) = (
        told(&cluster, 0, since_ns, "/tmpx/y").await?,
        told(&cluster, 1, since_ns, "/tmpx/y").await?,
    );
    ensure!(at_0 == at_1, "{at_0:?} and {at_1:?}");
    ensure!(at_0.is_sorted_by_key(|(ts_ns, _)| *ts_ns), "{at_0:?}");
    let paths: Vec<&str> = at_0.iter().map(|(_, path)| path.as_str()).collect();
    ensure!(
        paths == ["/tmp/a", "/tmp/d", "/tmp/d/b", "/x", "/tmpx", "/tmpx/y"],
        "{paths:?}"
    );

    // Within a store everything moves; between two nothing does, and nothing of it is done.
    let moved = cluster
        .http
        .post(cluster.url(1, "/tmp/e?mv.from=/tmp/d"))
        .send();
    ensure!(moved.await?.status().is_success());
    ensure!(cluster.get(0, "/tmp/e/b").await? == Some(b"/tmp/d/b".to_vec()));
    for (from, to, says) in [
        ("/x", "/tmp/x", "nothing moves from one store to another"),
        ("/tmp/a", "/a", "nothing moves from one store to another"),
        ("/tmp", "/t", "another store begins at /tmp"),
    ] {
        let url = cluster.url(0, &format!("{to}?mv.from={from}"));
        let text = refused(cluster.http.post(url)).await?;
        ensure!(text.contains(says), "{from} to {to}: {text}");
    }
    let text = refused(cluster.http.delete(cluster.url(0, "/tmp?recursive=true"))).await?;
    ensure!(text.contains("another store begins at /tmp"), "{text}");
    for path in ["/x", "/tmp/a", "/tmpx/y"] {
        ensure!(
            cluster.get(1, path).await? == Some(path.as_bytes().to_vec()),
            "{path}"
        );
    }

    // Who has another table does not start.
    let plain = stores.configure(&cluster.dir.path().join("plain"), None)?;
    let text = odd_one(&mut cluster, &plain).await?;
    ensure!(
        text.contains("keeps what is in `/tmp` in the default store")
            && text.contains("This filer is the odd one"),
        "{text}"
    );
    let another = stores.another()?;
    let other = stores.configure(&cluster.dir.path().join("other"), Some(&another))?;
    let text = odd_one(&mut cluster, &other).await?;
    ensure!(text.contains("keeps it in redis2 (store id "), "{text}");

    // One that is killed comes back; a store that is away takes its directory alone.
    cluster.filers[0].kill()?;
    cluster.put(1, "/tmp/meanwhile", b"x".to_vec()).await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    ensure!(cluster.get(0, "/tmp/meanwhile").await? == Some(b"x".to_vec()));
    stores.redis.kill()?;
    ensure!(cluster.put(0, "/tmp/away", b"x".to_vec()).await.is_err());
    cluster.put(0, "/there", b"x".to_vec()).await?;
    stores.redis.start_again()?;
    cluster.put(0, "/tmp/again", b"x".to_vec()).await?;
    ensure!(cluster.get(1, "/tmp/again").await? == Some(b"x".to_vec()));
    ensure!(cluster.get(1, "/tmp/a").await? == Some(b"/tmp/a".to_vec()));
    let told = told(&cluster, 1, since_ns, "/tmp/again").await?;
    ensure!(
        told.iter().any(|(_, path)| path == "/tmp/meanwhile"),
        "{told:?}"
    );
    Ok(())
}
