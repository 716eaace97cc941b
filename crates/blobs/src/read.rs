// SPDX-License-Identifier: Apache-2.0
//! Reads views, piece by piece, each retried by itself.
//!
//! Pieces bound the memory of a reader: at most [`PREFETCH`] of them are held,
//! whatever the size of file or chunk.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use dulse_telemetry::request::Carrier;
use dulse_types::FileId;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Method, Response};
use hyper::body::Incoming;

use crate::Error;
use crate::blobs::Blobs;
use crate::control::Location;
use crate::sealed::{OVERHEAD_MAX, SEALED_LEN_MAX, Seal};
use crate::view::{Source, View};
use crate::wire::WireError;

/// Most bytes of one piece; the usual chunk is fetched whole.
pub const PIECE_LEN_MAX: u64 = 4 << 20;

/// Pieces fetched ahead of the reader, the one being sent included.
const PREFETCH: usize = 2;

/// Rounds over all copies; before the second the copies are looked up anew.
const ROUNDS_MAX: u32 = 6;

/// Pause before the second round; doubles from then on.
const PAUSE: Duration = Duration::from_millis(50);

/// Zeros that holes are made of.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What to read of a chunk.
enum Ask {
    /// A range of a chunk of known length.
    Part { range: Range<u64>, chunk_len: u64 },
    /// All of it, up to a limit.
    All { limit: usize },
}

/// A view of at most [`PIECE_LEN_MAX`] bytes.
#[derive(Clone, Debug)]
pub struct Piece(View);

impl Piece {
    /// Cuts views into pieces, lazily: a hole may be longer than memory.
    ///
    /// An encrypted chunk is one piece: to read a part of it is to read it all.
    pub fn of(views: Vec<View>) -> impl Iterator<Item = Self> + Send {
        views.into_iter().flat_map(|view| {
            let is_sealed = matches!(&view.source, Source::Chunk { seal: Some(_), .. });
            let piece_len = if is_sealed { view.len } else { PIECE_LEN_MAX };
            let n_pieces = view.len.div_ceil(piece_len.max(1));
            (0..n_pieces).map(move |i| Self(part_of(&view, i * piece_len, piece_len)))
        })
    }
}

/// The part of a view that starts `skip` bytes into it, at most `len_max` long.
fn part_of(view: &View, skip: u64, len_max: u64) -> View {
    let len = (view.len - skip).min(len_max);
    let source = match &view.source {
        Source::Chunk {
            id,
            start,
            chunk_len,
            seal,
        } => Source::Chunk {
            id: *id,
            start: start + skip,
            chunk_len: *chunk_len,
            seal: seal.clone(),
        },
        Source::Inline(bytes) => Source::Inline(bytes.slice(skip as usize..(skip + len) as usize)),
        Source::Zeros => Source::Zeros,
    };
    View {
        offset: view.offset + skip,
        len,
        source,
    }
}

impl Blobs {
    /// The bytes of views in order, fetched a little ahead, in bounded memory.
    pub fn stream(
        self: &Arc<Self>,
        views: Vec<View>,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        self.stream_pieces(Piece::of(views))
    }

    /// The bytes of pieces in order, fetched a little ahead, in bounded memory.
    pub fn stream_pieces(
        self: &Arc<Self>,
        pieces: impl Iterator<Item = Piece> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        let (blobs, carrier) = (self.clone(), Carrier::here());
        stream::iter(pieces)
            .map(move |piece| {
                let blobs = blobs.clone();
                carrier.run(async move { blobs.fetch(piece).await })
            })
            .buffered(PREFETCH)
            .map_ok(|frames| stream::iter(frames.into_iter().map(Ok)))
            .try_flatten()
    }

    /// The bytes of one piece, as the frames they arrived in.
    ///
    /// # Errors
    ///
    /// `Lookup`, `NoVolume`, `Read`, `Sealed`.
    pub async fn fetch(&self, piece: Piece) -> Result<Vec<Bytes>, Error> {
        let View { len, source, .. } = piece.0;
        match source {
            Source::Inline(bytes) => Ok(vec![bytes]),
            Source::Zeros => Ok(zeros(len)),
            Source::Chunk {
                id,
                start,
                chunk_len,
                seal: None,
            } => self.fetch_chunk(id, start..start + len, chunk_len).await,
            Source::Chunk {
                id,
                start,
                chunk_len,
                seal: Some(seal),
            } => {
                let clear = self.fetch_sealed(id, &seal, chunk_len).await?;
                let part = start as usize..(start + len) as usize;
                Ok(vec![clear.slice(part)])
            }
        }
    }

    /// Reads an encrypted chunk of `chunk_len` clear bytes.
    async fn fetch_sealed(&self, id: FileId, seal: &Seal, chunk_len: u64) -> Result<Bytes, Error> {
        if chunk_len > SEALED_LEN_MAX {
            let reason = format!("{chunk_len} bytes are more than {SEALED_LEN_MAX}");
            return Err(Error::Sealed { id, reason });
        }
        let limit = chunk_len as usize;
        let clear = self.fetch_opened(id, Some(seal), limit).await?;
        if clear.len() != limit {
            let reason = format!("it holds {} bytes instead of {limit}", clear.len());
            return Err(Error::Sealed { id, reason });
        }
        Ok(clear)
    }

    /// Reads a whole chunk of at most `limit` clear bytes and opens it when it is sealed.
    pub(crate) async fn fetch_opened(
        &self,
        id: FileId,
        seal: Option<&Seal>,
        limit: usize,
    ) -> Result<Bytes, Error> {
        let Some(seal) = seal.cloned() else {
            return self.fetch_unsized(id, limit).await;
        };
        let needle = self.fetch_unsized(id, limit + OVERHEAD_MAX).await?;
        let opened = tokio::task::spawn_blocking(move || seal.open(&needle, limit)).await;
        let opened = opened.unwrap_or_else(|e| Err(e.to_string()));
        opened.map_err(|reason| Error::Sealed { id, reason })
    }

    /// Reads `range` of a chunk from any copy that has it.
    pub(crate) async fn fetch_chunk(
        &self,
        id: FileId,
        range: Range<u64>,
        chunk_len: u64,
    ) -> Result<Vec<Bytes>, Error> {
        self.read_any_copy(id, &Ask::Part { range, chunk_len })
            .await
    }

    /// Reads a whole chunk of unknown length, at most `limit` bytes.
    pub(crate) async fn fetch_unsized(&self, id: FileId, limit: usize) -> Result<Bytes, Error> {
        let frames = self.read_any_copy(id, &Ask::All { limit }).await?;
        Ok(frames.concat().into())
    }

    /// Asks the copies in turn, then looks them up anew and asks again.
    async fn read_any_copy(&self, id: FileId, ask: &Ask) -> Result<Vec<Bytes>, Error> {
        let path = id.to_string();
        let mut pause = PAUSE;
        let mut reason = String::new();
        for round in 0..ROUNDS_MAX {
            if round > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
                self.locations.forget(id.volume_id);
            }
            let copies = match self.lookup(id.volume_id).await {
                Ok(copies) => copies,
                Err(error) if round + 1 == ROUNDS_MAX => return Err(error),
                Err(_) => continue,
            };
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            for i in 0..copies.len() {
                let copy = &copies[first.wrapping_add(i) % copies.len()];
                match self.ask(&copy.url, &path, ask).await {
                    Ok(got) => return Ok(got),
                    Err(error) => reason = error.to_string(),
                }
            }
        }
        Err(Error::Read { id, reason })
    }

    /// Whether every copy of its volume answers that there is no such chunk.
    pub(crate) async fn is_gone(&self, id: FileId) -> Result<bool, Error> {
        self.locations.forget(id.volume_id);
        let (copies, path) = (self.lookup(id.volume_id).await?, id.to_string());
        for copy in copies.iter() {
            let answer = self.ask(&copy.url, &path, &Ask::All { limit: 0 }).await;
            if !answer.is_err_and(|error| error.is_not_found()) {
                return Ok(false);
            }
        }
        Ok(!copies.is_empty())
    }

    /// Passes a GET or HEAD of a chunk on to a volume server and its answer back.
    ///
    /// # Errors
    ///
    /// `Lookup`, and `Read` when no copy's server answers at all.
    pub async fn forward(
        &self,
        id: FileId,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, Error> {
        let copies = self.lookup(id.volume_id).await?;
        let path = id.to_string();
        let mut reason = String::new();
        for copy in copies.iter() {
            let (method, headers) = (method.clone(), headers.clone());
            match self.wire.forward(&copy.url, &path, method, headers).await {
                Ok(response) => return Ok(response),
                Err(error) => reason = error.to_string(),
            }
        }
        self.locations.forget(id.volume_id);
        Err(Error::Read { id, reason })
    }

    async fn ask(&self, server: &str, path: &str, ask: &Ask) -> Result<Vec<Bytes>, WireError> {
        match ask {
            Ask::Part { range, chunk_len } => {
                let range = range.clone();
                self.wire.get(server, path, range, *chunk_len).await
            }
            Ask::All { limit } => Ok(vec![self.wire.get_all(server, path, *limit).await?]),
        }
    }

    /// The copies of a volume, from the cache or a master.
    ///
    /// # Errors
    ///
    /// `Lookup`.
    pub async fn lookup(&self, volume_id: u32) -> Result<Arc<[Location]>, Error> {
        if let Some(copies) = self.locations.find(volume_id) {
            return Ok(copies);
        }
        let copies = self.control.lookup(volume_id).await?;
        self.locations.set(volume_id, &copies);
        Ok(copies.into())
    }
}

fn zeros(len: u64) -> Vec<Bytes> {
    let page = ZEROS.len() as u64;
    (0..len.div_ceil(page))
        .map(|i| Bytes::from_static(&ZEROS[..(len - i * page).min(page) as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_view_without_gap() {
        let len = 2 * PIECE_LEN_MAX + 5;
        let view = View {
            offset: 7,
            len,
            source: Source::Zeros,
        };
        let mut at = 7;
        for piece in Piece::of(vec![view]) {
            assert_eq!(piece.0.offset, at);
            assert!(piece.0.len <= PIECE_LEN_MAX);
            at += piece.0.len;
        }
        assert_eq!(at, 7 + len);
    }

    #[test]
    fn holes_are_as_long_as_they_say() {
        for len in [0, 1, 65_536, 65_537, 200_000] {
            let total: usize = zeros(len).iter().map(Bytes::len).sum();
            assert_eq!(total as u64, len);
        }
    }
}
