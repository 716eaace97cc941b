// SPDX-License-Identifier: Apache-2.0
//! I7 from outside: which chunks filers name, and which lie on volume servers.
//!
//! Names are read over the filers' gRPC interface, manifests and all, and what listed
//! conflicts name is added; what lies there is read from the indexes of the volumes on disk.
//! Neither asks the code under test what it believes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dulse_proto::conflicts::conflicts_client::ConflictsClient;
use dulse_proto::conflicts::{ListRequest, ShowRequest};
use dulse_proto::filer::{FileChunkManifest, ListEntriesRequest, LookupDirectoryEntryRequest};
use dulse_types::{Entry, FileChunk, FileId};
use prost::Message;
use tonic::Code;

use crate::{Cluster, wait_for};

/// How deep manifests may nest; more is damage.
const NESTING_MAX: u32 = 6;

/// Where a chunk lies: volume and key.
pub type Place = (u32, u64);

/// What some filers name: each chunk with who says so.
pub type Named = BTreeMap<FileId, String>;

impl Cluster {
    /// Every chunk that an entry or a listed conflict of these filers names, manifests and what
    /// they list included.
    ///
    /// # Errors
    ///
    /// When a filer does not answer, or a chunk that is named is not there.
    pub async fn named(&self, filers: &[usize]) -> Result<Named> {
        let mut named = Named::new();
        for filer in filers {
            let mut dirs = vec!["/".to_owned()];
            while let Some(dir) = dirs.pop() {
                for entry in self.children(*filer, &dir).await? {
                    let path = format!("{}/{}", dir.trim_end_matches('/'), entry.name());
                    if entry.is_dir() {
                        dirs.push(path.clone());
                    }
                    self.note(*filer, &path, &entry, &mut named).await?;
                }
            }
            for (what, entry) in self.losers(*filer).await? {
                let chunks = entry.fields()?.chunks;
                let read = self.resolve(chunks, &what, &mut named).await;
                read.with_context(|| format!("filer {filer}, {what}"))?;
            }
        }
        Ok(named)
    }

    async fn children(&self, filer: usize, dir: &str) -> Result<Vec<Entry>> {
        let request = ListEntriesRequest {
            directory: dir.to_owned(),
            limit: u32::MAX,
            ..ListEntriesRequest::default()
        };
        let listed = self.grpc(filer).await?.list_entries(request).await;
        let mut listed = match listed {
            Ok(listed) => listed.into_inner(),
            // Removed since its parent was listed.
            Err(status) if status.code() == Code::NotFound => return Ok(Vec::new()),
            Err(status) => return Err(status.into()),
        };
        let mut entries = Vec::new();
        while let Some(row) = listed.message().await? {
            entries.extend(row.entry);
        }
        Ok(entries)
    }

    /// Notes the chunks of one entry. One that is not there is a violation if the entry names
    /// it still: a chunk may go between the listing and the look.
    async fn note(&self, filer: usize, path: &str, entry: &Entry, named: &mut Named) -> Result<()> {
        let who = format!("filer {filer} {path}");
        let chunks = entry.fields()?.chunks;
        let Err(error) = self.resolve(chunks.clone(), &who, named).await else {
            return Ok(());
        };
        let now = self.find(filer, path).await?;
        let now = now.map(|entry| entry.fields().map(|fields| fields.chunks));
        if now.transpose()?.as_ref() == Some(&chunks) {
            return Err(error.context(who));
        }
        Ok(())
    }

    async fn find(&self, filer: usize, path: &str) -> Result<Option<Entry>> {
        let (directory, name) = path.rsplit_once('/').context("a path")?;
        let request = LookupDirectoryEntryRequest {
            directory: if directory.is_empty() { "/" } else { directory }.to_owned(),
            name: name.to_owned(),
        };
        let found = self
            .grpc(filer)
            .await?
            .lookup_directory_entry(request)
            .await;
        match found {
            Ok(found) => Ok(found.into_inner().entry),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Looks at the volume server for each chunk, and into each manifest.
    async fn resolve(&self, chunks: Vec<FileChunk>, who: &str, named: &mut Named) -> Result<()> {
        let mut left: Vec<(FileChunk, u32)> = chunks.into_iter().map(|c| (c, 0)).collect();
        while let Some((chunk, depth)) = left.pop() {
            let id = chunk.id().context("a chunk without an id")?;
            if named.contains_key(&id) {
                continue;
            }
            let content = self.chunk(id).await?;
            named.insert(id, who.to_owned());
            if chunk.is_chunk_manifest {
                ensure!(depth < NESTING_MAX, "manifests nest too deep at {id}");
                let manifest = FileChunkManifest::decode(&content[..])?;
                left.extend(manifest.chunks.into_iter().map(|c| (c, depth + 1)));
            }
        }
        Ok(())
    }

    /// Reads a chunk from the volume server.
    async fn chunk(&self, id: FileId) -> Result<Vec<u8>> {
        let url = format!("http://127.0.0.1:{}/{id}", self.volume_port);
        let answer = self.http.get(url).send().await?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "chunk {id} is named and gone: {status}"
        );
        Ok(answer.bytes().await?.to_vec())
    }

    /// What lost in conflicts that are listed.
    async fn losers(&self, filer: usize) -> Result<Vec<(String, Entry)>> {
        let port = self.filer_ports[filer] + 10_000;
        let client = ConflictsClient::connect(format!("http://127.0.0.1:{port}")).await;
        let (mut client, mut losers) = (client?, Vec::new());
        let mut request = ListRequest::default();
        loop {
            let page = client.list(request.clone()).await?.into_inner();
            for conflict in page.conflicts {
                let what = format!("a conflict of {}", conflict.path);
                let shown = client.show(ShowRequest { id: conflict.id }).await;
                match shown {
                    Ok(shown) => losers.extend(shown.into_inner().loser.map(|l| (what, l))),
                    // It ended meanwhile.
                    Err(status) if status.code() == Code::NotFound => {}
                    Err(status) => return Err(status.into()),
                }
            }
            if page.next.is_empty() {
                return Ok(losers);
            }
            request.after = page.next;
        }
    }

    /// Every chunk that lies on the volume server.
    ///
    /// # Errors
    ///
    /// When an index cannot be read.
    pub fn stored(&self) -> Result<BTreeSet<Place>> {
        let dir = format!("volume-{}", self.volume_port);
        stored_in(&self.dir.path().join(dir))
    }

    /// Demands that everything named at these filers is there; and waits until nothing else is.
    ///
    /// # Errors
    ///
    /// The chunk that is gone, or those that are left after [`crate::PATIENCE`].
    pub async fn wait_no_leak(&self, filers: &[usize]) -> Result<()> {
        let last = std::sync::Mutex::new(Vec::new());
        let is_clean = || async {
            let found = self.leaked(filers).await;
            let is_clean = found.as_ref().is_ok_and(Vec::is_empty);
            if let Ok(mut last) = last.lock() {
                *last = found.map_or_else(
                    |e| vec![format!("{e:#}")],
                    |places| places.iter().map(|place| format!("{place:?}")).collect(),
                );
            }
            is_clean
        };
        let waited = wait_for("volume servers without chunks that nobody names", is_clean).await;
        let last = last.into_inner().unwrap_or_default();
        waited.with_context(|| format!("left: {last:?}"))?;
        // What was looked at while others still wrote says little.
        self.named(filers).await.map(drop)
    }

    /// The chunks that lie there and that none of these filers names.
    ///
    /// # Errors
    ///
    /// As [`Cluster::named`] and [`Cluster::stored`].
    pub async fn leaked(&self, filers: &[usize]) -> Result<Vec<Place>> {
        // Order: what is written between the two is named, and not looked for.
        let stored = self.stored()?;
        let named = self.named(filers).await?;
        let named: BTreeSet<Place> = named.keys().map(|id| (id.volume_id, id.key)).collect();
        Ok(stored.difference(&named).copied().collect())
    }
}

/// The chunks of all volumes in a directory.
///
/// # Errors
///
/// When an index cannot be read.
pub fn stored_in(dir: &Path) -> Result<BTreeSet<Place>> {
    let mut places = BTreeSet::new();
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.extension().is_none_or(|extension| extension != "idx") {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let volume = stem.and_then(|stem| stem.rsplit('_').next());
        let volume: u32 = volume.context("a volume")?.parse()?;
        let description: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path.with_extension("vif"))?)?;
        let width = match description["bytesOffset"].as_u64() {
            Some(5) => 5,
            Some(4) | None => 4,
            other => bail!("offsets of {other:?} bytes in {}", path.display()),
        };
        let rows = live(&std::fs::read(&path)?, width);
        places.extend(rows.into_iter().map(|key| (volume, key)));
    }
    Ok(places)
}

/// The keys of an index that are not deleted: the last row of a key counts.
fn live(index: &[u8], width: usize) -> BTreeSet<u64> {
    let mut keys = BTreeSet::new();
    // A row that is being written is not whole.
    for row in index.chunks_exact(8 + width + 4) {
        let key = row[..8]
            .iter()
            .fold(0, |key, byte| key << 8 | u64::from(*byte));
        let offset = &row[8..8 + width];
        let is_deleted = row[8 + width] & 0x80 != 0 || offset.iter().all(|byte| *byte == 0);
        if is_deleted {
            keys.remove(&key);
        } else {
            keys.insert(key);
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_of_a_key_counts() {
        let row = |key: u8, offset: u8, size: u32| {
            let mut row = vec![0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, offset, 0];
            row.extend(size.to_be_bytes());
            row
        };
        let rows = [
            row(1, 1, 9),
            row(2, 3, 9),
            row(1, 5, u32::MAX),
            row(3, 7, 9),
        ];
        let mut index = rows.concat();
        index.extend([0, 0, 0]);
        assert_eq!(live(&index, 5), [2, 3].into());
        assert_eq!(live(&row(1, 0, 9), 5), BTreeSet::new());
    }
}
