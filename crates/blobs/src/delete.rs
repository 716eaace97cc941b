// SPDX-License-Identifier: Apache-2.0
//! Deletes chunks at every copy of their volume.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dulse_types::{FileChunk, FileId};

use crate::Error;
use crate::blobs::Blobs;
use crate::control::Location;

/// Ids of one request to a volume server.
const DELETE_BATCH_MAX: usize = 1_000;

/// What came of deleting some chunks. Those in no set are gone from every copy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Deleted {
    /// Some copy may still hold them, or no master answered.
    pub failed: BTreeSet<FileId>,
    /// Volumes that do not exist, as a master says, and the chunks that were asked of them.
    pub missing: BTreeMap<u32, Vec<FileId>>,
}

impl Deleted {
    /// Whether a chunk is gone.
    #[must_use]
    pub fn is_done(&self, id: FileId) -> bool {
        !self.failed.contains(&id) && !self.missing.contains_key(&id.volume_id)
    }
}

impl Blobs {
    /// Deletes chunks at all copies, one request for many chunks of a volume server.
    ///
    /// A chunk that is gone already counts as deleted. Copies are looked up anew: one at
    /// which a volume was once says nothing about where it is. The caller decides
    /// whether and when to try again.
    pub async fn delete(&self, ids: &[FileId]) -> Deleted {
        let mut out = Deleted::default();
        let mut by_volume: BTreeMap<u32, Vec<FileId>> = BTreeMap::new();
        for id in ids {
            by_volume.entry(id.volume_id).or_default().push(*id);
        }
        let mut by_server: HashMap<Location, Vec<FileId>> = HashMap::new();
        for (volume, ids) in by_volume {
            self.locations.forget(volume);
            match self.lookup(volume).await {
                Ok(copies) => {
                    for copy in copies.iter() {
                        let ids_there = by_server.entry(copy.clone()).or_default();
                        ids_there.extend_from_slice(&ids);
                    }
                }
                Err(Error::NoVolume { .. }) => drop(out.missing.insert(volume, ids)),
                Err(error) => {
                    tracing::debug!(volume, %error, "chunks were not deleted");
                    out.failed.extend(ids);
                }
            }
        }
        for (server, ids) in by_server {
            for batch in ids.chunks(DELETE_BATCH_MAX) {
                match self.control.batch_delete(&server, batch).await {
                    Ok(left) => out.failed.extend(left),
                    Err(error) => {
                        tracing::warn!(%error, n_chunks = batch.len(), "chunks were not deleted");
                        out.failed.extend(batch);
                    }
                }
            }
        }
        out
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
