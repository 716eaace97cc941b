// SPDX-License-Identifier: Apache-2.0
//! Writes chunks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dulse_types::FileChunk;
use md5::{Digest, Md5};

use crate::Error;
use crate::blobs::Blobs;
use crate::control::Placement;
use crate::wire::{Put, WireError};

/// How often a chunk is tried, each time at a newly assigned place.
const ATTEMPTS_MAX: u32 = 4;

/// Pause before the second attempt; doubles from then on.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes hashed in place, some 200 µs.
const HASH_IN_PLACE_MAX: usize = 128 << 10;

/// A chunk that is written.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// The chunk as an entry names it, at the offset that was given.
    pub chunk: FileChunk,
    /// MD5 of its bytes.
    pub md5: [u8; 16],
}

/// MD5 of some bytes.
#[must_use]
pub fn md5_of(data: &[u8]) -> [u8; 16] {
    Md5::digest(data).into()
}

/// The MD5 of a chunk, on a thread for blocking work where it takes long.
async fn hash(data: &Bytes) -> [u8; 16] {
    if data.len() <= HASH_IN_PLACE_MAX {
        return md5_of(data);
    }
    let copy = data.clone();
    let hashed = tokio::task::spawn_blocking(move || md5_of(&copy)).await;
    // The thread fails only when the runtime stops; the hash is right all the same.
    hashed.unwrap_or_else(|_| md5_of(data))
}

impl Blobs {
    /// Writes `data` as one chunk of a file, at `offset` in it.
    ///
    /// A place that refuses is left for another; nothing is shared with failed attempts.
    /// What an attempt may have left behind, this call's own end included, is a stray.
    ///
    /// # Errors
    ///
    /// `Assign` when no place is found, `Upload` when none takes the bytes.
    pub async fn upload(
        &self,
        placement: &Placement,
        data: Bytes,
        offset: u64,
        sync: Sync,
    ) -> Result<Uploaded, Error> {
        let md5 = hash(&data).await;
        let e_tag = STANDARD.encode(md5);
        let mut pause = PAUSE;
        let mut attempts = 1;
        loop {
            let slot = self.assigner.slot(placement).await?;
            let server = slot.locations.first().map_or("", |l| l.url.as_str());
            let put = Put {
                server,
                path: &slot.path,
                query: sync.query(),
                auth: &slot.auth,
                md5: &e_tag,
                body: data.clone(),
            };
            let doubt = self.strays.doubt(slot.id);
            let Err(error) = self.wire.put(put).await else {
                doubt.dispel();
                self.locations.set(slot.id.volume_id, &slot.locations);
                let mut chunk = FileChunk {
                    offset: i64::try_from(offset).unwrap_or(i64::MAX),
                    size: data.len() as u64,
                    modified_ts_ns: now_ns(),
                    e_tag,
                    ..FileChunk::default()
                };
                chunk.set_id(slot.id);
                return Ok(Uploaded { chunk, md5 });
            };
            match &error {
                error if error.is_not_applied() => doubt.dispel(),
                WireError::Status { .. } => doubt.settle(),
                _ => drop(doubt),
            }
            self.assigner.discard(placement, slot.id.volume_id).await;
            if attempts == ATTEMPTS_MAX {
                let reason = error.to_string();
                return Err(Error::Upload { attempts, reason });
            }
            crate::metrics::UPLOADS_FAILED.add(1);
            tracing::debug!(id = %slot.id, %error, "a chunk is written elsewhere");
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempts += 1;
        }
    }
}

/// Whether the volume server syncs before it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sync {
    /// As the server is configured.
    #[default]
    Default,
    /// Synced to disk first.
    Fsync,
}

impl Sync {
    fn query(self) -> &'static str {
        match self {
            Self::Default => "",
            Self::Fsync => "?fsync=true",
        }
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
