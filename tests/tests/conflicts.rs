// SPDX-License-Identifier: Apache-2.0
//! S06 and S28 with real processes: what loses is listed with its content, and comes back.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dulse_tests::apart::apart;
use dulse_tests::{Cluster, PATIENCE, program};
use serde_json::Value;

/// `dulse conflicts …` at a filer.
fn conflicts(cluster: &Cluster, filer: usize, arguments: &[&str]) -> Result<Output> {
    let address = format!("127.0.0.1:{}", cluster.filer_ports[filer]);
    Ok(Command::new(program()?)
        .args(["conflicts"])
        .args(arguments)
        .args(["--filer", &address, "--config-dir"])
        .arg(cluster.dir.path())
        .output()?)
}

fn done(cluster: &Cluster, filer: usize, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = conflicts(cluster, filer, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "{arguments:?}: {said}");
    Ok(output.stdout)
}

fn listed(cluster: &Cluster, filer: usize, prefix: &str) -> Result<Vec<Value>> {
    let arguments = ["list", "--prefix", prefix, "--format", "json"];
    let answer: Value = serde_json::from_slice(&done(cluster, filer, &arguments)?)?;
    Ok(answer["conflicts"].as_array().context("a list")?.clone())
}

/// What is listed below a path once nothing is pending there, the same at every filer.
async fn recorded(cluster: &Cluster, prefix: &str, count: usize) -> Result<Vec<Value>> {
    let until = Instant::now() + PATIENCE;
    loop {
        cluster.wait_converged().await?;
        let found = listed(cluster, 0, prefix)?;
        let is_recorded = found.iter().all(|c| c["pending"] == false);
        if found.len() == count && is_recorded && listed(cluster, 1, prefix)? == found {
            return Ok(found);
        }
        ensure!(Instant::now() < until, "listed: {found:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn append(
    cluster: &Cluster,
    filer: usize,
    path: &str,
    content: &str,
    token: &str,
) -> Result<String> {
    let url = cluster.url(filer, &format!("{path}?op=append"));
    let request = cluster.http.put(url).body(content.to_owned());
    let answer = match token {
        "" => request,
        token => request.header("Dulse-Token", token),
    };
    let answer = answer.send().await?.error_for_status()?;
    let token = answer.headers().get("Dulse-Token").context("a token")?;
    Ok(token.to_str()?.to_owned())
}

fn id(conflict: &Value) -> Result<&str> {
    conflict["id"].as_str().context("an id")
}

#[tokio::test]
async fn s06_the_concurrent_loser_is_listed_with_its_content_and_comes_back() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    for path in ["/s06/written", "/s06/appended"] {
        cluster.put(0, path, b"first,".to_vec()).await?;
    }
    apart(
        &mut cluster,
        async |cluster| {
            cluster.put(0, "/s06/written", b"loses".to_vec()).await?;
            append(cluster, 0, "/s06/appended", "loses", "").await
        },
        async |cluster| {
            cluster.put(1, "/s06/written", b"wins".to_vec()).await?;
            append(cluster, 1, "/s06/appended", "wins", "").await
        },
    )
    .await?;
    let found = recorded(&cluster, "/s06/", 2).await?;
    for (conflict, path, lost, won) in [
        (&found[0], "/s06/appended", "first,loses", "first,wins"),
        (&found[1], "/s06/written", "loses", "wins"),
    ] {
        assert_eq!(
            (&conflict["path"], &conflict["kind"]),
            (&path.into(), &"data".into())
        );
        for filer in 0..2 {
            let content = done(&cluster, filer, &["show", id(conflict)?, "--content"])?;
            assert_eq!(String::from_utf8(content)?, lost);
            let shown = cluster.get(filer, path).await?.context("a file")?;
            assert_eq!(String::from_utf8(shown)?, won);
        }
    }
    // Beside it as a copy with chunks of its own, and in place.
    done(
        &cluster,
        1,
        &["restore", id(&found[0])?, "--to", "/s06/new/copy"],
    )?;
    done(&cluster, 0, &["restore", id(&found[1])?])?;
    recorded(&cluster, "/s06/", 0).await?;
    for filer in 0..2 {
        for (path, content) in [
            ("/s06/new/copy", "first,loses"),
            ("/s06/appended", "first,wins"),
            ("/s06/written", "loses"),
        ] {
            let shown = cluster.get(filer, path).await?.context("a file")?;
            assert_eq!(String::from_utf8(shown)?, content, "{path}");
        }
    }
    let again = conflicts(&cluster, 0, &["restore", id(&found[1])?])?;
    assert_eq!(again.status.code(), Some(1), "it is no conflict any more");
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn s06_alternating_appends_with_session_tokens_lose_nothing() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite"]).await?;
    let (mut token, mut expect) = (String::new(), String::new());
    for n in 0..40 {
        let text = format!("{n},");
        token = append(&cluster, n % 2, "/s06/log", &text, &token).await?;
        expect += &text;
    }
    cluster.wait_converged().await?;
    for filer in 0..2 {
        let shown = cluster.get(filer, "/s06/log").await?.context("a file")?;
        assert_eq!(String::from_utf8(shown)?, expect);
        assert_eq!(listed(&cluster, filer, "/")?, Vec::<Value>::new());
    }
    Ok(())
}

#[tokio::test]
async fn s28_a_file_where_another_filer_made_a_directory_is_listed_with_its_content() -> Result<()>
{
    let mut cluster = Cluster::start(&["redb", "sqlite"]).await?;
    cluster.mkdir(0, "/s28").await?;
    apart(
        &mut cluster,
        async |cluster| cluster.put(0, "/s28/b", b"a file".to_vec()).await,
        async |cluster| cluster.put(1, "/s28/b/c", b"below".to_vec()).await,
    )
    .await?;
    let found = recorded(&cluster, "/s28/", 1).await?;
    assert_eq!(found[0]["path"], "/s28/b");
    assert_eq!(found[0]["kind"], "shadow");
    for filer in 0..2 {
        assert_eq!(cluster.names(filer, "/s28/b").await?, ["c"]);
        let below = cluster.get(filer, "/s28/b/c").await?;
        assert_eq!(below.as_deref(), Some(&b"below"[..]));
        let content = done(&cluster, filer, &["show", id(&found[0])?, "--content"])?;
        assert_eq!(content, b"a file");
    }
    let told = done(
        &cluster,
        1,
        &["restore", id(&found[0])?, "--format", "json"],
    )?;
    let told: Value = serde_json::from_slice(&told)?;
    let beside = told["path"].as_str().context("a path")?;
    assert!(beside.starts_with("/s28/b.conflict-"), "{beside}");
    recorded(&cluster, "/s28/", 0).await?;
    for filer in 0..2 {
        let restored = cluster.get(filer, beside).await?;
        assert_eq!(restored.as_deref(), Some(&b"a file"[..]));
    }
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_dismissed_conflict_is_gone_and_counted_no_more() -> Result<()> {
    let mut cluster = Cluster::start(&["redb", "redb"]).await?;
    cluster.put(0, "/d/f", b"first".to_vec()).await?;
    apart(
        &mut cluster,
        async |cluster| cluster.put(0, "/d/f", b"loses".to_vec()).await,
        async |cluster| cluster.put(1, "/d/f", b"wins".to_vec()).await,
    )
    .await?;
    let found = recorded(&cluster, "/d/", 1).await?;
    let shown = done(&cluster, 1, &["show", id(&found[0])?, "--format", "json"])?;
    let shown: Value = serde_json::from_slice(&shown)?;
    assert_eq!(shown["loser"]["size_bytes"], 5);
    assert_eq!(shown["current"]["size_bytes"], 4);
    done(&cluster, 1, &["dismiss", id(&found[0])?])?;
    recorded(&cluster, "/d/", 0).await?;
    let nothing = conflicts(&cluster, 0, &["show", id(&found[0])?])?;
    assert_eq!(nothing.status.code(), Some(1));
    let nonsense = conflicts(&cluster, 0, &["show", "nonsense"])?;
    assert_eq!(nonsense.status.code(), Some(2));
    Ok(())
}
