// SPDX-License-Identifier: Apache-2.0
//! Manifests: chunks that list chunks, so that entries stay small.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use dulse_types::FileChunk;
use prost::Message;

use crate::Error;
use crate::blobs::Blobs;
use crate::control::Placement;
use crate::sealed::Seal;
use crate::upload::Sync;

/// Data chunks of an entry, and of one manifest, as upstream has it.
pub const MANIFEST_CHUNKS_MAX: usize = 10_000;

/// How deep manifests may nest; three levels hold 4 EB of default chunks.
pub const MANIFEST_DEPTH_MAX: u32 = 6;

/// Longest manifest read: ten thousand chunks of some 200 bytes leave room.
const MANIFEST_LEN_MAX: usize = 256 << 20;

/// The content of a manifest chunk.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Manifest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) chunks: Vec<FileChunk>,
}

/// Chunks of a list with its manifests replaced by what they list.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Resolved {
    /// Chunks that hold data.
    pub data: Vec<FileChunk>,
    /// Manifests met on the way.
    pub manifests: Vec<FileChunk>,
}

impl Blobs {
    /// Reads all manifests of a list of chunks.
    ///
    /// # Errors
    ///
    /// `BadManifest`, and those of reading.
    pub async fn resolve(&self, chunks: Vec<FileChunk>) -> Result<Resolved, Error> {
        let mut out = Resolved::default();
        if !chunks.iter().any(|c| c.is_chunk_manifest) {
            out.data = chunks;
            return Ok(out);
        }
        self.resolve_into(chunks, MANIFEST_DEPTH_MAX, &mut out)
            .await?;
        Ok(out)
    }

    fn resolve_into<'a>(
        &'a self,
        chunks: Vec<FileChunk>,
        depth: u32,
        out: &'a mut Resolved,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        Box::pin(async move {
            for chunk in chunks {
                if !chunk.is_chunk_manifest {
                    out.data.push(chunk);
                    continue;
                }
                if depth == 0 {
                    return Err(bad(&chunk, "it nests too deep"));
                }
                let listed = self.read_manifest(&chunk).await?;
                out.manifests.push(chunk);
                self.resolve_into(listed, depth - 1, out).await?;
            }
            Ok(())
        })
    }

    /// What a manifest lists; `None` when it is gone: no copy of its volume has it, or what
    /// they have is no manifest.
    ///
    /// # Errors
    ///
    /// `NoVolume`, `Lookup`, `Read`: it may be there.
    pub async fn listed_in(&self, chunk: &FileChunk) -> Result<Option<Vec<FileChunk>>, Error> {
        let error = match self.read_manifest(chunk).await {
            Ok(listed) => return Ok(Some(listed)),
            Err(error) => error,
        };
        match (&error, chunk.id()) {
            (Error::BadManifest { .. } | Error::Sealed { .. } | Error::BadChunk(_), _) => Ok(None),
            (Error::Read { .. }, Some(id)) if self.is_gone(id).await? => Ok(None),
            _ => Err(error),
        }
    }

    async fn read_manifest(&self, chunk: &FileChunk) -> Result<Vec<FileChunk>, Error> {
        let id = chunk
            .id()
            .ok_or_else(|| Error::BadChunk(chunk.file_id.clone()))?;
        let seal = Seal::of(chunk);
        let fetched = self.fetch_opened(id, seal.as_ref(), MANIFEST_LEN_MAX);
        let bytes = fetched.await?;
        let manifest = Manifest::decode(bytes).map_err(|e| bad(chunk, &e.to_string()))?;
        let mut listed = manifest.chunks;
        listed.iter_mut().for_each(FileChunk::fill_ids);
        Ok(listed)
    }

    /// Moves full batches of data chunks into manifests when there are more than
    /// [`MANIFEST_CHUNKS_MAX`]; manifests come first in the result.
    ///
    /// # Errors
    ///
    /// Those of [`Blobs::upload`]. Manifests written before the error are deleted.
    pub async fn fold(
        &self,
        placement: &Placement,
        chunks: Vec<FileChunk>,
    ) -> Result<Vec<FileChunk>, Error> {
        if chunks.len() <= MANIFEST_CHUNKS_MAX {
            return Ok(chunks);
        }
        let (mut out, data): (Vec<_>, Vec<_>) =
            chunks.into_iter().partition(|c| c.is_chunk_manifest);
        if data.len() <= MANIFEST_CHUNKS_MAX {
            out.extend(data);
            return Ok(out);
        }
        let n_old = out.len();
        let mut batches = data.chunks_exact(MANIFEST_CHUNKS_MAX);
        for batch in &mut batches {
            match self.write_manifest(placement, batch).await {
                Ok(chunk) => out.push(chunk),
                Err(error) => {
                    let ids: Vec<_> = out[n_old..].iter().filter_map(FileChunk::id).collect();
                    self.discard(&ids);
                    return Err(error);
                }
            }
        }
        out.extend_from_slice(batches.remainder());
        Ok(out)
    }

    async fn write_manifest(
        &self,
        placement: &Placement,
        batch: &[FileChunk],
    ) -> Result<FileChunk, Error> {
        let offset = batch.iter().map(|c| c.offset.max(0)).min().unwrap_or(0);
        let offset = u64::try_from(offset).unwrap_or(0);
        let end = batch.iter().map(FileChunk::end).max().unwrap_or(0);
        let content = encode(batch);
        let uploaded = self
            .upload(placement, content, offset, Sync::Default)
            .await?;
        Ok(FileChunk {
            size: end - offset,
            is_chunk_manifest: true,
            ..uploaded.chunk
        })
    }
}

/// The bytes of a manifest; ids only in their short form, as upstream stores them.
fn encode(batch: &[FileChunk]) -> Bytes {
    let mut chunks = batch.to_vec();
    for chunk in &mut chunks {
        if let Some(id) = chunk.id() {
            chunk.set_id(id);
            chunk.file_id.clear();
        }
    }
    Bytes::from(Manifest { chunks }.encode_to_vec())
}

fn bad(chunk: &FileChunk, reason: &str) -> Error {
    Error::BadManifest {
        id: chunk.file_id.clone(),
        reason: reason.to_owned(),
    }
}
