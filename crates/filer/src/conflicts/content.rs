// SPDX-License-Identifier: Apache-2.0
//! The content that lost: read as it was, or copied to chunks of its own.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dulse_blobs::{Blobs, Placement, Sync, views_of};
use dulse_types::{Entry, FileChunk, FullPath};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tonic::Status;

use crate::state::FilerState;

/// A copy that no entry names yet: its chunks are deleted when this is dropped.
pub(super) struct Copy {
    pub(super) entry: Entry,
    blobs: Arc<Blobs>,
    chunks: Vec<FileChunk>,
}

impl Copy {
    /// An entry names the chunks, or may: from now on they are its.
    pub(super) fn keep(mut self) {
        self.chunks.clear();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let ids: Vec<_> = self.chunks.iter().filter_map(FileChunk::id).collect();
        self.blobs.discard(&ids);
    }
}

/// The bytes of an entry's content, in order and in bounded memory.
pub(super) async fn stream(
    state: &FilerState,
    entry: &Entry,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Status> {
    let fields = entry
        .fields()
        .map_err(|e| Status::internal(e.to_string()))?;
    if fields.chunks.is_empty() {
        let content = stream::iter([Ok(fields.content)]);
        return Ok(content.boxed());
    }
    let size = fields.size();
    let resolved = state.blobs.resolve(fields.chunks).await;
    let chunks = resolved.map_err(|e| unreadable(&e))?.data;
    let views = views_of(&chunks, 0..size).map_err(|e| unreadable(&e))?;
    Ok(state
        .blobs
        .stream(views)
        .map_err(|e| unreadable(&e))
        .boxed())
}

/// Copies an entry with its content, for `path`.
///
/// Memory: one block.
pub(super) async fn copy(
    state: &FilerState,
    entry: &Entry,
    path: &FullPath,
) -> Result<Copy, Status> {
    let mut fields = entry
        .fields()
        .map_err(|e| Status::internal(e.to_string()))?;
    let unknown = entry.unknown();
    let mut copy = Copy {
        entry: entry.clone(),
        blobs: Arc::clone(&state.blobs),
        chunks: Vec::new(),
    };
    if fields.chunks.is_empty() {
        return Ok(copy);
    }
    let (block_len, placement) = (
        (state.options.max_mb as usize) << 20,
        placement(state, path),
    );
    let mut content = std::pin::pin!(stream(state, entry).await?);
    let (mut block, mut offset) = (BytesMut::new(), 0);
    loop {
        let next = content.try_next().await?;
        let is_end = next.is_none();
        block.extend_from_slice(&next.unwrap_or_default());
        while block.len() >= block_len || (is_end && !block.is_empty()) {
            let part = block.split_to(block.len().min(block_len)).freeze();
            let len = part.len() as u64;
            let up = state.blobs.upload(&placement, part, offset, Sync::Default);
            let up = up.await.map_err(|e| Status::unavailable(e.to_string()))?;
            copy.chunks.push(up.chunk);
            offset += len;
        }
        if is_end {
            break;
        }
    }
    fields.chunks.clone_from(&copy.chunks);
    copy.entry = fields.to_entry(&unknown);
    Ok(copy)
}

/// As a file written there would be placed.
fn placement(state: &FilerState, path: &FullPath) -> Placement {
    let options = &state.options.http;
    let rule = state.namespace.rule_of(path.as_str()).unwrap_or_default();
    let or = |ruled: &str, default: &str| match ruled {
        "" => default.to_owned(),
        ruled => ruled.to_owned(),
    };
    let buckets = format!("{}/", state.namespace.options().buckets_folder);
    let below = path.as_str().strip_prefix(&buckets);
    let bucket = below.and_then(|rest| rest.split_once('/'));
    let collection = bucket.map_or(options.collection.as_str(), |(bucket, _)| bucket);
    Placement {
        collection: or(&rule.collection, collection),
        replication: or(&rule.replication, &options.replication),
        ttl: String::new(),
        disk_type: or(&rule.disk_type, &options.disk_type),
        data_center: or(&rule.data_center, &options.data_center),
        rack: or(&rule.rack, &options.rack),
        data_node: rule.data_node,
    }
}

fn unreadable(error: &dulse_blobs::Error) -> Status {
    Status::unavailable(format!("the content that lost cannot be read: {error}"))
}
