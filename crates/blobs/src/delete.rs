// SPDX-License-Identifier: Apache-2.0
//! Deletes chunks at every copy of their volume.

use std::collections::HashMap;

use dulse_types::{FileChunk, FileId};

use crate::Error;
use crate::blobs::Blobs;
use crate::control::Location;

/// Ids of one request to a volume server.
const DELETE_BATCH_MAX: usize = 1_000;

impl Blobs {
    /// Deletes chunks at all copies and returns the ids that some copy may still hold.
    ///
    /// A chunk that is gone already counts as deleted. The caller decides whether
    /// and when to try the others again.
    pub async fn delete(&self, ids: &[FileId]) -> Vec<FileId> {
        let mut failed = Vec::new();
        let mut by_server: HashMap<Location, Vec<FileId>> = HashMap::new();
        for id in ids {
            match self.lookup(id.volume_id).await {
                Ok(copies) => {
                    for copy in copies.iter() {
                        by_server.entry(copy.clone()).or_default().push(*id);
                    }
                }
                Err(error) => {
                    tracing::debug!(%id, %error, "a chunk was not deleted");
                    failed.push(*id);
                }
            }
        }
        for (server, ids) in by_server {
            for batch in ids.chunks(DELETE_BATCH_MAX) {
                match self.control.batch_delete(&server, batch).await {
                    Ok(left) => failed.extend(left),
                    Err(error) => {
                        tracing::warn!(%error, n_chunks = batch.len(), "chunks were not deleted");
                        failed.extend_from_slice(batch);
                    }
                }
            }
        }
        failed.sort_unstable();
        failed.dedup();
        failed
    }

    /// All ids that a list of chunks holds on to: data, manifests, and what they list.
    ///
    /// # Errors
    ///
    /// Those of [`Blobs::resolve`].
    pub async fn ids_of(&self, chunks: Vec<FileChunk>) -> Result<Vec<FileId>, Error> {
        let resolved = self.resolve(chunks).await?;
        let all = resolved.data.iter().chain(&resolved.manifests);
        Ok(all.filter_map(FileChunk::id).collect())
    }
}
