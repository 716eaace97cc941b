// SPDX-License-Identifier: Apache-2.0
//! Upstream's filer and a store of ours on one database: each reads what the other wrote.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_proto::filer::{CreateEntryRequest, KvGetRequest, KvPutRequest, ListEntriesRequest};
use dulse_store::{EntryStore, ListRange, Step, Transaction};
use dulse_types::entry::{FuseAttributes, MODE_DIRECTORY, MODE_SYMLINK, UnknownFields};
use dulse_types::{Entry, EntryFields, FileChunk, FileId, FullPath};
use futures::StreamExt;
use tonic::transport::Channel;

use crate::Upstream;

/// Entries that each side writes, directories not counted.
const N_ENTRIES: usize = 10_000;

/// Messages of either side, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Directories of both sides.
const DIRS: [&str; 7] = [
    "/d",
    "/d/deep",
    "/d/ä ö",
    "/buckets",
    "/buckets/one",
    "/buckets/two.b-2",
    "/buckets/.hidden",
];

/// Seconds that outlast every test; Cassandra takes no more than 20 years, and none past 2038.
const TTL_S: i32 = 200_000_000;

/// When the tests began, in seconds since 1970.
static BEGAN_S: LazyLock<i64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970").as_secs() as i64
});

/// The directories of both sides, topmost first; entries are in the second ones.
///
/// - `n_parts`: into how many more each is divided, if any.
fn directories(n_parts: usize) -> (Vec<String>, Vec<String>) {
    let whole = DIRS.into_iter().filter(|dir| *dir != "/buckets");
    let whole: Vec<String> = whole.map(str::to_owned).collect();
    let all = DIRS.into_iter().map(str::to_owned);
    if n_parts == 0 {
        return (all.collect(), whole);
    }
    let divided = |dir: &String| {
        (0..n_parts)
            .map(move |part| format!("{dir}/part {part}"))
            .collect::<Vec<_>>()
    };
    let parts: Vec<String> = whole.iter().flat_map(divided).collect();
    (all.chain(parts.iter().cloned()).collect(), parts)
}

/// The n-th entry of a side: of every kind there is.
fn varied(side: &str, n: usize, dirs: &[String]) -> (FullPath, Entry) {
    let odd = [
        "plain",
        "per%cent",
        "under_score",
        "quo'te",
        "sp ace",
        "日本語",
        "🦀",
        "back\\slash",
    ];
    let name = format!("{side}-{}-{n}", odd[n % odd.len()]);
    let path = FullPath::of(&dirs[n / 3 % dirs.len()], &name).expect("a name");
    let mut fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            mtime: 1_700_000_000 + n as i64,
            mtime_ns: (n as i32) % 1_000_000_000,
            crtime: 1_700_000_000,
            ctime: 1_700_000_001,
            atime: 1_700_000_002,
            uid: n as u32 % 70_000,
            gid: 100,
            inode: n as u64 + 1,
            ..FuseAttributes::default()
        }),
        ..EntryFields::default()
    };
    match n % 8 {
        0 => fields.content = Bytes::from(vec![n as u8; n % 3_000]),
        1 => {
            fields.attrs_mut().file_mode = MODE_SYMLINK | 0o777;
            fields.attrs_mut().symlink_target = format!("../{n}");
        }
        2 => {
            let value = Bytes::from(n.to_be_bytes().to_vec());
            fields.extended.insert("xattr-user.n".to_owned(), value);
            fields.attrs_mut().mime = "text/plain".to_owned();
        }
        3 => fields.chunks = (0..n as u64 % 5 + 1).map(chunk).collect(),
        // Upstream compresses these.
        4 if n % 16 == 4 => fields.chunks = (0..51 + n as u64 % 100).map(chunk).collect(),
        5 => {
            // Three names each of one file.
            let id = [&(n / 24).to_be_bytes()[..], side.as_bytes(), &[0; 16]].concat();
            fields.hard_link_id = Bytes::copy_from_slice(&[&id[..16], &[1]].concat());
            fields.hard_link_counter = 3;
            fields.content = Bytes::from(format!("link {}", n / 24));
            *fields.attrs_mut() = FuseAttributes {
                file_mode: 0o600,
                mtime: 1_700_000_000,
                crtime: 1_700_000_000,
                ctime: 1_700_000_001,
                atime: 1_700_000_002,
                inode: 7,
                ..FuseAttributes::default()
            };
        }
        6 => {
            fields.attrs_mut().crtime = *BEGAN_S;
            fields.attrs_mut().ttl_sec = TTL_S;
        }
        _ => fields.attrs_mut().md5 = Bytes::from(vec![n as u8; 16]),
    }
    let size = fields.size();
    fields.attrs_mut().file_size = size;
    (path, fields.to_entry(&UnknownFields::default()))
}

fn chunk(n: u64) -> FileChunk {
    let id: FileId = format!("{},{:x}0badcafe", n % 7 + 1, n + 1)
        .parse()
        .expect("a file id");
    let mut chunk = FileChunk {
        offset: n as i64 * 100,
        size: 100,
        modified_ts_ns: 1_700_000_000_000_000_000 + n as i64,
        e_tag: "dGFn".to_owned(),
        ..FileChunk::default()
    };
    chunk.set_id(id);
    chunk
}

fn made_directory() -> Entry {
    let mut fields = EntryFields::default();
    *fields.attrs_mut() = FuseAttributes {
        file_mode: MODE_DIRECTORY | 0o755,
        mtime: 1_700_000_000,
        crtime: 1_700_000_000,
        ctime: 1_700_000_000,
        atime: 1_700_000_000,
        inode: 3,
        ..FuseAttributes::default()
    };
    fields.to_entry(&UnknownFields::default())
}

struct Beside {
    upstream: Upstream,
    store: Arc<dyn EntryStore>,
    client: SeaweedFilerClient<Channel>,
    /// Upstream lists a directory over and over, until as many names were given as asked for.
    begins_again: bool,
}

impl Beside {
    async fn start(
        filer_toml: &str,
        open: impl FnOnce() -> Result<Arc<dyn EntryStore>> + Send + 'static,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("filer.toml"), filer_toml)?;
        let upstream = Upstream::start_in(dir, &[]).await?;
        let store = tokio::task::spawn_blocking(open).await??;
        let channel =
            Channel::from_shared(format!("http://127.0.0.1:{}", upstream.filer_port + 10_000))?;
        let client = SeaweedFilerClient::new(channel.connect().await?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self {
            upstream,
            store,
            client,
            begins_again: false,
        })
    }

    /// What upstream's filer shows below a directory.
    async fn upstreams(&self, top: &str) -> Result<BTreeMap<FullPath, EntryFields>> {
        let mut out = BTreeMap::new();
        let mut open = vec![FullPath::parse(top)?];
        while let Some(dir) = open.pop() {
            let request = ListEntriesRequest {
                directory: dir.as_str().to_owned(),
                limit: 1_000_000,
                ..ListEntriesRequest::default()
            };
            let mut rows = self
                .client
                .clone()
                .list_entries(request)
                .await?
                .into_inner();
            while let Some(row) = rows.message().await? {
                let (entry, name) = row.entry.context("an entry")?.take_name()?;
                let path = FullPath::of(dir.as_str(), &name)?;
                if self.begins_again && out.contains_key(&path) {
                    break;
                }
                if entry.is_dir() {
                    open.push(path.clone());
                }
                out.insert(path, plain(&entry)?);
            }
        }
        Ok(out)
    }

    /// What our store shows.
    fn ours(&self, top: &str) -> Result<BTreeMap<FullPath, EntryFields>> {
        let mut out = BTreeMap::new();
        let mut open = vec![FullPath::parse(top)?];
        while let Some(dir) = open.pop() {
            let mut start = String::new();
            loop {
                let range = ListRange {
                    prefix: String::new(),
                    start,
                    inclusive: false,
                    limit: 1_000,
                };
                let rows = self.store.list(&dir, &range)?;
                let n_rows = rows.len();
                start = rows.last().map(|row| row.name.clone()).unwrap_or_default();
                for row in rows {
                    let path = FullPath::of(dir.as_str(), &row.name)?;
                    if row.entry.is_dir() {
                        open.push(path.clone());
                    }
                    out.insert(path, plain(&row.entry)?);
                }
                if n_rows < range.limit {
                    break;
                }
            }
        }
        Ok(out)
    }

    async fn commit(&self, steps: Vec<Step>) -> Result<()> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let transaction = Transaction {
            steps,
            ..Transaction::default()
        };
        self.store.commit(
            transaction,
            Box::new(move |result| drop(answer.send(result))),
        );
        answered.await?.map(drop)?;
        Ok(())
    }

    async fn agree(&self, n_least: usize) -> Result<()> {
        for top in ["/d", "/buckets"] {
            let (ours, theirs) = (self.ours(top)?, self.upstreams(top).await?);
            for (path, entry) in &theirs {
                let own = ours
                    .get(path)
                    .with_context(|| format!("{path} is not read"))?;
                ensure!(own == entry, "{path}:\n ours {own:?}\n theirs {entry:?}");
            }
            ensure!(
                ours.len() == theirs.len(),
                "{} and {}",
                ours.len(),
                theirs.len()
            );
        }
        let n_all = self.ours("/d")?.len() + self.ours("/buckets")?.len();
        ensure!(n_all >= n_least, "{n_all} entries of at least {n_least}");
        Ok(())
    }
}

/// The fields, chunks by both their names.
fn plain(entry: &Entry) -> Result<EntryFields> {
    let mut fields = entry.fields()?;
    for chunk in &mut fields.chunks {
        chunk.fill_ids();
    }
    Ok(fields)
}

/// Has upstream's filer and a store of ours write 10,000 entries each, of every kind, and compares
/// what both show; then keys, a moved directory, a deleted bucket.
///
/// - `filer_toml`: upstream's configuration of the store.
/// - `open`: opens ours on the same database, once upstream's filer answers.
///
/// # Errors
///
/// At the first entry that is shown otherwise.
pub async fn cross_read(
    filer_toml: &str,
    open: impl FnOnce() -> Result<Arc<dyn EntryStore>> + Send + 'static,
) -> Result<()> {
    let beside = Beside::start(filer_toml, open).await?;
    cross_read_of(&beside, 0).await
}

/// The same where upstream's listings begin again at the front behind each page: directories are
/// divided so that none is above a page, and a name that comes once more is the end of one.
///
/// - `n_parts`: into how many.
///
/// # Errors
///
/// As [`cross_read`].
pub async fn cross_read_in_parts(
    filer_toml: &str,
    n_parts: usize,
    open: impl FnOnce() -> Result<Arc<dyn EntryStore>> + Send + 'static,
) -> Result<()> {
    let mut beside = Beside::start(filer_toml, open).await?;
    beside.begins_again = true;
    cross_read_of(&beside, n_parts).await
}

async fn cross_read_of(beside: &Beside, n_parts: usize) -> Result<()> {
    let (all_dirs, dirs) = directories(n_parts);
    let n_dirs = all_dirs.len();
    let mut client = beside.client.clone();
    let request = dulse_proto::filer::GetFilerConfigurationRequest {};
    let answer = client.get_filer_configuration(request).await?;
    ensure!(
        answer.into_inner().signature == beside.store.origin().signature(),
        "one store, one signature"
    );
    let create = |path: &FullPath, entry: &Entry| CreateEntryRequest {
        directory: path
            .parent()
            .map_or("/".to_owned(), |dir| dir.as_str().to_owned()),
        entry: Some(entry.with_name(path.name())),
        ..CreateEntryRequest::default()
    };
    for dir in &all_dirs {
        let request = create(&FullPath::parse(dir)?, &made_directory());
        let made = beside
            .client
            .clone()
            .create_entry(request)
            .await?
            .into_inner();
        ensure!(made.error.is_empty(), "{dir}: {}", made.error);
    }
    let writes = futures::stream::iter((0..N_ENTRIES).map(|n| {
        let (path, entry) = varied("weed", n, &dirs);
        let mut client = beside.client.clone();
        let request = create(&path, &entry);
        async move {
            let made = client.create_entry(request).await?.into_inner();
            ensure!(made.error.is_empty(), "{path}: {}", made.error);
            Ok(())
        }
    }));
    let made: Vec<Result<()>> = writes.buffer_unordered(8).collect().await;
    made.into_iter().collect::<Result<()>>()?;
    // Upstream wrote, ours reads every one of them as upstream shows it.
    beside.agree(N_ENTRIES + n_dirs - 2).await?;

    // And the reverse.
    let all: Vec<(FullPath, Entry)> = (0..N_ENTRIES).map(|n| varied("ours", n, &dirs)).collect();
    for part in all.chunks(100) {
        let steps = part.iter().map(|(path, entry)| Step::Create {
            path: path.clone(),
            entry: entry.clone(),
        });
        beside.commit(steps.collect()).await?;
    }
    beside.agree(2 * N_ENTRIES + n_dirs - 2).await?;
    let theirs = beside.upstreams("/d").await?;
    for (path, entry) in all
        .iter()
        .filter(|(path, _)| path.as_str().starts_with("/d/"))
    {
        ensure!(
            theirs.get(path) == Some(&plain(entry)?),
            "{path}: upstream shows another entry"
        );
    }

    // Keys, both ways.
    for (key, value) in [
        (&b"sync.\xff\x00\x00\x01"[..], &b"theirs"[..]),
        (b"k", b"short"),
    ] {
        let request = KvPutRequest {
            key: key.to_vec().into(),
            value: value.to_vec().into(),
        };
        beside.client.clone().kv_put(request).await?;
        ensure!(
            beside.store.kv_get(key)?.as_deref() == Some(value),
            "{key:?}"
        );
    }
    let (key, value) = (
        Bytes::from_static(b"of ours\xff"),
        Bytes::from_static(b"\x00\xff"),
    );
    beside
        .commit(vec![Step::KvPut {
            key: key.clone(),
            value: value.clone(),
        }])
        .await?;
    let request = KvGetRequest {
        key: key.to_vec().into(),
    };
    let read = beside.client.clone().kv_get(request).await?.into_inner();
    ensure!(read.value[..] == value[..], "upstream reads our key");

    // A moved directory and a deleted bucket are so for both.
    let rename = Step::Rename {
        from: FullPath::parse("/d/deep")?,
        to: FullPath::parse("/d/moved")?,
    };
    beside.commit(vec![rename]).await?;
    beside.agree(2 * N_ENTRIES + n_dirs - 2).await?;
    let bucket = "/buckets/two.b-2";
    let url = format!(
        "http://127.0.0.1:{}{bucket}?recursive=true",
        beside.upstream.filer_port
    );
    let deleted = reqwest::Client::new().delete(url).send().await?;
    let status = deleted.status();
    ensure!(status.is_success(), "{status}: {}", deleted.text().await?);
    ensure!(
        beside.store.find(&FullPath::parse(bucket)?)?.is_none(),
        "the bucket is gone"
    );
    ensure!(beside.ours(bucket)?.is_empty(), "and all that was in it");
    beside.agree(N_ENTRIES).await
}
