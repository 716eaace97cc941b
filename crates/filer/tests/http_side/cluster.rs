// SPDX-License-Identifier: Apache-2.0
//! A filer's HTTP side over a replica in memory and a volume server made of a map.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use dulse_blobs::{Assigned, Blobs, Control, Location, Placement};
use dulse_filer::http::{Http, Options, OverNamespace};
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_namespace::{Namespace, Rules};
use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, ReplicaStore, SystemClock};
use dulse_store::{Done, EntryStore, Error, Found, ListRange, Listed, Transaction};
use dulse_transport::Transport;
use dulse_types::{FileId, FullPath, Origin};
use parking_lot::Mutex;

/// Needles of the only volume.
pub(crate) type Needles = Arc<Mutex<HashMap<FileId, Bytes>>>;

/// Where chunks were asked to go.
pub(crate) type Placements = Arc<Mutex<Vec<Placement>>>;

struct Master {
    needles: Needles,
    placements: Placements,
    locations: Vec<Location>,
    next: AtomicU64,
}

impl Control for Master {
    fn assign<'a>(
        &'a self,
        placement: &'a Placement,
        count: u64,
    ) -> dulse_blobs::Answer<'a, Assigned> {
        self.placements.lock().push(placement.clone());
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

/// A store that does what it is told at once and says so late.
struct Late {
    store: ReplicaStore,
    delay: Duration,
    n_commits: Arc<AtomicU64>,
}

impl EntryStore for Late {
    fn find(&self, path: &FullPath) -> Result<Option<Found>, Error> {
        self.store.find(path)
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        self.store.list(directory, range)
    }

    fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.store.kv_get(key)
    }

    fn commit(&self, transaction: Transaction, done: Done) {
        let (delay, n_commits) = (self.delay, Arc::clone(&self.n_commits));
        let answer: Done = Box::new(move |result| {
            n_commits.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                done(result);
            });
        });
        self.store.commit(transaction, answer);
    }

    fn origin(&self) -> Origin {
        self.store.origin()
    }
}

/// A namespace over a replica that lives in memory, under rules as `filer.conf` has them,
/// and how many commits it has done.
fn names(delay: Duration, rules: &str) -> (OverNamespace, Arc<AtomicU64>) {
    let replica = Replica::open(ReplicaOptions {
        disk: Arc::new(MemDisk::new()),
        engine: Arc::new(MemoryEngine::new()),
        clock: Arc::new(SystemClock),
        random: 0x1234_5678_0000_0001,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    });
    let store = ReplicaStore::start(replica.unwrap()).unwrap();
    let progress = store.progress();
    let options = dulse_namespace::Options {
        name_len_max: 255,
        buckets_folder: "/buckets".to_owned(),
        owner: (0, 0),
    };
    let n_commits = Arc::new(AtomicU64::new(0));
    let store: Arc<dyn EntryStore> = if delay.is_zero() {
        Arc::new(store)
    } else {
        let n_commits = Arc::clone(&n_commits);
        Arc::new(Late {
            store,
            delay,
            n_commits,
        })
    };
    let namespace = Namespace::new(store, options);
    namespace.set_rules(Rules::parse(rules.as_bytes()).unwrap());
    (OverNamespace::new(namespace, Some(progress)), n_commits)
}

/// Serves on a free port; returns the base address and the needles.
pub(crate) async fn start(change: impl FnOnce(&mut Options)) -> (String, Needles) {
    let started = start_as(Duration::ZERO, "", change).await;
    (started.base, started.needles)
}

/// The same over a store that answers late; also gives how many commits it has done.
pub(crate) async fn start_late(
    delay: Duration,
    change: impl FnOnce(&mut Options),
) -> (String, Needles, Arc<AtomicU64>) {
    let started = start_as(delay, "", change).await;
    (started.base, started.needles, started.n_commits)
}

/// The same under rules; tells also where chunks were asked to go.
pub(crate) async fn start_ruled(
    change: impl FnOnce(&mut Options),
    rules: &str,
) -> (String, Needles, Placements) {
    let started = start_as(Duration::ZERO, rules, change).await;
    (started.base, started.needles, started.placements)
}

struct Started {
    base: String,
    needles: Needles,
    placements: Placements,
    n_commits: Arc<AtomicU64>,
}

async fn start_as(delay: Duration, rules: &str, change: impl FnOnce(&mut Options)) -> Started {
    let (needles, placements) = (Needles::default(), Placements::default());
    let volume = Router::new()
        .route("/{id}", get(get_needle).put(put_needle))
        .layer(DefaultBodyLimit::disable())
        .with_state(needles.clone());
    let url = serve(volume).await;
    let master = Master {
        needles: needles.clone(),
        placements: placements.clone(),
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
    let blobs = Arc::new(Blobs::new(Arc::new(master), &Transport::plain()));
    tokio::spawn(blobs.clone().sweep());
    let (names, n_commits) = names(delay, rules);
    let http = Http {
        names: Arc::new(names),
        blobs,
        options: Arc::new(options),
        not_ready: Arc::new(|| None),
        metrics: None,
    };
    let base = format!("http://{}", serve(http.router()).await);
    Started {
        base,
        needles,
        placements,
        n_commits,
    }
}

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
