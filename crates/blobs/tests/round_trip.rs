// SPDX-License-Identifier: Apache-2.0
//! Chunks written to and read from a volume server made of a map.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use dulse_blobs::{
    Answer, Assigned, Blobs, Control, Error, Location, MANIFEST_CHUNKS_MAX, Placement, Sync,
    views_of,
};
use dulse_transport::Transport;
use dulse_types::{FileChunk, FileId};
use futures::TryStreamExt;
use parking_lot::Mutex;

#[derive(Default)]
struct Volume {
    needles: Mutex<HashMap<FileId, Bytes>>,
    refuse: AtomicU64,
}

struct Master {
    volume: Arc<Volume>,
    locations: Vec<Location>,
    next: AtomicU64,
    n_asked: AtomicU64,
}

impl Control for Master {
    fn assign<'a>(&'a self, _: &'a Placement, count: u64) -> Answer<'a, Assigned> {
        self.n_asked.fetch_add(1, Ordering::Relaxed);
        let base = FileId {
            volume_id: 3,
            key: self.next.fetch_add(count, Ordering::Relaxed),
            cookie: 9,
        };
        let locations = self.locations.clone();
        Box::pin(async move {
            Ok(Assigned {
                base,
                count,
                locations,
                auth: "token".to_owned(),
            })
        })
    }

    fn lookup(&self, _: u32) -> Answer<'_, Vec<Location>> {
        Box::pin(async { Ok(self.locations.clone()) })
    }

    fn batch_delete<'a>(&'a self, _: &'a Location, ids: &'a [FileId]) -> Answer<'a, Vec<FileId>> {
        let mut needles = self.volume.needles.lock();
        ids.iter().for_each(|id| drop(needles.remove(id)));
        Box::pin(async { Ok(Vec::new()) })
    }
}

async fn put_needle(
    State(volume): State<Arc<Volume>>,
    Path(id): Path<String>,
    body: Bytes,
) -> StatusCode {
    let refuse = &volume.refuse;
    let left = refuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    // A server that could not write the other copies keeps its own.
    volume.needles.lock().insert(id.parse().unwrap(), body);
    if left.is_ok() {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    StatusCode::CREATED
}

async fn get_needle(
    State(volume): State<Arc<Volume>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let Some(data) = volume.needles.lock().get(&id.parse().unwrap()).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(range) = headers.get("range") else {
        return data.into_response();
    };
    let range = range.to_str().unwrap().trim_start_matches("bytes=");
    let (start, end) = range.split_once('-').unwrap();
    let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
    let content_range = format!("bytes {start}-{end}/{}", data.len());
    let head = [("content-range", content_range)];
    (StatusCode::PARTIAL_CONTENT, head, data.slice(start..=end)).into_response()
}

async fn cluster() -> (Arc<Blobs>, Arc<Master>) {
    let volume = Arc::new(Volume::default());
    let app = Router::new()
        .route("/{id}", get(get_needle).put(put_needle))
        .with_state(volume.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let master = Arc::new(Master {
        volume,
        locations: vec![Location {
            public_url: url.clone(),
            url,
            grpc_port: 0,
            data_center: String::new(),
        }],
        next: AtomicU64::new(1),
        n_asked: AtomicU64::new(0),
    });
    (
        Arc::new(Blobs::new(master.clone(), &Transport::plain())),
        master,
    )
}

async fn read(blobs: &Arc<Blobs>, chunks: &[FileChunk], range: std::ops::Range<u64>) -> Vec<u8> {
    let views = views_of(chunks, range).unwrap();
    let frames: Vec<_> = blobs.stream(views).try_collect().await.unwrap();
    frames.concat()
}

#[tokio::test]
async fn what_is_written_is_read_with_ranges_and_holes() {
    let (blobs, _) = cluster().await;
    let placement = Placement::default();
    let mut chunks = Vec::new();
    for (offset, text) in [(0, "hello "), (10, "world")] {
        let data = Bytes::from_static(text.as_bytes());
        let up = blobs.upload(&placement, data, offset, Sync::Default);
        chunks.push(up.await.unwrap().chunk);
    }
    assert_eq!(read(&blobs, &chunks, 0..15).await, b"hello \0\0\0\0world");
    assert_eq!(read(&blobs, &chunks, 4..12).await, b"o \0\0\0\0wo");
}

#[tokio::test]
async fn a_refused_upload_goes_elsewhere_and_leaves_nothing() {
    let (blobs, master) = cluster().await;
    master.volume.refuse.store(2, Ordering::Relaxed);
    let placement = Placement::default();
    for _ in 0..100 {
        let up = blobs.upload(&placement, Bytes::from_static(b"x"), 0, Sync::Default);
        up.await.unwrap();
    }
    let sweeping = tokio::spawn(blobs.clone().sweep());
    for _ in 0..1000 {
        if master.volume.needles.lock().len() == 100 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    sweeping.abort();
    assert_eq!(master.volume.needles.lock().len(), 100);
    assert!(master.n_asked.load(Ordering::Relaxed) < 12);
}

#[tokio::test]
async fn many_chunks_fold_into_manifests_and_resolve_back() {
    let (blobs, master) = cluster().await;
    let placement = Placement::default();
    let chunks: Vec<_> = (0..2 * MANIFEST_CHUNKS_MAX as u64 + 3)
        .map(|key| {
            let mut chunk = FileChunk {
                offset: key as i64,
                size: 1,
                ..FileChunk::default()
            };
            chunk.set_id(FileId {
                volume_id: 3,
                key: 1_000_000 + key,
                cookie: 1,
            });
            chunk
        })
        .collect();
    let folded = blobs.fold(&placement, chunks.clone()).await.unwrap();
    assert_eq!(folded.len(), 5);
    assert!(folded[0].is_chunk_manifest);
    assert_eq!((folded[1].offset, folded[1].size), (10_000, 10_000));
    let resolved = blobs.resolve(folded.clone()).await.unwrap();
    assert_eq!(resolved.data, chunks);
    let ids = blobs.ids_of(folded).await.unwrap();
    assert_eq!(ids.len(), chunks.len() + 2);
    assert_eq!(blobs.delete(&ids).await, Default::default());
    assert!(master.volume.needles.lock().is_empty());
}

#[tokio::test]
async fn a_lost_chunk_is_an_error_not_zeros() {
    let (blobs, master) = cluster().await;
    let placement = Placement::default();
    let up = blobs.upload(&placement, Bytes::from_static(b"x"), 0, Sync::Fsync);
    let chunk = up.await.unwrap().chunk;
    master.volume.needles.lock().clear();
    let views = views_of(&[chunk], 0..1).unwrap();
    let got: Result<Vec<_>, _> = blobs.stream(views).try_collect().await;
    assert!(matches!(got, Err(Error::Read { .. })));
}
