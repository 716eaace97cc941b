// SPDX-License-Identifier: Apache-2.0
//! Stores a body as chunks, in bounded memory, and takes them back when it fails.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use dulse_blobs::{Blobs, md5_of};
use dulse_telemetry::request;
use dulse_types::FileChunk;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use md5::{Digest, Md5};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::answer::{Refusal, client_closed_request};
use super::body::Blocks;
use super::plan::Plan;

/// Blocks of one body on their way to volume servers at a time.
const UPLOADS_MAX: usize = 4;

/// A stored body.
pub(super) struct Stored {
    pub(super) chunks: Pending,
    /// The body itself when it is kept in the entry.
    pub(super) content: Bytes,
    pub(super) size: u64,
    pub(super) md5: [u8; 16],
}

/// Chunks that no entry names yet: they are deleted when this is dropped.
pub(super) struct Pending {
    blobs: Arc<Blobs>,
    chunks: Vec<FileChunk>,
}

impl Pending {
    pub(super) fn new(blobs: Arc<Blobs>) -> Self {
        Self {
            blobs,
            chunks: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, chunk: FileChunk) {
        self.chunks.push(chunk);
    }

    pub(super) fn chunks(&self) -> &[FileChunk] {
        &self.chunks
    }

    /// Takes over what another has.
    pub(super) fn append(&mut self, mut other: Self) {
        self.chunks.append(&mut other.chunks);
    }

    /// An entry names the chunks, or may: from now on they are its.
    pub(super) fn keep(mut self) {
        self.chunks.clear();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let ids: Vec<_> = self.chunks.iter().filter_map(FileChunk::id).collect();
        self.blobs.discard(&ids);
    }
}

/// Reads a body to its end and stores it, its chunks at offsets from 0.
pub(super) async fn store<S, E>(
    blobs: &Arc<Blobs>,
    plan: &Plan,
    frames: S,
) -> Result<Stored, Refusal>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Display,
{
    let mut blocks = Blocks::new(frames, plan.block_len);
    let mut stored = Stored {
        chunks: Pending::new(blobs.clone()),
        content: Bytes::new(),
        size: 0,
        md5: md5_of(b""),
    };
    let Some(first) = blocks.next().await.map_err(broken)? else {
        return Ok(stored);
    };
    stored.size = first.len() as u64;
    let second = match first.len() == plan.block_len {
        true => blocks.next().await.map_err(broken)?,
        false => None,
    };
    let Some(second) = second else {
        if first.len() < plan.inline_below {
            stored.md5 = md5_of(&first);
            stored.content = first;
            return Ok(stored);
        }
        let up = blobs.upload(&plan.placement, first, 0, plan.sync).await?;
        stored.chunks.push(up.chunk);
        stored.md5 = up.md5;
        return Ok(stored);
    };
    let mut rest = Parallel::new(blobs, plan);
    rest.add(&mut stored, first, 0).await?;
    let mut next = Some(second);
    while let Some(block) = next {
        let offset = stored.size;
        stored.size += block.len() as u64;
        rest.add(&mut stored, block, offset).await?;
        next = blocks.next().await.map_err(broken)?;
    }
    rest.finish(&mut stored).await?;
    Ok(stored)
}

/// Uploads of several blocks at once, and the hash over all of them in order.
struct Parallel<'a> {
    blobs: &'a Arc<Blobs>,
    plan: &'a Plan,
    /// Dropping a handle does not end its task: what it writes then is discarded by it.
    uploads: FuturesUnordered<JoinHandle<Result<Pending, dulse_blobs::Error>>>,
    hash: Option<JoinHandle<Md5>>,
}

impl<'a> Parallel<'a> {
    fn new(blobs: &'a Arc<Blobs>, plan: &'a Plan) -> Self {
        Self {
            blobs,
            plan,
            uploads: FuturesUnordered::new(),
            hash: None,
        }
    }

    async fn add(&mut self, stored: &mut Stored, block: Bytes, offset: u64) -> Result<(), Refusal> {
        while self.uploads.len() >= UPLOADS_MAX {
            self.join_one(stored).await?;
        }
        let mut hash = match self.hash.take() {
            Some(running) => running.await.map_err(|e| panicked(&e))?,
            None => Md5::new(),
        };
        let hashed = block.clone();
        self.hash = Some(spawn_blocking(move || {
            hash.update(&hashed);
            hash
        }));
        let (blobs, plan) = (self.blobs.clone(), self.plan.clone());
        self.uploads.push(tokio::spawn(request::carried(async move {
            let up = blobs.upload(&plan.placement, block, offset, plan.sync);
            let mut written = Pending::new(blobs.clone());
            written.push(up.await?.chunk);
            Ok(written)
        })));
        Ok(())
    }

    async fn join_one(&mut self, stored: &mut Stored) -> Result<(), Refusal> {
        if let Some(done) = self.uploads.next().await {
            stored.chunks.append(done.map_err(|e| panicked(&e))??);
        }
        Ok(())
    }

    async fn finish(mut self, stored: &mut Stored) -> Result<(), Refusal> {
        while !self.uploads.is_empty() {
            self.join_one(stored).await?;
        }
        stored.chunks.chunks.sort_by_key(|c| c.offset);
        if let Some(hash) = self.hash.take() {
            stored.md5 = hash.await.map_err(|e| panicked(&e))?.finalize().into();
        }
        Ok(())
    }
}

fn broken(error: impl Display) -> Refusal {
    Refusal::new(client_closed_request(), format!("read the body: {error}"))
}

fn panicked(error: &JoinError) -> Refusal {
    Refusal::new(
        http::StatusCode::INTERNAL_SERVER_ERROR,
        format!("a task of the upload ended early: {error}"),
    )
}
