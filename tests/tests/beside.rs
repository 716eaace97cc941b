// SPDX-License-Identifier: Apache-2.0
//! Filers of which directories are in stores with journals of their own, as real processes:
//! embedded stores, or etcd, for everything else, Redis for `/tmp` and etcd for `/var/log`.

#[path = "databases/located.rs"]
mod databases;

use anyhow::{Context, Result, ensure};
use databases::{Beside, configure};
use dulse_proto::filer as pb;
use dulse_shared_testkit::Database;
use dulse_tests::located::{another_table_is_refused, nothing_crosses, paths, told};
use dulse_tests::shared::now_ns;
use dulse_tests::{Cluster, wait_for};

/// Waits until a filer shows a file with its path as content.
async fn shows(cluster: &Cluster, filer: usize, path: &str) -> Result<()> {
    wait_for(&format!("{path} at filer {filer}"), async || {
        matches!(cluster.get(filer, path).await, Ok(Some(content)) if content == path.as_bytes())
    })
    .await
}

/// Three filers with embedded stores of different kinds, and `/tmp` and `/var/log` of all in one
/// database each.
async fn beside_embedded(cluster: &mut Cluster, stores: &Beside) -> Result<()> {
    let dir = cluster.dir.path().to_owned();
    for section in ["[leveldb2]\ndir", "[sqlite]\ndbFile", "[leveldb3]\ndir"] {
        let n = cluster.filers.len();
        let place = dir.join(format!("own-{n}"));
        let default = format!("{section} = {place:?}\nenabled = true\n");
        let config = stores.configure(&dir.join(format!("config-{n}")), &default)?;
        let filer = cluster.add_filer_by_file(&config)?;
        cluster.wait_ready(filer).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_embedded_stores_one_tree_shows_and_each_change_is_told_once() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let name = cluster.dir.path().display().to_string();
    let stores = Beside::start(&name)?;
    beside_embedded(&mut cluster, &stores).await?;
    let text = cluster.dulse(&["status"], 0)?;
    ensure!(
        text.contains("/tmp in ") && text.contains("(redis2.tmp)"),
        "{text}"
    );

    // What is in Redis every filer shows at once, the rest when it has arrived.
    let since_ns = now_ns()?;
    let made = [
        "/tmp/a",
        "/x",
        "/tmp/d/b",
        "/tmpx/y",
        "/var/log/c",
        "/var/x",
        "/tmp/z",
    ];
    for (n, path) in made.into_iter().enumerate() {
        cluster.put(n % 3, path, path.as_bytes().to_vec()).await?;
        for filer in 0..3 {
            if path.starts_with("/tmp/") || path.starts_with("/var/log/") {
                let content = cluster.get(filer, path).await?;
                ensure!(content == Some(path.as_bytes().to_vec()), "{path}");
            } else {
                shows(&cluster, filer, path).await?;
            }
        }
    }
    cluster.wait_converged().await?;
    for filer in 0..3 {
        let top = cluster.names(filer, "/").await?;
        for name in ["tmp", "tmpx", "var", "x"] {
            let n = top.iter().filter(|one| *one == name).count();
            ensure!(n == 1, "{n} of {name} in {top:?}");
        }
        ensure!(cluster.names(filer, "/tmp").await? == ["a", "d", "z"]);
        ensure!(cluster.names(filer, "/var").await? == ["log", "x"]);
        ensure!(cluster.names(filer, "/var/log").await? == ["c"]);
    }
    ensure!(stores.log_has("/", "c")? && !stores.log_has("/", "x")?);
    ensure!(stores.tmp_has("", "a")? && stores.tmp_has("/d", "b")?);
    ensure!(!stores.tmp_has("", "x")? && !stores.tmp_has("/", "tmp")?);

    // One order at all of them, and after a resume from its middle.
    let at_0 = told(&cluster, 0, since_ns, "/tmp/z").await?;
    ensure!(at_0.is_sorted_by_key(|(ts_ns, _)| *ts_ns), "{at_0:?}");
    let expected = [
        "/tmp/a",
        "/x",
        "/tmp/d",
        "/tmp/d/b",
        "/tmpx",
        "/tmpx/y",
        "/var/log/c",
        "/var/x",
        "/tmp/z",
    ];
    ensure!(paths(&at_0) == expected, "{at_0:?}");
    for filer in 1..3 {
        ensure!(told(&cluster, filer, since_ns, "/tmp/z").await? == at_0);
        let resumed = told(&cluster, filer, at_0[3].0, "/tmp/z").await?;
        ensure!(resumed == at_0[3..], "{resumed:?} of {at_0:?}");
    }
    // The state in place of a log that does not reach back: of both stores, once each.
    let state = told(&cluster, 1, 1, "/x").await?;
    ensure!(
        state.iter().filter(|(_, path)| path == "/tmp/d/b").count() == 1,
        "{state:?}"
    );

    // A session goes on at any filer, wherever it wrote.
    for path in ["/tmp/session", "/session"] {
        let written = cluster
            .http
            .put(cluster.url(0, path))
            .body("x")
            .send()
            .await?;
        let token = written.headers().get("dulse-token").context("a token")?;
        let read = cluster
            .http
            .get(cluster.url(2, path))
            .header("dulse-token", token);
        let read = read.send().await?;
        ensure!(read.status() == 200, "{path}: {}", read.status());
    }

    // Within a store everything moves and goes; between two nothing does.
    let moved = cluster
        .http
        .post(cluster.url(1, "/tmp/e?mv.from=/tmp/d"))
        .send();
    ensure!(moved.await?.status().is_success());
    ensure!(cluster.get(0, "/tmp/e/b").await? == Some(b"/tmp/d/b".to_vec()));
    let across = [("/x", "/tmp/x"), ("/tmp/a", "/a"), ("/tmp/a", "/var/log/a")];
    nothing_crosses(&cluster, &across).await?;
    let above = cluster.http.post(cluster.url(0, "/v?mv.from=/var"));
    ensure!(
        above.send().await?.status().is_client_error(),
        "a store begins below it"
    );
    let gone = cluster
        .http
        .delete(cluster.url(2, "/tmp/e?recursive=true"))
        .send();
    ensure!(gone.await?.status().is_success());
    ensure!(cluster.get(1, "/tmp/e/b").await?.is_none() && !stores.tmp_has("/e", "b")?);

    // Who has another table does not start.
    let plain = configure(&cluster.dir.path().join("plain"), "", None)?;
    let other = stores.configure_another(&cluster.dir.path().join("other"))?;
    another_table_is_refused(&mut cluster, &plain, &other).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_shared_store_without_transactions_it_is_the_same() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let name = cluster.dir.path().display().to_string();
    let stores = Beside::start(&name)?;
    let default = stores.in_etcd(&name)?;
    let config = stores.configure(&cluster.dir.path().join("config"), &default.toml)?;
    for _ in 0..2 {
        let filer = cluster.add_filer_on(&config, &[])?;
        cluster.wait_ready(filer).await?;
    }
    let since_ns = now_ns()?;
    let made = ["/x", "/tmp/a", "/var/log/b", "/var/y", "/tmp/d/c", "/z"];
    for (n, path) in made.into_iter().enumerate() {
        let content = path.as_bytes().to_vec();
        cluster.put(n % 2, path, content.clone()).await?;
        ensure!(
            cluster.get(1 - n % 2, path).await? == Some(content),
            "{path}"
        );
    }
    ensure!(stores.tmp_has("", "a")? && stores.log_has("/", "b")?);
    ensure!(stores.etcd_has(&default, "/var", "y")? && !stores.etcd_has(&default, "/tmp", "a")?);
    let at_0 = told(&cluster, 0, since_ns, "/z").await?;
    let all = [
        "/x",
        "/tmp/a",
        "/var/log/b",
        "/var/y",
        "/tmp/d",
        "/tmp/d/c",
        "/z",
    ];
    ensure!(paths(&at_0) == all, "{at_0:?}");
    ensure!(told(&cluster, 1, since_ns, "/z").await? == at_0);

    // Who has no such directories, or a default store elsewhere, does not start.
    let plain = configure(&cluster.dir.path().join("plain"), &default.toml, None)?;
    let odd = cluster.add_filer_on(&plain, &[])?;
    let text = cluster.refusal(odd).await?;
    ensure!(
        text.contains("keeps what is in `/tmp` in the default store"),
        "{text}"
    );
    let elsewhere = stores.in_etcd(&format!("{name}.elsewhere"))?;
    let other = stores.configure(&cluster.dir.path().join("other"), &elsewhere.toml)?;
    let odd = cluster.add_filer_on(&other, &[])?;
    let text = cluster.refusal(odd).await?;
    ensure!(text.contains("at the same database"), "{text}");

    // Killed and back, nothing is missing.
    cluster.filers[0].kill()?;
    cluster.put(1, "/tmp/meanwhile", b"x".to_vec()).await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    cluster.put(0, "/var/log/last", b"x".to_vec()).await?;
    let told = told(&cluster, 1, since_ns, "/var/log/last").await?;
    let n = told
        .iter()
        .filter(|(_, path)| path == "/tmp/meanwhile")
        .count();
    ensure!(n == 1, "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_below_a_location_goes_with_its_chunks_and_in_its_time() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let name = cluster.dir.path().display().to_string();
    let stores = Beside::start(&name)?;
    let config = stores.configure(&cluster.dir.path().join("config"), "")?;
    for _ in 0..2 {
        let flags = ["--chunk-grace=2s", "--engine=redb"];
        let filer = cluster.add_filer_on(&config, &flags)?;
        cluster.wait_ready(filer).await?;
    }
    // Written over and deleted at the other filer, in all three stores.
    for dir in ["/tmp", "/var/log", "/x"] {
        for n in 0..6_u8 {
            let path = format!("{dir}/{n}");
            cluster.put(0, &path, vec![n; 200_000]).await?;
        }
        wait_for("the other filer shows it", async || {
            matches!(cluster.get(1, &format!("{dir}/5")).await, Ok(Some(_)))
        })
        .await?;
        for n in 0..4_u8 {
            let path = format!("{dir}/{n}");
            match n % 2 {
                0 => cluster.put(1, &path, vec![n + 100; 200_000]).await?,
                _ => {
                    let gone = cluster.http.delete(cluster.url(1, &path)).send().await?;
                    ensure!(gone.status().is_success(), "{path}: {}", gone.status());
                }
            }
        }
    }
    cluster.wait_converged().await?;
    ensure!(cluster.named(&[0, 1]).await?.len() >= 12);
    cluster.wait_no_leak(&[0, 1]).await?;
    for dir in ["/tmp", "/var/log", "/x"] {
        ensure!(cluster.get(1, &format!("{dir}/2")).await? == Some(vec![102; 200_000]));
        ensure!(cluster.get(0, &format!("{dir}/5")).await? == Some(vec![5; 200_000]));
    }

    // What has outlived its time is removed, by another filer if need be.
    let now_s = now_ns()? / 1_000_000_000;
    for (filer, directory) in [(0, "/tmp"), (1, "/var/log")] {
        let mut fields = dulse_types::EntryFields::default();
        *fields.attrs_mut() = dulse_types::FuseAttributes {
            file_mode: 0o644,
            ttl_sec: 2,
            crtime: now_s,
            mtime: now_s,
            ..dulse_types::FuseAttributes::default()
        };
        let request = pb::CreateEntryRequest {
            directory: directory.to_owned(),
            entry: Some(fields.to_entry(&Default::default()).with_name("soon")),
            ..pb::CreateEntryRequest::default()
        };
        let made = cluster.grpc(filer).await?.create_entry(request).await?;
        ensure!(made.get_ref().error.is_empty(), "{made:?}");
    }
    ensure!(stores.tmp_has("", "soon")? && stores.log_has("/", "soon")?);
    wait_for("what has expired is gone", async || {
        let has = (stores.tmp_has("", "soon"), stores.log_has("/", "soon"));
        matches!(has, (Ok(false), Ok(false)))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_embedded_stores_one_that_is_away_takes_its_directory_alone() -> Result<()> {
    let mut cluster = Cluster::start(&[]).await?;
    let name = cluster.dir.path().display().to_string();
    let mut stores = Beside::start(&name)?;
    beside_embedded(&mut cluster, &stores).await?;
    let since_ns = now_ns()?;

    // A filer is killed, and comes back: nothing that was acknowledged is lost or told twice.
    cluster
        .put(0, "/tmp/before", b"/tmp/before".to_vec())
        .await?;
    cluster.put(0, "/before", b"/before".to_vec()).await?;
    cluster.filers[0].kill()?;
    cluster
        .put(1, "/tmp/meanwhile", b"/tmp/meanwhile".to_vec())
        .await?;
    cluster.put(2, "/meanwhile", b"/meanwhile".to_vec()).await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await?;
    ensure!(cluster.get(0, "/tmp/meanwhile").await? == Some(b"/tmp/meanwhile".to_vec()));
    shows(&cluster, 0, "/meanwhile").await?;
    cluster.put(0, "/tmp/back", b"/tmp/back".to_vec()).await?;
    for filer in 0..3 {
        let told = told(&cluster, filer, since_ns, "/tmp/back").await?;
        let mut of_these = paths(&told);
        of_these.sort_unstable();
        let all = [
            "/before",
            "/meanwhile",
            "/tmp/back",
            "/tmp/before",
            "/tmp/meanwhile",
        ];
        ensure!(of_these == all, "filer {filer}: {told:?}");
    }

    // The database is gone: all else goes on, and is told.
    stores.redis.kill()?;
    ensure!(cluster.put(0, "/tmp/away", b"x".to_vec()).await.is_err());
    cluster.put(0, "/there", b"/there".to_vec()).await?;
    shows(&cluster, 2, "/there").await?;
    told(&cluster, 1, since_ns, "/there").await?;
    for filer in 0..3 {
        let (is_ready, why) = cluster.readiness(filer).await;
        ensure!(is_ready, "filer {filer}: {why}");
    }
    stores.redis.start_again()?;
    wait_for("the database answers again", async || {
        cluster
            .put(0, "/tmp/again", b"/tmp/again".to_vec())
            .await
            .is_ok()
    })
    .await?;
    ensure!(cluster.get(1, "/tmp/again").await? == Some(b"/tmp/again".to_vec()));
    ensure!(cluster.get(1, "/tmp/before").await? == Some(b"/tmp/before".to_vec()));
    for filer in 0..3 {
        let told = told(&cluster, filer, since_ns, "/tmp/again").await?;
        let n = told.iter().filter(|(_, path)| path == "/there").count();
        ensure!(n == 1, "filer {filer}: {told:?}");
    }

    // One that stops in order holds up nobody, and finds all when it is back.
    cluster.filers[2].terminate()?;
    cluster.put(0, "/tmp/last", b"/tmp/last".to_vec()).await?;
    cluster.put(1, "/last", b"/last".to_vec()).await?;
    told(&cluster, 0, since_ns, "/last").await?;
    // It says at its start what it is; without input it stops at once.
    let started = cluster.filers[2].run()?;
    let text = String::from_utf8_lossy(&started.stderr);
    for says in [
        "embedded store is open",
        "engine=\"leveldb\"",
        "replicates_with=",
        "shared store is open",
        "store=\"redis2.tmp\"",
        "store_id=",
    ] {
        ensure!(text.contains(says), "{says} is not in {text}");
    }
    cluster.filers[2].restart()?;
    cluster.wait_ready(2).await?;
    shows(&cluster, 2, "/last").await?;
    ensure!(cluster.get(2, "/tmp/last").await? == Some(b"/tmp/last".to_vec()));
    cluster.wait_converged().await?;

    // One that does not go with the others and finds no master to say who is there starts; the
    // others notice it once it is listed.
    cluster.master.freeze()?;
    let plain = configure(&cluster.dir.path().join("plain"), "", None)?;
    let odd = cluster.add_filer_on(&plain, &[])?;
    wait_for("the odd one listens", async || {
        cluster
            .http
            .get(cluster.url(odd, "/metrics"))
            .send()
            .await
            .is_ok()
    })
    .await?;
    cluster.master.thaw()?;
    wait_for("filer 0 counts a misfit", async || {
        cluster.misfits(0).await == Some(1.0)
    })
    .await?;
    cluster.put(0, "/tmp/on", b"x".to_vec()).await?;
    cluster.filers[odd].kill()?;
    wait_for("it is gone", async || cluster.misfits(0).await == Some(0.0)).await
}
