// SPDX-License-Identifier: Apache-2.0
//! A filer started with the `filer.toml` that its operator has from upstream.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use dulse_tests::{Cluster, free_port, program};

fn write(dir: &Path, text: &str) -> Result<()> {
    Ok(std::fs::write(dir.join("filer.toml"), text)?)
}

/// Starts a filer that is expected to refuse; in `dir`, by the file there.
fn refused(dir: &Path, variables: &[(&str, &str)]) -> Result<String> {
    let Output { status, stderr, .. } = Command::new(program()?)
        .args(["filer", "--ip=127.0.0.1", "--master=127.0.0.1:1"])
        .arg(format!("--port={}", free_port()?))
        .arg(format!("--config-dir={}", dir.display()))
        .current_dir(dir)
        .envs(variables.iter().copied())
        .output()?;
    let text = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(status.code() == Some(2), "{status}: {text}");
    let at = text.find("dulse: ").context("an error")?;
    Ok(text[at..].to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_selects_engine_and_place_and_the_store_is_there_again() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let config = tempfile::tempdir()?;
    let file = config.path().join("filer.db");
    let text = format!(
        "[filer.options]\nbuckets_folder = \"/b\"\nrecursive_delete = true\n\
         [sqlite]\nenabled = true\ndbFile = \"{}\"\n",
        file.display()
    );
    write(config.path(), &text)?;
    let n = cluster.add_filer_by_file(config.path())?;
    cluster.wait_ready(n).await?;
    cluster.put(n, "/d/x", b"x".to_vec()).await?;
    let ours = config.path().join("filer.db.dulse");
    ensure!(ours.join("store.sqlite").is_file(), "the engine is SQLite");
    ensure!(
        !file.exists(),
        "nothing is written where upstream's would be"
    );
    cluster.filers[n].kill()?;
    cluster.filers[n].restart()?;
    cluster.wait_ready(n).await?;
    ensure!(cluster.get(n, "/d/x").await? == Some(b"x".to_vec()));
    let mut grpc = cluster.grpc(n).await?;
    let said = grpc.get_filer_configuration(dulse_proto::filer::GetFilerConfigurationRequest {});
    ensure!(said.await?.into_inner().dir_buckets == "/b");
    let deleted = cluster.http.delete(cluster.url(n, "/d")).send().await?;
    ensure!(
        deleted.status().is_success(),
        "recursive_delete counts: {}",
        deleted.status()
    );
    Ok(())
}

#[test]
fn upstreams_data_without_ours_is_refused_with_the_command_that_imports_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(
        dir.path(),
        "[sqlite]\nenabled = true\ndbFile = \"./f.db/\"\n",
    )?;
    std::fs::write(dir.path().join("f.db"), b"SQLite format 3\0")?;
    let text = refused(dir.path(), &[("WEED_SQLITE_DBFILE", "./f.db")])?;
    ensure!(
        text.contains("dulse import --from sqlite:./f.db --engine sqlite --dir ./f.db.dulse"),
        "{text}"
    );
    ensure!(!dir.path().join("f.db.dulse").exists(), "nothing is begun");
    // Without a file or flags upstream's program would take up its default store.
    std::fs::remove_file(dir.path().join("filer.toml"))?;
    std::fs::create_dir_all(dir.path().join("filerldb2/00"))?;
    std::fs::write(dir.path().join("filerldb2/00/CURRENT"), b"")?;
    let text = refused(dir.path(), &[])?;
    ensure!(
        text.contains("dulse import --from leveldb2:./filerldb2 --engine redb --dir ./dulse-filer"),
        "{text}"
    );
    Ok(())
}

#[test]
fn what_cannot_be_used_is_refused_in_one_sentence() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (text, says) in [
        (
            "[redis2]\nenabled = true\n[leveldb2]\nenabled = true\n",
            "filer.toml, line 3: [redis2] and [leveldb2] are enabled; expected one store",
        ),
        (
            "[tarantool]\nenabled = true\n",
            "filer.toml, line 1: [tarantool] is enabled, and this version has no store `tarantool`",
        ),
        (
            "[sqlite]\nenabled = true\n[leveldb2.tmp]\nenabled = true\nlocation = \"/tmp\"\n",
            "line 3: [leveldb2.tmp] is enabled for `/tmp`, and [leveldb2] is no shared store of this version",
        ),
        (
            "[sqlite]\nenable = true\n",
            "filer.toml, line 2: unknown key `enable` in [sqlite]",
        ),
    ] {
        write(dir.path(), text)?;
        let said = refused(dir.path(), &[])?;
        ensure!(said.contains(says), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_win_over_the_file() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    write(cluster.dir.path(), "[tarantool]\nenabled = true\n")?;
    let n = cluster.add_filer("sqlite")?;
    cluster.wait_ready(n).await?;
    cluster.put(n, "/x", b"x".to_vec()).await
}
