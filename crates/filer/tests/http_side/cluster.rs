// SPDX-License-Identifier: Apache-2.0
//! A filer's HTTP side over a namespace and a volume server made of maps.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use dulse_blobs::{Assigned, Blobs, Control, Location, Placement};
use dulse_filer::http::{
    Answer, Delete, Expected, Http, NameError, Names, Options, Write, Written,
};
use dulse_store::{Found, ListRange, Listed, Token};
use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{Entry, EntryFields, FileId, FullPath};
use parking_lot::Mutex;

/// Needles of the only volume.
pub(crate) type Needles = Arc<Mutex<HashMap<FileId, Bytes>>>;

struct Master {
    needles: Needles,
    locations: Vec<Location>,
    next: AtomicU64,
}

impl Control for Master {
    fn assign<'a>(&'a self, _: &'a Placement, count: u64) -> dulse_blobs::Answer<'a, Assigned> {
        let assigned = Assigned {
            base: FileId {
                volume_id: 3,
                key: self.next.fetch_add(count, Ordering::Relaxed),
                cookie: 9,
            },
            count,
            locations: self.locations.clone(),
            auth: String::new(),
        };
        Box::pin(async move { Ok(assigned) })
    }

    fn lookup(&self, _: u32) -> dulse_blobs::Answer<'_, Vec<Location>> {
        Box::pin(async { Ok(self.locations.clone()) })
    }

    fn batch_delete<'a>(
        &'a self,
        _: &'a Location,
        ids: &'a [FileId],
    ) -> dulse_blobs::Answer<'a, Vec<FileId>> {
        let mut needles = self.needles.lock();
        ids.iter().for_each(|id| drop(needles.remove(id)));
        Box::pin(async { Ok(Vec::new()) })
    }
}

async fn put_needle(
    State(needles): State<Needles>,
    Path(id): Path<String>,
    body: Bytes,
) -> StatusCode {
    needles.lock().insert(id.parse().unwrap(), body);
    StatusCode::CREATED
}

async fn get_needle(
    State(needles): State<Needles>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let Some(data) = needles.lock().get(&id.parse().unwrap()).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(range) = headers.get("range") else {
        return data.into_response();
    };
    let range = range.to_str().unwrap().trim_start_matches("bytes=");
    let (start, end) = range.split_once('-').unwrap();
    let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
    let head = [(
        "content-range",
        format!("bytes {start}-{end}/{}", data.len()),
    )];
    (StatusCode::PARTIAL_CONTENT, head, data.slice(start..=end)).into_response()
}

/// A namespace in a map; just enough of the rules for HTTP.
#[derive(Default)]
struct MapNames {
    entries: Mutex<BTreeMap<FullPath, (Entry, u128)>>,
    stamps: AtomicU64,
}

fn directory() -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o771;
    fields.to_entry(&Default::default())
}

impl MapNames {
    fn write_now(&self, write: Write) -> Result<Written, NameError> {
        let mut entries = self.entries.lock();
        let old = entries.get(&write.path);
        let holds = match write.expected {
            Expected::Anything => true,
            Expected::Absent => old.is_none(),
            Expected::Same(token) => old.is_some_and(|(_, t)| *t == token.0),
        };
        if !holds {
            return Err(NameError::Conflict);
        }
        if old.is_some_and(|(e, _)| e.is_dir() != write.entry.is_dir()) {
            return Err(NameError::IsDirectory(write.path.to_string()));
        }
        let mut parent = write.path.parent();
        while let Some(path) = parent.filter(|p| !p.is_root()) {
            let entry = entries.entry(path.clone()).or_insert((directory(), 0));
            if !entry.0.is_dir() {
                return Err(NameError::IsFile(path.to_string()));
            }
            parent = path.parent();
        }
        let stamp = self.stamps.fetch_add(1, Ordering::Relaxed) + 1;
        entries.insert(write.path, (write.entry, u128::from(stamp)));
        Ok(Written {
            token: stamp.to_string(),
        })
    }

    fn delete_now(&self, path: &FullPath, how: Delete) -> Result<Written, NameError> {
        let mut entries = self.entries.lock();
        if !entries.contains_key(path) {
            return Err(NameError::NotFound);
        }
        if !how.is_recursive && entries.keys().any(|p| p.is_below(path)) {
            return Err(NameError::NotEmpty(format!(
                "fail to delete non-empty folder: {path}"
            )));
        }
        entries.retain(|p, _| p != path && !p.is_below(path));
        Ok(Written {
            token: "1".to_owned(),
        })
    }
}

impl Names for MapNames {
    fn find<'a>(&'a self, path: &'a FullPath) -> Answer<'a, Option<Found>> {
        let mut found = self.entries.lock().get(path).cloned();
        if path.is_root() {
            found = Some((directory(), 0));
        }
        let found = found.map(|(entry, token)| Found {
            entry,
            token: Token(token),
            n_links: 1,
        });
        Box::pin(async { Ok(found) })
    }

    fn list<'a>(&'a self, directory: &'a FullPath, range: ListRange) -> Answer<'a, Vec<Listed>> {
        let entries = self.entries.lock();
        let here = entries
            .iter()
            .filter(|(p, _)| p.parent().as_ref() == Some(directory));
        let rows = here.map(|(path, (entry, _))| Listed {
            name: path.name().to_owned(),
            entry: entry.clone(),
        });
        let mut rows: Vec<_> = rows
            .filter(|r| r.name > range.start && r.name.starts_with(&range.prefix))
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows.truncate(range.limit);
        Box::pin(async { Ok(rows) })
    }

    fn write(&self, write: Write) -> Answer<'_, Written> {
        let done = self.write_now(write);
        Box::pin(async { done })
    }

    fn delete<'a>(&'a self, path: &'a FullPath, how: Delete) -> Answer<'a, Written> {
        let done = self.delete_now(path, how);
        Box::pin(async { done })
    }

    fn rename<'a>(&'a self, from: &'a FullPath, to: &'a FullPath) -> Answer<'a, Written> {
        let mut entries = self.entries.lock();
        let moved = entries.remove(from);
        if let Some(moved) = moved {
            entries.insert(to.clone(), moved);
        }
        Box::pin(async {
            Ok(Written {
                token: String::new(),
            })
        })
    }

    fn wait_for<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// Serves on a free port; returns the base address and the needles.
pub(crate) async fn start(change: impl FnOnce(&mut Options)) -> (String, Needles) {
    let needles = Needles::default();
    let volume = Router::new()
        .route("/{id}", get(get_needle).put(put_needle))
        .layer(DefaultBodyLimit::disable())
        .with_state(needles.clone());
    let url = serve(volume).await;
    let master = Master {
        needles: needles.clone(),
        locations: vec![Location {
            public_url: url.clone(),
            url,
            grpc_port: 0,
            data_center: String::new(),
        }],
        next: AtomicU64::new(1),
    };
    let mut options = Options::upstream();
    options.block_mb = 1;
    change(&mut options);
    let http = Http {
        names: Arc::new(MapNames::default()),
        blobs: Arc::new(Blobs::new(Arc::new(master))),
        options: Arc::new(options),
        not_ready: Arc::new(|| None),
        metrics: None,
    };
    (format!("http://{}", serve(http.router()).await), needles)
}

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
