// SPDX-License-Identifier: Apache-2.0
//! Stores and files that upstream's filer wrote, taken over; and a file of ours that its shell
//! loads.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_proto::filer::{
    CreateEntryRequest, KvGetRequest, KvPutRequest, TraverseBfsMetadataRequest,
};
use dulse_tests::{Cluster, Upstream, program, wait_for, weed};
use dulse_types::entry::{FileChunk, MODE_DIRECTORY};
use dulse_types::{EntryFields, FullPath, UnknownFields};
use tonic::transport::Channel;

/// Entries of the large directory: more than any page.
const N_MANY: usize = 12_000;

/// Upstream compresses entries with more chunks than 50.
const N_CHUNKS: u64 = 120;

async fn client(port: u16) -> Result<SeaweedFilerClient<Channel>> {
    let at = format!("http://127.0.0.1:{}", port + 10_000);
    Ok(SeaweedFilerClient::connect(at).await?)
}

type Tree = BTreeMap<String, EntryFields>;

/// All entries of a filer, as its clients see them, without what a filer derives.
async fn tree(port: u16) -> Result<Tree> {
    let mut client = client(port).await?;
    let request = TraverseBfsMetadataRequest {
        directory: "/".to_owned(),
        excluded_prefixes: vec!["/topics/.system".to_owned()],
    };
    let mut entries = client.traverse_bfs_metadata(request).await?.into_inner();
    let mut tree = Tree::new();
    while let Some(found) = entries.message().await? {
        let (entry, name) = found.entry.unwrap_or_default().take_name()?;
        let path = FullPath::of(&found.directory, &name)?;
        let mut fields = entry.fields()?;
        for chunk in &mut fields.chunks {
            chunk.fill_ids();
        }
        fields.is_directory = fields.is_dir();
        // Upstream tells the time of writing where there is none of access.
        let attributes = fields.attrs_mut();
        if (attributes.atime, attributes.atime_ns) == (attributes.mtime, attributes.mtime_ns) {
            (attributes.atime, attributes.atime_ns) = (0, 0);
        }
        if !path.is_root() {
            tree.insert(path.as_str().to_owned(), fields);
        }
    }
    tree.retain(|path, _| path != "/topics" && !path.starts_with("/topics/.system"));
    Ok(tree)
}

fn differing(a: &Tree, b: &Tree) -> Vec<String> {
    let paths = a.keys().chain(b.keys());
    let differ = paths.filter(|path| a.get(*path) != b.get(*path));
    let shown = differ.map(|path| format!("{path}: {:?}\n and {:?}", a.get(path), b.get(path)));
    shown.take(4).collect()
}

async fn create(
    client: &mut SeaweedFilerClient<Channel>,
    directory: &str,
    name: &str,
    change: impl FnOnce(&mut EntryFields),
) -> Result<()> {
    let mut fields = EntryFields::default();
    let attributes = fields.attrs_mut();
    (attributes.file_mode, attributes.uid, attributes.gid) = (0o644, 7, 8);
    (attributes.mtime, attributes.crtime) = (1_700_000_000, 1_600_000_000);
    change(&mut fields);
    let entry = fields.to_entry(&UnknownFields::default()).with_name(name);
    let request = CreateEntryRequest {
        directory: directory.to_owned(),
        entry: Some(entry),
        ..CreateEntryRequest::default()
    };
    let answer = client.create_entry(request).await?.into_inner();
    ensure!(
        answer.error.is_empty(),
        "{directory}/{name}: {}",
        answer.error
    );
    Ok(())
}

fn chunk(key: u64) -> FileChunk {
    FileChunk {
        file_id: format!("3,{key:02x}0a0b0c0d"),
        offset: (key * 100).cast_signed(),
        size: 100,
        modified_ts_ns: 5,
        ..FileChunk::default()
    }
}

const LINK: [u8; 17] = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 1];

/// Keys and values that clients keep in a filer.
fn pairs() -> Vec<(&'static [u8], &'static [u8])> {
    vec![
        (b"abc", b"a short key"),
        (b"metaBackup", b"\x18\x01\x02\x03\x04\x05\x06\x07"),
        (b"sync./a\x01\x02\x03\x04", b"12345678"),
        (b"a key that is as long as a hash and more", b"x"),
    ]
}

async fn fill(port: u16) -> Result<()> {
    let mut c = client(port).await?;
    let c = &mut c;
    for n in 0..N_MANY {
        create(c, "/many/of them", &format!("f{n}"), |_| {}).await?;
    }
    for name in ["ünï – 名", &"n".repeat(255), "a b%c", "\u{1}"] {
        create(c, "/names", name, |e| {
            e.content = Bytes::from_static(b"inline")
        })
        .await?;
    }
    create(c, "/d", "large", |e| {
        e.chunks = (0..N_CHUNKS).map(chunk).collect()
    })
    .await?;
    create(c, "/d", "chunks", |e| {
        e.chunks = vec![chunk(200)];
        e.extended
            .insert("xattr-user.k".to_owned(), Bytes::from_static(b"v\0w"));
        e.attrs_mut().md5 = Bytes::from_static(b"0123456789abcdef");
        e.attrs_mut().mime = "text/x".to_owned();
    })
    .await?;
    create(c, "/d", "expires", |e| e.attrs_mut().ttl_sec = i32::MAX).await?;
    create(c, "/d", "link", |e| {
        e.attrs_mut().symlink_target = "../x".to_owned()
    })
    .await?;
    create(c, "/d", "empty dir", |e| {
        e.attrs_mut().file_mode = MODE_DIRECTORY | 0o700
    })
    .await?;
    for (directory, name) in [
        ("/d", "hard1"),
        ("/d/sub", "hard2"),
        ("/buckets/buck1/k", "hard3"),
    ] {
        create(c, directory, name, |e| {
            e.hard_link_id = Bytes::from_static(&LINK);
            e.hard_link_counter = 3;
            e.content = Bytes::from_static(b"shared");
        })
        .await?;
    }
    for directory in [
        "/buckets/buck1",
        "/buckets/buck1/x/y",
        "/buckets/buck2",
        "/buckets/.hidden",
    ] {
        create(c, directory, "object", |e| e.quota = 5).await?;
    }
    for (key, value) in pairs() {
        let (key, value) = (key.to_vec().into(), value.to_vec().into());
        let answer = c.kv_put(KvPutRequest { key, value }).await?.into_inner();
        ensure!(answer.error.is_empty(), "{}", answer.error);
    }
    Ok(())
}

fn import(from: &str, more: &[&str]) -> Result<Output> {
    let output = Command::new(program()?)
        .args(["import", "--format=json", "--from", from])
        .args(more)
        .output()?;
    Ok(output)
}

/// Runs an import that is to succeed; what it printed.
fn imported(from: &str, dir: &Path, engine: &str) -> Result<serde_json::Value> {
    let dir = dir.display().to_string();
    let output = import(from, &["--dir", &dir, "--engine", engine])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "{}{said}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Upstream's filer on a store, filled, read and stopped; where the store is, and its entries.
async fn upstreams(section: &str, key: &str) -> Result<(Upstream, String, Tree)> {
    let dir = tempfile::tempdir()?;
    let place = dir.path().join("entries").display().to_string();
    let text = format!("[{section}]\nenabled = true\n{key} = \"{place}\"\n");
    std::fs::write(dir.path().join("filer.toml"), text)?;
    let mut upstream = Upstream::start_in(dir, &[]).await?;
    fill(upstream.filer_port).await?;
    let tree = tree(upstream.filer_port).await?;
    ensure!(tree.len() > N_MANY + 20, "{} entries", tree.len());
    upstream.filer.kill()?;
    Ok((upstream, place, tree))
}

/// A filer of ours on an imported store shows what upstream's showed.
async fn shows(dir: &Path, engine: &str, expected: &Tree, has_pairs: bool) -> Result<Cluster> {
    let mut cluster = Cluster::start(&[]).await?;
    let n = cluster.add_filer_at(dir, engine, &[])?;
    cluster.wait_ready(n).await?;
    let ours = tree(cluster.filer_ports[n]).await?;
    let differing = differing(expected, &ours);
    ensure!(differing.is_empty(), "{differing:#?}");
    let mut grpc = cluster.grpc(n).await?;
    for (key, value) in pairs().into_iter().filter(|_| has_pairs) {
        let key = Bytes::copy_from_slice(key);
        let got = grpc
            .kv_get(KvGetRequest { key: key.clone() })
            .await?
            .into_inner();
        ensure!(got.value == value, "{key:?}: {:?}", got.value);
    }
    Ok(cluster)
}

async fn store_is_taken_over(section: &str, key: &str) -> Result<()> {
    let (upstream, place, expected) = upstreams(section, key).await?;
    taken_over(upstream, &format!("{section}:{place}"), "redb", expected).await
}

/// A store with what upstream's filer showed is imported, served, and given to another filer.
async fn taken_over(upstream: Upstream, from: &str, engine: &str, expected: Tree) -> Result<()> {
    let dir = upstream.dir.path().join("ours");
    let report = imported(from, &dir, engine)?;
    ensure!(
        report["done"] == true && report["pairs"] == pairs().len(),
        "{report}"
    );
    ensure!(
        report["entries"] == report["equal"].as_u64().unwrap_or(0) - 4,
        "{report}"
    );
    let mut cluster = shows(&dir, engine, &expected, true).await?;
    // A fresh filer takes all of it, and both agree.
    let second = cluster.add_filer("sqlite")?;
    cluster.wait_ready(second).await?;
    cluster.wait_converged().await?;
    let theirs = tree(cluster.filer_ports[second]).await?;
    let differing = differing(&expected, &theirs);
    ensure!(differing.is_empty(), "{differing:#?}");
    // Names of one file stay names of one file.
    cluster.filers[0].kill()?;
    let mut grpc = cluster.grpc(second).await?;
    let request = CreateEntryRequest {
        directory: "/d".to_owned(),
        entry: Some({
            let mut fields = expected["/d/hard1"].clone();
            fields.content = Bytes::from_static(b"changed");
            fields
                .to_entry(&UnknownFields::default())
                .with_name("hard1")
        }),
        ..CreateEntryRequest::default()
    };
    grpc.create_entry(request).await?;
    let changed = tree(cluster.filer_ports[second]).await?;
    ensure!(changed["/buckets/buck1/k/hard3"].content == "changed");
    // Upstream's filer goes on with its own store as if nothing had been.
    drop(cluster);
    let mut upstream = upstream;
    upstream.filer.restart()?;
    let port = upstream.filer_port;
    let answers = || async { tree(port).await.is_ok() };
    wait_for("upstream's filer on its own store", answers).await?;
    let again = tree(port).await?;
    ensure!(
        again == expected,
        "{:#?}",
        self::differing(&again, &expected)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_taken_over() -> Result<()> {
    store_is_taken_over("sqlite", "dbFile").await
}

#[tokio::test(flavor = "multi_thread")]
async fn leveldb_is_taken_over() -> Result<()> {
    store_is_taken_over("leveldb", "dir").await
}

/// Upstream's program as it is published has no RocksDB. Its rows there are those of `leveldb2`,
/// in one database; so these are rows that it wrote, in a store made with its options.
#[cfg(feature = "rocksdb")]
#[tokio::test(flavor = "multi_thread")]
async fn rocksdb_is_taken_over() -> Result<()> {
    let (upstream, place, expected) = upstreams("leveldb2", "dir").await?;
    let rocks = upstream.dir.path().join("rocks");
    let db = rocks::copied(Path::new(&place), &rocks)?;
    // Who has it open keeps everybody else out.
    let from = format!("rocksdb:{}", rocks.display());
    let ours = upstream.dir.path().join("refused").display().to_string();
    let refused = import(&from, &["--dir", &ours])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(said.contains("in use by another process"), "{said}");
    drop(db);
    let before = rocks::files(&rocks)?;
    let dir = tempfile::tempdir()?;
    let kept = dir.path().join("rocks");
    std::fs::rename(&rocks, &kept)?;
    let from = format!("rocksdb:{}", kept.display());
    taken_over(upstream, &from, "rocksdb", expected).await?;
    ensure!(rocks::files(&kept)? == before, "the source was changed");
    Ok(())
}

#[cfg(feature = "rocksdb")]
mod rocks {
    use super::*;

    use dulse_leveldb::{Db, ReadOptions};
    use rocksdb::compaction_filter::Decision;
    use rocksdb::{BlockBasedOptions, DB, WriteOptions};

    /// Files by name: contents and time of the last change.
    pub(super) type Files = BTreeMap<String, (Vec<u8>, std::time::SystemTime)>;

    /// As upstream sets it up.
    fn options() -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_compaction_filter("ttl", |_, _, _| Decision::Keep);
        let mut tables = BlockBasedOptions::default();
        tables.set_bloom_filter(8.0, false);
        options.set_block_based_table_factory(&tables);
        // So that there are several tables, on more than one level, and rows in the log.
        options.set_write_buffer_size(64 << 10);
        options
    }

    /// All rows of a store `leveldb2` in one RocksDB.
    pub(super) fn copied(from: &Path, to: &Path) -> Result<DB> {
        let db = DB::open(&options(), to)?;
        let mut n_rows = 0;
        for part in 0..8 {
            // Opening writes to it, and upstream's filer goes on with it later.
            let scratch = tempfile::tempdir()?;
            let part = from.join(format!("{part:02}"));
            for item in std::fs::read_dir(&part)? {
                let file = item?;
                std::fs::copy(file.path(), scratch.path().join(file.file_name()))?;
            }
            let leveldb = Db::open(scratch.path(), &dulse_leveldb::Options::existing())?;
            let reads = ReadOptions {
                verifies_checksums: true,
                fills_cache: false,
            };
            let mut cursor = leveldb.cursor(reads, None)?;
            cursor.seek_to_first();
            while let Some((key, value)) = cursor.row() {
                db.put_opt(key, value, &WriteOptions::default())?;
                n_rows += 1;
                cursor.next();
            }
            cursor.status()?;
        }
        ensure!(n_rows > N_MANY, "{n_rows} rows");
        Ok(db)
    }

    pub(super) fn files(dir: &Path) -> Result<Files> {
        let mut files = Files::new();
        for item in std::fs::read_dir(dir)? {
            let file = item?;
            let changed = file.metadata()?.modified()?;
            let name = file.file_name().to_string_lossy().into_owned();
            files.insert(name, (std::fs::read(file.path())?, changed));
        }
        Ok(files)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leveldb2_is_taken_over() -> Result<()> {
    store_is_taken_over("leveldb2", "dir").await
}

#[tokio::test(flavor = "multi_thread")]
async fn leveldb3_is_taken_over() -> Result<()> {
    store_is_taken_over("leveldb3", "dir").await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_shell_are_taken_over_and_ours_are_loaded() -> Result<()> {
    let upstream = Upstream::start(&[]).await?;
    fill(upstream.filer_port).await?;
    let expected = tree(upstream.filer_port).await?;
    let dir = upstream.dir.path();
    for name in ["saved.meta", "saved.meta.gz"] {
        let file = dir.join(name);
        shell(
            upstream.master_port,
            &format!("fs.meta.save -o {} /", file.display()),
        )?;
        ensure!(file.is_file(), "{name} was not written");
        let ours = dir.join(format!("from-{name}"));
        let report = imported(&format!("meta:{}", file.display()), &ours, "sqlite")?;
        ensure!(report["done"] == true, "{report}");
        drop(shows(&ours, "sqlite", &expected, false).await?);
    }
    // The way back: a file of ours, loaded by upstream's shell into an empty filer of its own.
    let cluster = shows(&dir.join("from-saved.meta"), "sqlite", &expected, false).await?;
    let other = Upstream::start(&[]).await?;
    for name in ["ours.meta", "ours.meta.gz"] {
        let file = dir.join(name);
        let output = Command::new(program()?)
            .args(["export", "--filer"])
            .arg(format!("127.0.0.1:{}", cluster.filer_ports[0]))
            .arg("--to")
            .arg(&file)
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        shell(
            other.master_port,
            &format!("fs.meta.load -v=false {}", file.display()),
        )?;
        let loaded = tree(other.filer_port).await?;
        let paths = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
        ensure!(
            paths(&loaded) == paths(&expected),
            "{:#?}",
            differing(&expected, &loaded)
        );
        for path in [
            "/d/large",
            "/d/chunks",
            "/names/ünï – 名",
            "/buckets/buck1/k/hard3",
        ] {
            let (a, b) = (&loaded[path], &expected[path]);
            ensure!((&a.chunks, &a.content, &a.extended) == (&b.chunks, &b.content, &b.extended));
        }
    }
    Ok(())
}

fn shell(master_port: u16, line: &str) -> Result<()> {
    use std::io::Write;
    let mut shell = Command::new(weed()?)
        .args(["shell", &format!("-master=127.0.0.1:{master_port}")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut input = shell.stdin.take().context("its input")?;
    writeln!(input, "{line}")?;
    drop(input);
    let output = shell.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(!said.contains("error:"), "{line}: {said}");
    Ok(())
}
