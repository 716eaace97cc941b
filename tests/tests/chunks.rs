// SPDX-License-Identifier: Apache-2.0
//! I7 with real processes: no entry at any filer names a chunk that is gone, and once every
//! filer has everything and the grace is over, nothing else lies on the volume servers.

use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use dulse_proto::filer::{AssignVolumeRequest, CreateEntryRequest, FileChunkManifest};
use dulse_tests::apart::apart;
use dulse_tests::links::{link, unlink};
use dulse_tests::{Cluster, Whose, program, wait_for};
use dulse_types::entry::UnknownFields;
use dulse_types::{EntryFields, FileChunk};
use prost::Message;
use serde_json::Value;

/// Short, so that a test sees what goes; see `dulse filer --help`.
const GRACE: &str = "--chunk-grace=1s";

fn run(arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program()?).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(output.stdout)
}

async fn append(cluster: &Cluster, filer: usize, path: &str, content: &str) -> Result<()> {
    let url = cluster.url(filer, &format!("{path}?op=append"));
    let request = cluster.http.put(url).body(content.to_owned());
    request.send().await?.error_for_status()?;
    Ok(())
}

async fn rename(cluster: &Cluster, filer: usize, from: &str, to: &str) -> Result<()> {
    let url = cluster.url(filer, &format!("{to}?mv.from={from}"));
    cluster.http.post(url).send().await?.error_for_status()?;
    Ok(())
}

/// Everything that lost is let go: until then its content is kept.
async fn dismiss_all(cluster: &Cluster) -> Result<usize> {
    let address = format!("127.0.0.1:{}", cluster.filer_ports[0]);
    let list = || -> Result<Vec<Value>> {
        let arguments = ["conflicts", "list", "--format=json", "--filer", &address];
        let answer: Value = serde_json::from_slice(&run(&arguments)?)?;
        Ok(answer["conflicts"].as_array().context("a list")?.clone())
    };
    let is_recorded = || async {
        list().is_ok_and(|all| all.iter().all(|conflict| conflict["pending"] == false))
    };
    let waited = wait_for("conflicts that are recorded", is_recorded).await;
    waited.with_context(|| format!("listed: {:?}", list()))?;
    let all = list()?;
    for conflict in &all {
        let id = conflict["id"].as_str().context("an id")?;
        run(&["conflicts", "dismiss", id, "--filer", &address])?;
    }
    Ok(all.len())
}

/// Filers that found a cluster, with a short grace.
async fn cluster(engines: &[&str]) -> Result<Cluster> {
    Cluster::start_with(engines, &[GRACE]).await
}

#[tokio::test]
async fn s25_s29_chunks_of_files_written_apart_are_all_there_or_all_freed() -> Result<()> {
    let mut cluster = cluster(&["redb", "sqlite"]).await?;
    for name in [
        "renamed",
        "deleted",
        "appended",
        "rewritten",
        "linked",
        "unlinked",
    ] {
        cluster
            .put(0, &format!("/d/{name}"), b"first".to_vec())
            .await?;
    }
    for name in ["linked", "unlinked"] {
        link(
            &mut cluster.grpc(0).await?,
            "/d",
            name,
            &format!("{name}-too"),
        )
        .await?;
    }
    apart(
        &mut cluster,
        async |at| {
            rename(at, 0, "/d/renamed", "/d/renamed-since").await?;
            unlink(&mut at.grpc(0).await?, "/d", "deleted", true).await?;
            append(at, 0, "/d/appended", "here").await?;
            at.put(0, "/d/rewritten", b"here".to_vec()).await?;
            append(at, 0, "/d/linked", "here").await?;
            link(&mut at.grpc(0).await?, "/d", "linked", "linked-thrice").await?;
            unlink(&mut at.grpc(0).await?, "/d", "unlinked", false).await?;
            unlink(&mut at.grpc(0).await?, "/d", "unlinked-too", true).await
        },
        async |at| {
            append(at, 1, "/d/renamed", "there").await?;
            append(at, 1, "/d/deleted", "there").await?;
            at.put(1, "/d/appended", b"there".to_vec()).await?;
            append(at, 1, "/d/rewritten", "there").await?;
            append(at, 1, "/d/linked-too", "there").await?;
            append(at, 1, "/d/unlinked", "there").await
        },
    )
    .await?;
    cluster.wait_converged().await?;
    for filer in 0..2 {
        let found = cluster.get(filer, "/d/renamed-since").await?;
        assert_eq!(found.as_deref(), Some(&b"firstthere"[..]), "S25");
        let named = cluster.named(&[filer]).await?;
        ensure!(!named.is_empty(), "filer {filer} names something");
    }
    let n_conflicts = dismiss_all(&cluster).await?;
    ensure!(n_conflicts >= 3, "{n_conflicts} conflicts");
    cluster.wait_no_leak(&[0, 1]).await?;
    let url = cluster.url(0, "/d?recursive=true");
    cluster.http.delete(url).send().await?.error_for_status()?;
    cluster.wait_converged().await?;
    cluster.wait_no_leak(&[0, 1]).await?;
    assert_eq!(cluster.stored()?, [].into(), "nothing names anything");
    Ok(())
}

/// Writers at three filers append to, rewrite, move, link and delete the same few files, while
/// a reader looks for what they name.
#[tokio::test]
async fn whoever_writes_where_no_entry_names_a_chunk_that_is_gone_and_none_is_left() -> Result<()> {
    const ROUNDS: usize = 60;
    let cluster = cluster(&["redb", "sqlite", "redb"]).await?;
    let writers = (0..3).map(|filer| {
        let at = &cluster;
        async move {
            for n in 0..ROUNDS {
                let (path, to) = (format!("/hot/{}", n * 7 % 5), format!("/hot/{}", n % 5));
                let done = match (n + filer) % 6 {
                    0 | 1 => {
                        at.put(filer, &path, format!("{filer} {n}").into_bytes())
                            .await
                    }
                    2 | 3 => append(at, filer, &path, "more").await,
                    4 => rename(at, filer, &path, &to).await,
                    _ => {
                        let asked = at.http.delete(at.url(filer, &path)).send().await?;
                        asked.error_for_status().map(drop).map_err(Into::into)
                    }
                };
                // Who loses a race is told so; what counts is what is left behind.
                drop(done);
            }
            Ok::<_, anyhow::Error>(())
        }
    });
    let looks = async {
        for n in 0..12 {
            cluster.named(&[n % 3]).await?;
        }
        Ok(Vec::new())
    };
    let written = futures::future::try_join_all(writers);
    let (looked, _): (Vec<()>, _) = futures::future::try_join(looks, written).await?;
    drop(looked);
    cluster.wait_converged().await?;
    dismiss_all(&cluster).await?;
    cluster.wait_converged().await?;
    cluster.wait_no_leak(&[0, 1, 2]).await?;
    assert_eq!(cluster.verify()?, Some(0));
    Ok(())
}

/// The filer at which files were born frees what they drop. It is lost for good just before:
/// the others still know, and the smallest of them does once it is removed. Before, they had
/// forgotten those chunks when the grace was over, and nobody freed them.
#[tokio::test]
async fn what_a_lost_filer_was_to_free_is_freed_once_it_is_removed() -> Result<()> {
    let mut cluster =
        Cluster::start_with(&["redb", "sqlite", "redb"], &["--chunk-grace=4s"]).await?;
    for n in 0..8 {
        cluster.put(1, &format!("/lost/{n}"), vec![n; 100]).await?;
    }
    cluster.wait_converged().await?;
    for n in 0..4 {
        cluster.put(0, &format!("/lost/{n}"), vec![n; 50]).await?;
    }
    let url = cluster.url(1, "/lost/7");
    cluster.http.delete(url).send().await?.error_for_status()?;
    cluster.wait_converged().await?;
    let before = cluster.leaked(&[0, 2]).await?;
    cluster.filers[1].kill()?;
    std::fs::remove_dir_all(cluster.dir.path().join("filer-1"))?;
    ensure!(before.len() == 5, "the grace was over too soon: {before:?}");
    let master = format!("127.0.0.1:{}", cluster.master_port);
    let lost = format!("127.0.0.1:{}", cluster.filer_ports[1]);
    let remove = ["cluster", "remove", &lost, "--yes", "--master", &master];
    let is_removed = || async { run(&remove).is_ok() };
    wait_for("a silent filer that is removed", is_removed).await?;
    cluster.wait_no_leak(&[0, 2]).await?;
    for filer in [0, 2] {
        for n in 0..7 {
            let size = if n < 4 { 50 } else { 100 };
            let found = cluster.get(filer, &format!("/lost/{n}")).await?;
            assert_eq!(found, Some(vec![n; size]), "{n} at filer {filer}");
        }
    }
    assert_eq!(cluster.verify_of(&[0, 2])?, Some(0));
    Ok(())
}

/// The one that frees is killed again and again meanwhile, and so are those that ask.
#[tokio::test]
async fn restarts_on_either_side_leave_no_chunk_behind() -> Result<()> {
    let mut cluster = cluster(&["redb", "sqlite"]).await?;
    for round in 0..4 {
        for n in 0..6 {
            let path = format!("/again/{n}");
            cluster
                .put(n % 2, &path, format!("{round} {n}").into_bytes())
                .await?;
        }
        cluster.wait_converged().await?;
        cluster.filers[round % 2].kill()?;
        cluster.filers[round % 2].restart()?;
        cluster.wait_ready(round % 2).await?;
    }
    cluster.wait_converged().await?;
    cluster.wait_no_leak(&[0, 1]).await?;
    assert_eq!(cluster.stored()?.len(), 6);
    Ok(())
}

/// A chunk as clients write it: assigned, uploaded, not named by anything yet.
async fn upload(cluster: &Cluster, filer: usize, content: &[u8]) -> Result<FileChunk> {
    upload_to(cluster, filer, cluster.volume_port, content).await
}

/// The same at this volume server.
async fn upload_to(
    cluster: &Cluster,
    filer: usize,
    port: u16,
    content: &[u8],
) -> Result<FileChunk> {
    let request = AssignVolumeRequest {
        count: 1,
        data_node: format!("127.0.0.1:{port}"),
        ..AssignVolumeRequest::default()
    };
    let assigned = cluster.grpc(filer).await?.assign_volume(request).await?;
    let assigned = assigned.into_inner();
    ensure!(assigned.error.is_empty(), "{}", assigned.error);
    let at = assigned.location.context("a place")?.url;
    ensure!(at.ends_with(&format!(":{port}")), "{at}, not {port}");
    let url = format!("http://{at}/{}", assigned.file_id);
    let sent = cluster.http.put(url).body(content.to_vec()).send().await?;
    sent.error_for_status()?;
    let mut chunk = FileChunk {
        size: content.len() as u64,
        ..FileChunk::default()
    };
    chunk.set_id(assigned.file_id.parse()?);
    Ok(chunk)
}

/// Chunks one behind the other, of eight bytes each.
async fn data(cluster: &Cluster, filer: usize, texts: &[&str]) -> Result<Vec<FileChunk>> {
    let (mut chunks, mut offset) = (Vec::new(), 0);
    for text in texts {
        let chunk = upload(cluster, filer, text.as_bytes()).await?;
        chunks.push(FileChunk { offset, ..chunk });
        offset += text.len() as i64;
    }
    Ok(chunks)
}

/// A manifest of some chunks, as clients make one of a long list.
async fn fold(cluster: &Cluster, filer: usize, chunks: &[FileChunk]) -> Result<FileChunk> {
    fold_to(cluster, filer, cluster.volume_port, chunks).await
}

/// The same at this volume server.
async fn fold_to(
    cluster: &Cluster,
    filer: usize,
    port: u16,
    chunks: &[FileChunk],
) -> Result<FileChunk> {
    let chunks = chunks.to_vec();
    let end = chunks.iter().map(FileChunk::end).max().unwrap_or(0);
    let offset = chunks.iter().map(|chunk| chunk.offset).min().unwrap_or(0);
    let content = FileChunkManifest { chunks }.encode_to_vec();
    Ok(FileChunk {
        offset,
        size: end - offset as u64,
        is_chunk_manifest: true,
        ..upload_to(cluster, filer, port, &content).await?
    })
}

/// Writes an entry with these chunks, whatever it had before.
async fn write(
    cluster: &Cluster,
    filer: usize,
    (dir, name): (&str, &str),
    chunks: &[FileChunk],
    ttl_s: i32,
) -> Result<()> {
    let mut fields = EntryFields::default();
    name.clone_into(&mut fields.name);
    fields.chunks = chunks.to_vec();
    fields.attrs_mut().file_mode = 0o644;
    fields.attrs_mut().file_size = chunks.iter().map(FileChunk::end).max().unwrap_or(0);
    fields.attrs_mut().ttl_sec = ttl_s;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    fields.attrs_mut().mtime = now.as_secs() as i64;
    fields.attrs_mut().crtime = now.as_secs() as i64;
    let request = CreateEntryRequest {
        directory: dir.to_owned(),
        entry: Some(fields.to_entry(&UnknownFields::default())),
        ..CreateEntryRequest::default()
    };
    let answer = cluster.grpc(filer).await?.create_entry(request).await?;
    let error = answer.into_inner().error;
    ensure!(error.is_empty(), "{dir}/{name}: {error}");
    Ok(())
}

/// Before, what a manifest lists stayed on the volume servers for ever when its file was
/// deleted, overwritten, cut off or expired, and so did what a file had named itself when it
/// was overwritten by another one with a manifest.
#[tokio::test]
async fn what_manifests_list_is_freed_with_them_and_not_before() -> Result<()> {
    let mut cluster = cluster(&["redb", "sqlite"]).await?;
    const TEXTS: [&str; 3] = ["chunk 1.", "chunk 2.", "chunk 3."];
    let mut files = std::collections::BTreeMap::new();
    for name in [
        "deleted", "over", "big", "cut", "apart", "anew", "expired", "lost",
    ] {
        let chunks = data(&cluster, 0, &TEXTS).await?;
        let folded = fold(&cluster, 0, &chunks[..2]).await?;
        let ttl_s = if name == "expired" { 2 } else { 0 };
        let named = [folded, chunks[2].clone()];
        write(&cluster, 0, ("/m", name), &named, ttl_s).await?;
        files.insert(name, chunks);
    }
    for name in ["cut", "anew"] {
        let found = cluster.get(0, &format!("/m/{name}")).await?;
        assert_eq!(found, Some(TEXTS.concat().into_bytes()), "{name}");
    }
    cluster.wait_converged().await?;
    // At the other filer than the one that they were written at, and that frees them.
    unlink(&mut cluster.grpc(1).await?, "/m", "deleted", true).await?;
    cluster.put(1, "/m/over", b"over".to_vec()).await?;
    let big = data(&cluster, 0, &["another.", "file...."]).await?;
    let big = [fold(&cluster, 0, &big).await?];
    write(&cluster, 1, ("/m", "big"), &big, 0).await?;
    // What the manifest lists is named without it, or by another one.
    write(&cluster, 1, ("/m", "cut"), &files["cut"][..1], 0).await?;
    write(&cluster, 0, ("/m", "apart"), &files["apart"], 0).await?;
    let anew = [fold(&cluster, 0, &files["anew"]).await?];
    write(&cluster, 0, ("/m", "anew"), &anew, 0).await?;
    apart(
        &mut cluster,
        async |at| at.put(0, "/m/lost", b"here".to_vec()).await,
        async |at| {
            let mut chunks = files["lost"].clone();
            chunks.extend(data(at, 1, &["unseen.."]).await?);
            write(at, 1, ("/m", "lost"), &[fold(at, 1, &chunks).await?], 0).await
        },
    )
    .await?;
    cluster.wait_converged().await?;
    let is_expired = || async {
        let found = cluster.get(1, "/m/expired").await;
        found.is_ok_and(|content| content.is_none())
    };
    wait_for("a file whose time is over", is_expired).await?;
    ensure!(dismiss_all(&cluster).await? == 1, "one of the two lost");
    cluster.wait_no_leak(&[0, 1]).await?;
    for filer in 0..2 {
        for (name, content) in [
            ("cut", "chunk 1.".to_owned()),
            ("apart", TEXTS.concat()),
            ("anew", TEXTS.concat()),
            ("big", "another.file....".to_owned()),
        ] {
            let found = cluster.get(filer, &format!("/m/{name}")).await?;
            assert_eq!(found, Some(content.into_bytes()), "{name} at filer {filer}");
        }
    }
    let url = cluster.url(1, "/m?recursive=true");
    cluster.http.delete(url).send().await?.error_for_status()?;
    cluster.wait_converged().await?;
    cluster.wait_no_leak(&[0, 1]).await?;
    assert_eq!(cluster.stored()?, [].into(), "nothing names anything");
    Ok(())
}

/// A gauge without labels at a filer.
async fn gauge(cluster: &Cluster, filer: usize, name: &str) -> Result<f64> {
    let answer = cluster.http.get(cluster.url(filer, "/metrics")).send();
    let text = answer.await?.text().await?;
    let prefix = format!("{name} ");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
    Ok(lines.next().with_context(|| name.to_owned())?.parse()?)
}

/// Files that wait for a manifest, and volumes that fail.
async fn waiting(cluster: &Cluster, filer: usize) -> Result<(f64, f64)> {
    let files = gauge(cluster, filer, "dulse_chunk_manifests_unreadable").await?;
    let volumes = gauge(cluster, filer, "dulse_chunks_failing_volumes").await?;
    Ok((files, volumes))
}

/// The manifests lie on another volume server than all the rest, and that one is away.
#[tokio::test]
async fn while_a_manifest_cannot_be_read_what_its_file_dropped_is_kept() -> Result<()> {
    let mut cluster = cluster(&["redb", "sqlite"]).await?;
    let port = cluster.add_volume(Whose::Ours)?;
    let is_known = || async { upload_to(&cluster, 0, port, b"there").await.is_ok() };
    wait_for("a volume on the second server", is_known).await?;
    let mut manifests = Vec::new();
    for name in ["cut", "deleted"] {
        let chunks = data(&cluster, 0, &["chunk 1.", "chunk 2.", "chunk 3."]).await?;
        let manifest = fold_to(&cluster, 0, port, &chunks[..2]).await?;
        let named = [manifest.clone(), chunks[2].clone()];
        write(&cluster, 0, ("/away", name), &named, 0).await?;
        manifests.push(manifest);
    }
    // Of a file without manifests nothing waits for that server.
    let plain = data(&cluster, 0, &["plain..."]).await?;
    write(&cluster, 0, ("/away", "plain"), &plain, 0).await?;
    cluster.wait_converged().await?;
    assert_eq!(cluster.stored()?.len(), 7);
    cluster.more[0].kill()?;
    // The last chunk goes; the manifest stays, and might list it, too.
    let more = data(&cluster, 0, &["instead."]).await?.remove(0);
    let named = [manifests[0].clone(), FileChunk { offset: 16, ..more }];
    write(&cluster, 1, ("/away", "cut"), &named, 0).await?;
    for name in ["deleted", "plain"] {
        unlink(&mut cluster.grpc(1).await?, "/away", name, true).await?;
    }
    cluster.wait_converged().await?;
    let is_told = || async {
        let is_waiting = |(files, volumes)| files == 2.0 && volumes >= 1.0;
        waiting(&cluster, 0).await.is_ok_and(is_waiting)
    };
    let told = wait_for("two files that wait for their manifests", is_told).await;
    told.with_context(|| format!("{:?}", cluster.stored()))?;
    let is_plain_gone = || async { cluster.stored().is_ok_and(|stored| stored.len() == 7) };
    wait_for("what needs no manifest to go", is_plain_gone).await?;
    cluster.more[0].restart()?;
    let is_over = || async { waiting(&cluster, 0).await.is_ok_and(|w| w == (0.0, 0.0)) };
    wait_for("no file that waits", is_over).await?;
    let is_left = |n: usize| cluster.stored().is_ok_and(|stored| stored.len() == n);
    let is_cut = || async { is_left(3) };
    wait_for("what was dropped to go", is_cut).await?;
    let found = cluster.get(1, "/away/cut").await?;
    assert_eq!(found.as_deref(), Some(&b"chunk 1.chunk 2.instead."[..]));
    unlink(&mut cluster.grpc(1).await?, "/away", "cut", true).await?;
    let is_empty = || async { is_left(0) };
    wait_for("all to go", is_empty).await?;
    for manifest in manifests {
        let id = manifest.id().context("an id")?;
        let url = format!("http://127.0.0.1:{port}/{id}");
        let is_gone = || async {
            let answer = cluster.http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status() == 404)
        };
        wait_for("manifests to go", is_gone).await?;
    }
    Ok(())
}
