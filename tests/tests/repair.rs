// SPDX-License-Identifier: Apache-2.0
//! Stores of real filers are damaged, and heal: row by row, or as a whole.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use dulse_engine_leveldb::LeveldbEngine;
use dulse_engine_redb::RedbEngine;
use dulse_engine_sqlite::SqliteEngine;
use dulse_kv::{Batch, Engine, ReadExt};
use dulse_merge::keys::{self, Space};
use dulse_tests::{Cluster, program};

/// Directories made before the damage.
const ENTRIES: usize = 300;

/// How long a filer may take to be rebuilt, restarts included.
const HEAL_TIME_MAX: Duration = Duration::from_secs(90);

fn engine(name: &str, dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(match name {
        "redb" => Box::new(RedbEngine::open(dir)?),
        "leveldb" => Box::new(LeveldbEngine::open(&dir.join("store.leveldb"))?),
        _ => Box::new(SqliteEngine::open(dir)?),
    })
}

async fn filled(engines: &[&str]) -> Result<Cluster> {
    let cluster = Cluster::start(engines).await?;
    for i in 0..ENTRIES {
        let filer = i % engines.len();
        cluster.mkdir(filer, &format!("/d{}/e{i}", i % 7)).await?;
    }
    cluster.wait_converged().await?;
    Ok(cluster)
}

/// A flipped, a lost and a doubled entry and a lost digest row.
fn damage_rows(name: &str, dir: &Path) -> Result<()> {
    let engine = engine(name, dir)?;
    let (from, to) = keys::children(Space::Entries, b"/d3");
    let rows = engine.scan(&from, &to, 10)?;
    let (flipped, lost, doubled) = (&rows[1], &rows[2], &rows[3]);
    let mut value = flipped.1.to_vec();
    *value.last_mut().context("a row has bytes")? ^= 1;
    let writes = vec![
        (flipped.0.to_vec(), Some(Bytes::from(value))),
        (lost.0.to_vec(), None),
        (keys::entry(b"/d4/doubled"), Some(doubled.1.clone())),
        (keys::digest(b"/d5"), None),
    ];
    engine.write(Batch { writes })?;
    engine.checkpoint()?;
    Ok(())
}

/// `dulse verify --scrub`: its exit code, and what it printed.
fn scrub(cluster: &Cluster) -> Result<(Option<i32>, String)> {
    let master = format!("127.0.0.1:{}", cluster.master_port);
    let output = Command::new(program()?)
        .args(["verify", "--scrub", "--master", &master])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code(), text))
}

async fn rows_heal(name: &str) -> Result<()> {
    let mut cluster = filled(&["redb", name, "sqlite"]).await?;
    // Stopped in order: killed, it may have rows in its log alone.
    cluster.filers[1].terminate()?;
    damage_rows(name, &cluster.dir.path().join("filer-1"))?;
    cluster.filers[1].restart()?;
    cluster.wait_ready(1).await?;
    let (code, text) = scrub(&cluster)?;
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|l| l.contains("rows looked at"))
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(
        lines.iter().filter(|l| !l.contains(" 0 places")).count(),
        1,
        "one filer was damaged: {text}"
    );
    let (code, text) = scrub(&cluster)?;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.matches(" 0 places damaged").count(), 3, "{text}");
    for dir in ["/d3", "/d4", "/d5"] {
        assert_eq!(cluster.names(1, dir).await?, cluster.names(0, dir).await?);
    }
    Ok(())
}

#[tokio::test]
async fn damaged_rows_of_redb_heal() -> Result<()> {
    rows_heal("redb").await
}

#[tokio::test]
async fn damaged_rows_of_leveldb_heal() -> Result<()> {
    rows_heal("leveldb").await
}

#[tokio::test]
async fn damaged_rows_of_sqlite_heal() -> Result<()> {
    rows_heal("sqlite").await
}

/// Overwrites a store's file but for its first page, as a disk may.
fn overwrite(name: &str, dir: &Path) -> Result<()> {
    let path = dir.join(format!("store.{name}"));
    if name == "leveldb" {
        return overwrite_leveldb(&path);
    }
    let file = std::fs::OpenOptions::new().write(true).open(&path)?;
    let len = file.metadata()?.len();
    let noise = [0xa5_u8; 4096];
    let mut at = 4096;
    while at < len {
        file.write_all_at(&noise, at)?;
        at += 4096;
    }
    file.sync_all()?;
    // What SQLite has not copied into its file yet would hide the damage.
    if name == "sqlite" {
        let wal = dir.join("store.sqlite-wal");
        if wal.exists() {
            std::fs::write(wal, b"")?;
        }
    }
    Ok(())
}

/// All tables; where there are none yet, what says which there are.
fn overwrite_leveldb(dir: &Path) -> Result<()> {
    let mut tables = Vec::new();
    let mut manifests = Vec::new();
    for file in std::fs::read_dir(dir)? {
        let path = file?.path();
        let name = path.file_name().context("a name")?.to_string_lossy();
        if name.ends_with(".ldb") {
            tables.push(path);
        } else if name.starts_with("MANIFEST-") {
            manifests.push(path);
        }
    }
    let damaged = if tables.is_empty() { manifests } else { tables };
    assert!(!damaged.is_empty());
    for path in damaged {
        let len = usize::try_from(path.metadata()?.len())?;
        let file = std::fs::OpenOptions::new().write(true).open(&path)?;
        file.write_all_at(&vec![0xa5; len], 0)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Starts a filer again each time it ends, as whoever supervises it does, until it is ready.
async fn supervise(cluster: &mut Cluster, filer: usize) -> Result<()> {
    let deadline = Instant::now() + HEAL_TIME_MAX;
    while Instant::now() < deadline {
        if cluster.filers[filer].has_ended()? {
            cluster.filers[filer].restart()?;
        }
        let url = cluster.url(filer, "/?limit=1");
        if let Ok(answer) = cluster.http.get(url).send().await
            && answer.status().is_success()
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("filer {filer} was not rebuilt in time")
}

/// S08: what it alone had written is in its journal, and so not lost with its store.
async fn store_heals(name: &str) -> Result<()> {
    let mut cluster = filled(&["redb", name, "sqlite"]).await?;
    let dir = cluster.dir.path().join("filer-1");
    if name == "leveldb" {
        // Opening makes tables of what is in its log.
        cluster.filers[1].terminate()?;
        cluster.filers[1].restart()?;
        cluster.wait_ready(1).await?;
    }
    cluster.filers[0].freeze()?;
    cluster.filers[2].freeze()?;
    cluster.mkdir(1, "/alone/at-filer-1").await?;
    cluster.filers[1].kill()?;
    cluster.filers[0].thaw()?;
    cluster.filers[2].thaw()?;
    overwrite(name, &dir)?;
    cluster.filers[1].restart()?;
    supervise(&mut cluster, 1).await?;
    let reason = std::fs::read_to_string(dir.join("damaged/REASON"))?;
    assert!(!reason.trim().is_empty());
    cluster.wait_converged().await?;
    let names = || async {
        let mut all = Vec::new();
        for filer in 0..3 {
            all.push(cluster.names(filer, "/alone").await.unwrap_or_default());
        }
        all.iter().all(|names| names == &["at-filer-1"])
    };
    dulse_tests::wait_for("what filer 1 alone had", names).await?;
    cluster.wait_converged().await?;
    for i in 0..7 {
        let path = format!("/d{i}");
        assert_eq!(
            cluster.names(1, &path).await?,
            cluster.names(0, &path).await?
        );
    }
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn s08_a_damaged_redb_store_is_rebuilt_from_the_others() -> Result<()> {
    store_heals("redb").await
}

#[tokio::test]
async fn s08_a_damaged_leveldb_store_is_rebuilt_from_the_others() -> Result<()> {
    store_heals("leveldb").await
}

#[tokio::test]
async fn s08_a_damaged_sqlite_store_is_rebuilt_from_the_others() -> Result<()> {
    store_heals("sqlite").await
}

/// How many members there are that others wait for, and how many that were removed.
fn members(cluster: &Cluster) -> Result<(usize, usize)> {
    let master = format!("127.0.0.1:{}", cluster.master_port);
    let output = Command::new(program()?)
        .args(["cluster", "members", "--format=json", "--master", &master])
        .output()?;
    let members: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let n = |states: &[&str]| {
        let found = members.iter().filter_map(|m| m["state"].as_str());
        found.filter(|state| states.contains(state)).count()
    };
    Ok((n(&["live", "silent"]), n(&["removed"])))
}

/// Waits until what was set aside was gone through: three members are left, and the origin of the
/// damaged store is none of them.
async fn wait_rescued(cluster: &Cluster) -> Result<()> {
    let is_done = || async { members(cluster).is_ok_and(|members| members == (3, 1)) };
    dulse_tests::wait_for("the removal of the damaged store's origin", is_done).await
}

/// Flips bytes in the middle of a log, in what was on disk long ago.
fn overwrite_log(dir: &Path) -> Result<()> {
    let files = std::fs::read_dir(dir.join("journal"))?;
    let paths: std::io::Result<Vec<_>> = files.map(|file| Ok(file?.path())).collect();
    let mut segments = paths?;
    segments.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    let first = segments.iter().min().context("a segment")?;
    let file = std::fs::OpenOptions::new().write(true).open(first)?;
    file.write_all_at(&[0xa5; 16], file.metadata()?.len() / 2)?;
    file.sync_all()?;
    Ok(())
}

/// Bug: where it was the log that was damaged, its origin stayed a member, and all kept their
/// logs, graves and chunks for it until it had been silent for days.
#[tokio::test]
async fn s08_a_filer_with_a_damaged_log_is_rebuilt_and_its_origin_removed() -> Result<()> {
    let mut cluster = filled(&["redb", "sqlite", "redb"]).await?;
    let dir = cluster.dir.path().join("filer-1");
    cluster.filers[1].kill()?;
    overwrite_log(&dir)?;
    cluster.filers[1].restart()?;
    supervise(&mut cluster, 1).await?;
    let reason = std::fs::read_to_string(dir.join("damaged/REASON"))?;
    assert!(reason.contains("of the journal is damaged"), "{reason}");
    wait_rescued(&cluster).await?;
    assert!(dir.join("damaged/RESCUED").exists());
    cluster.mkdir(1, "/since").await?;
    cluster.wait_converged().await?;
    assert_eq!(cluster.verify()?, Some(0));
    for i in 0..7 {
        let path = format!("/d{i}");
        let all = cluster.names(0, &path).await?;
        assert_eq!(cluster.names(1, &path).await?, all);
    }
    Ok(())
}

/// Bug: a store that took the place of a damaged one and was damaged, too, before the log of the
/// first was gone through, took that log and what only that had with it.
#[tokio::test]
async fn s08_what_a_filer_alone_had_survives_that_its_next_store_is_damaged_as_well() -> Result<()>
{
    let mut cluster = filled(&["redb", "redb", "sqlite"]).await?;
    let dir = cluster.dir.path().join("filer-1");
    cluster.filers[0].freeze()?;
    cluster.filers[2].freeze()?;
    cluster.mkdir(1, "/alone/at-filer-1").await?;
    cluster.filers[1].kill()?;
    cluster.filers[0].thaw()?;
    cluster.filers[2].thaw()?;
    // As the filer itself does when it finds its store damaged; then its disk fails again.
    dulse_registry::quarantine(&dir, "a test")?;
    let level = dulse_replica::Durability::Fsync.into();
    drop(dulse_registry::open_embedded(
        "redb",
        &dir,
        &level,
        7 << 32 | 7,
    )?);
    overwrite("redb", &dir)?;
    cluster.filers[1].restart()?;
    supervise(&mut cluster, 1).await?;
    wait_rescued(&cluster).await?;
    cluster.wait_converged().await?;
    for filer in 0..3 {
        assert_eq!(cluster.names(filer, "/alone").await?, ["at-filer-1"]);
    }
    assert!(dir.join("damaged.1/RESCUED").exists());
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_damaged_while_it_runs_is_rebuilt() -> Result<()> {
    for name in ["redb", "leveldb", "sqlite"] {
        let mut cluster = filled(&["redb", name]).await?;
        let dir = cluster.dir.path().join("filer-1");
        overwrite(name, &dir)?;
        // It may go on for as long as it holds all pages in memory; the next start may not.
        for i in 0..20 {
            let _ = cluster.mkdir(1, &format!("/d{}/later{i}", i % 7)).await;
        }
        if !cluster.filers[1].has_ended()? {
            cluster.filers[1].kill()?;
        }
        supervise(&mut cluster, 1).await?;
        cluster.wait_converged().await?;
        assert_eq!(cluster.verify()?, Some(0), "{name}");
        assert_eq!(
            cluster.names(1, "/d3").await?,
            cluster.names(0, "/d3").await?
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_only_copy_is_refused_and_left_as_it_is() -> Result<()> {
    for name in ["redb", "leveldb", "sqlite"] {
        let mut cluster = filled(&[name]).await?;
        let dir = cluster.dir.path().join("filer-0");
        cluster.filers[0].kill()?;
        overwrite(name, &dir)?;
        let mut said = String::new();
        // The first start may end in the engine itself; the next one checks the store.
        for _ in 0..2 {
            let output = cluster.filers[0].run()?;
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.code() == Some(4) {
                break;
            }
            assert_eq!(output.status.code(), None, "{said}");
        }
        let last = said.lines().last().context("it says why")?;
        assert!(
            last.contains("is damaged") && last.contains("start another filer"),
            "{last}"
        );
        assert!(!dir.join("damaged").exists());
        assert!(dir.join(format!("store.{name}")).exists());
    }
    Ok(())
}
