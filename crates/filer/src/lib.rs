// SPDX-License-Identifier: Apache-2.0
//! The filer: the namespace over gRPC and HTTP, kept in step with its peers.
//!
//! [`Filer::start`] puts the parts together; replication, health and status are served
//! at once, namespace calls are refused until the filer is ready.

mod conflicts;
mod discovery;
pub mod errors;
pub mod expiry;
mod garbage;
pub mod grpc;
pub mod http;
mod located;
pub mod members;
pub mod metrics;
mod rules;
pub mod session;
mod shared;
pub mod state;
pub mod status;

pub use garbage::CHUNK_GRACE;
pub use shared::SharedSettings;
#[doc(hidden)]
pub use shared::check_notes;
pub use state::{Embedded, FilerOptions, FilerState, Kept};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dulse_blobs::{Blobs, GrpcControl};
use dulse_client::Masters;
use dulse_namespace::Namespace;
use dulse_proto::announcements::announcements_server::AnnouncementsServer;
use dulse_proto::conflicts::conflicts_server::ConflictsServer;
use dulse_proto::filer::seaweed_filer_server::SeaweedFilerServer;
use dulse_proto::members::members_server::MembersServer;
use dulse_proto::repair::repair_server::RepairServer;
use dulse_proto::replication::replication_server::ReplicationServer;
use dulse_proto::status::filer_status_server::FilerStatusServer;
use dulse_replica::ReplicaStore;
use dulse_replication::{Left, Options as ReplicationOptions, Replicator};
use dulse_shared::{AnyShared, Location};
use dulse_store::EntryStore;
use dulse_telemetry::{Exporter, GrpcLayer, HttpLayer};
use dulse_transport::{GrpcListener, MESSAGE_BYTES_MAX};
use grpc::subscribers;
use shared::OnShared;
use shared::topology::{self, Who};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long requests in flight may take after a stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// A failed start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The reflection service could not be made.
    #[error("reflection: {0}")]
    Reflection(String),
    /// It would be the odd one of its group.
    #[error("{0}")]
    Misfit(String),
    /// What is kept of other filers' announcements cannot be used.
    #[error("open what other filers announced")]
    Announcements(#[source] dulse_store::Error),
}

/// What a filer keeps its entries in.
pub enum Entries {
    /// A store of its own.
    Embedded(Arc<ReplicaStore>),
    /// A database that other filers use as well.
    Shared(Arc<dyn AnyShared>, SharedSettings),
}

/// A directory in a shared store of its own, and how that is run.
pub type Located = (Arc<dyn AnyShared>, SharedSettings);

impl Entries {
    fn who(&self, options: &FilerOptions, beside: &[Location]) -> Who {
        let (origin, is_shared, name) = match self {
            Self::Embedded(store) => {
                let shared = store.shared();
                (shared.origin(), false, shared.engine_name())
            }
            Self::Shared(store, _) => (store.origin(), true, store.name()),
        };
        let locations = match self {
            Self::Embedded(_) => &[],
            Self::Shared(store, _) => store.locations(),
        };
        Who::own(options, origin, is_shared, name)
            .and_locations(locations)
            .and_locations(beside)
    }
}

/// A running filer.
pub struct Filer {
    state: Arc<FilerState>,
    stop: watch::Sender<bool>,
    http: JoinHandle<()>,
    grpc: JoinHandle<()>,
    helpers: Vec<JoinHandle<()>>,
}

/// Pause before interrupted tree changes are resumed once more.
const RESUME_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

impl Filer {
    /// Starts listening and joins the others.
    ///
    /// - `located`: directories in stores of their own ([`dulse_shared::Placed`]) beside `entries`.
    ///
    /// # Errors
    ///
    /// `Listen` when an address is taken, `Misfit` beside filers that it cannot go with.
    pub async fn start(
        options: FilerOptions,
        listen_http: SocketAddr,
        listen_grpc: SocketAddr,
        entries: Entries,
        located: Vec<Located>,
    ) -> Result<Self, StartError> {
        let locations = located.iter().flat_map(|(store, _)| store.locations());
        let locations: Vec<_> = locations.cloned().collect();
        // Order: before anybody hears of this filer.
        let who = entries.who(&options, &locations);
        let checked = topology::check(&who, &options).await;
        checked.map_err(StartError::Misfit)?;
        let transport = options.transport.clone();
        let http_listener = transport.listen_http(listen_http).await;
        let http_listener = http_listener.map_err(|e| StartError::Listen(listen_http, e))?;
        let grpc_listener = transport.listen_grpc(listen_grpc).await;
        let grpc_listener = grpc_listener.map_err(|e| StartError::Listen(listen_grpc, e))?;
        let (discovering, kept, listed) = keep(&options, entries, &locations)?;
        let located = located.into_iter();
        let located = located.map(|one| on_shared(one, &options, listed.clone(), None));
        let located = located.collect::<Result<Vec<_>, _>>()?;
        let http_options = http::Options {
            block_mb: options.max_mb as usize,
            transport: transport.clone(),
            ..options.http.clone()
        };
        let namespace_options = dulse_namespace::Options {
            name_len_max: http_options.name_len_max,
            buckets_folder: http_options.buckets_folder.clone(),
            owner: (http_options.uid, http_options.gid),
        };
        let namespace = namespace(&kept, &located, namespace_options);
        let control = GrpcControl::new(options.masters.clone(), &transport);
        let blobs = Arc::new(Blobs::new(Arc::new(control), &transport));
        let masters = Masters::new(transport, options.masters.clone());
        let subscribers = grpc::subscribers::Subscribers::new(source(&kept, &located, &namespace));
        let (becoming, ready) = match (&kept, &located[..]) {
            (Kept::Embedded(own), []) => (None, own.replicator.ready()),
            (Kept::Shared(on), []) => (None, on.ready()),
            _ => {
                let (becoming, ready) = watch::channel(Some("starting".to_owned()));
                (Some(becoming), ready)
            }
        };
        let state = Arc::new(FilerState {
            options,
            namespace,
            blobs: Arc::clone(&blobs),
            kept,
            located,
            ready,
            masters,
            subscribers,
        });
        let (stop, stopped) = watch::channel(false);
        let asked = Arc::clone(&state);
        let router = http::Http {
            names: Arc::new(http::OverNamespace::new(
                state.namespace.clone(),
                match &state.kept {
                    Kept::Embedded(own) => Some(own.store.progress()),
                    Kept::Shared(_) => None,
                },
            )),
            blobs,
            options: Arc::new(http_options),
            not_ready: Arc::new(move || asked.not_ready()),
            metrics: render_metrics(&state),
        }
        .router()
        .layer(HttpLayer::new("filer"));
        let http = tokio::spawn(http_listener.serve(router, stopping(stopped.clone())));
        let grpc = tokio::spawn(serve_grpc(grpc_listener, Arc::clone(&state), stopped)?);
        let mut helpers = vec![
            discovering,
            tokio::spawn(Arc::clone(&state.blobs).sweep()),
            tokio::spawn(rules::follow(Arc::clone(&state))),
            tokio::spawn(grpc::subscribers::follow(Arc::clone(&state))),
            tokio::spawn(topology::watch(Arc::clone(&state))),
        ];
        if let Kept::Embedded(own) = &state.kept {
            helpers.extend([
                tokio::spawn(garbage::collect(Arc::clone(&state), own.clone())),
                tokio::spawn(expiry::sweep(Arc::clone(&state), Arc::clone(&own.store))),
                tokio::spawn(resume_trees(own.clone())),
            ]);
        }
        if let Kept::Shared(on) = &state.kept {
            helpers.extend(shared::start(&state, on));
        }
        if let Some(becoming) = becoming {
            let becoming = located::become_ready(Arc::clone(&state), becoming);
            helpers.push(tokio::spawn(becoming));
        }
        Ok(Self {
            state,
            stop,
            http,
            grpc,
            helpers,
        })
    }

    /// What requests share.
    #[must_use]
    pub fn state(&self) -> &Arc<FilerState> {
        &self.state
    }

    /// Waits until this filer must be started again, to open its store under a new origin.
    pub async fn renewed(&self) {
        let Kept::Embedded(own) = &self.state.kept else {
            return std::future::pending::<()>().await;
        };
        let mut renewed = own.replicator.renewed();
        if renewed.wait_for(|renewed| *renewed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Refuses new requests, lets those over HTTP end, leaves the cluster where that is wanted, and
    /// closes the store. A gRPC call that writes once the store is sealed is refused as
    /// `Unavailable`: nothing of it was done.
    pub async fn stop(mut self) {
        match &self.state.kept {
            Kept::Embedded(own) => {
                let is_renewed = *own.replicator.renewed().borrow();
                if let Some(wait) = self.state.options.leaves_within.filter(|_| !is_renewed) {
                    leave(own, wait).await;
                }
                self.stop.send_replace(true);
                drain(&mut self.http).await;
                let store = Arc::clone(&own.store);
                // Order: before it is said that this filer stops. Others wait for no more of it then,
                // and what a request in flight did after that came late to subscribers, or never
                // to those whose filer was restarted meanwhile.
                let sealing = tokio::task::spawn_blocking(move || store.seal());
                let _ = tokio::join!(sealing, stop_all(&self.state.located));
                own.replicator.hand_over().await;
                own.replicator.stop();
            }
            Kept::Shared(on) => {
                self.stop.send_replace(true);
                drain(&mut self.http).await;
                tokio::join!(on.stop(), stop_all(&self.state.located));
            }
        }
        for helper in &self.helpers {
            helper.abort();
        }
        drain(&mut self.grpc).await;
        match &self.state.kept {
            Kept::Embedded(own) => {
                let store = Arc::clone(&own.store);
                // The store's thread checkpoints; a panic there has ended the process already.
                let _ = tokio::task::spawn_blocking(move || store.stop()).await;
            }
            Kept::Shared(_) => {}
        }
        // A shared store is closed when the last that holds it lets it go; what is left open then
        // is settled at the next start.
        let state = self.state;
        let _ = tokio::task::spawn_blocking(move || drop(state)).await;
    }
}

/// Lets a server end what it does. A stream that never ends is cut when the time is over.
async fn drain(server: &mut JoinHandle<()>) {
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, server).await;
}

/// The tree over what is kept.
fn namespace(
    kept: &Kept,
    located: &[Arc<OnShared>],
    options: dulse_namespace::Options,
) -> Namespace {
    let store: Arc<dyn EntryStore> = match (kept, located) {
        (Kept::Embedded(own), []) => own.store.clone(),
        (Kept::Shared(on), []) => on.store.clone(),
        _ => Arc::new(located::tree(kept, located)),
    };
    let namespace = Namespace::new(store, options);
    let (namespace, default) = match kept {
        Kept::Embedded(own) => (namespace.with_trees(own.store.clone()), None),
        Kept::Shared(on) => (namespace, Some(on)),
    };
    let all = default.into_iter().chain(located);
    let locations = all.flat_map(|on| on.store.locations());
    namespace.with_locations(locations.map(|l| l.path.clone()).collect())
}

/// What subscribers are fed from.
fn source(
    kept: &Kept,
    located: &[Arc<OnShared>],
    namespace: &Namespace,
) -> Arc<dyn subscribers::Source> {
    let default: Arc<dyn subscribers::Source> = match kept {
        Kept::Embedded(own) => own.store.shared().clone(),
        Kept::Shared(on) => on.clone(),
    };
    if located.is_empty() {
        return default;
    }
    Arc::new(subscribers::Beside {
        default,
        located: located.to_vec(),
        tree: namespace.store().clone(),
    })
}

/// Tells the others that this filer stops.
async fn stop_all(located: &[Arc<OnShared>]) {
    futures::future::join_all(located.iter().map(|on| on.stop())).await;
}

/// Starts what finds the others and keeps this filer in step with them.
///
/// - `beside`: directories in stores of their own.
fn keep(
    options: &FilerOptions,
    entries: Entries,
    beside: &[Location],
) -> Result<(JoinHandle<()>, Kept, discovery::Listed), StartError> {
    match entries {
        Entries::Embedded(store) => {
            let own = Arc::clone(&store);
            let (discovering, listed, master_time) = discovery::start(options, Some(own));
            let replicator = Arc::new(Replicator::start(
                Arc::clone(&store),
                ReplicationOptions {
                    address: options.address.clone(),
                    group: options.group.clone(),
                    is_alone: options.is_alone,
                    offline_max: options.offline_max,
                    protocol: options.protocol,
                    listed: listed.clone(),
                    master_time,
                    report: discovery::report(options),
                    transport: options.transport.clone(),
                    scrub_rate: options.scrub_rate,
                },
            ));
            let own = Embedded { store, replicator };
            Ok((discovering, Kept::Embedded(own), listed))
        }
        Entries::Shared(store, settings) => {
            let (discovering, listed, _) = discovery::start(options, None);
            let on = on_shared((store, settings), options, listed.clone(), Some(beside))?;
            Ok((discovering, Kept::Shared(on), listed))
        }
    }
}

fn on_shared(
    (store, settings): Located,
    options: &FilerOptions,
    listed: discovery::Listed,
    beside: Option<&[Location]>,
) -> Result<Arc<OnShared>, StartError> {
    let open = || OnShared::open(store, settings, options, listed, beside);
    tokio::task::block_in_place(open).map_err(StartError::Announcements)
}

/// Leaves the cluster; says what came of it.
async fn leave(own: &Embedded, wait: Duration) {
    match own.replicator.leave(wait).await {
        Ok(Left::HandedOver) => tracing::info!("left the cluster; the others have everything"),
        Ok(Left::Lagging(who)) => tracing::warn!(
            who = who.join(", "),
            "left the cluster, but these have not said that they know: the others tell them"
        ),
        Ok(Left::Unheard(who)) => tracing::error!(
            who = who.join(", "),
            "left the cluster, and none of these answers: this store may be the only one, keep it \
             until another filer is ready"
        ),
        Ok(Left::Stayed(why)) => tracing::warn!(
            %why,
            "did not leave the cluster: this store is needed; start this filer again, or see \
             `dulse cluster remove`"
        ),
        Err(error) => tracing::error!(%error, "could not leave the cluster"),
    }
}

/// What `/metrics` answers, where the process has an exporter.
fn render_metrics(state: &Arc<FilerState>) -> Option<http::RenderMetrics> {
    let exporter = Exporter::installed()?;
    let observed = Arc::clone(state);
    let seen = parking_lot::Mutex::default();
    exporter.observe(move || metrics::observe(&observed, &mut seen.lock()));
    Some(Arc::new(|| exporter.render()))
}

async fn stopping(mut stop: watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn serve_grpc(
    listener: GrpcListener,
    state: Arc<FilerState>,
    stop: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()>, StartError> {
    let filer = SeaweedFilerServer::new(grpc::FilerService::new(Arc::clone(&state)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let own = state.embedded().ok();
    let replication = own.map(|own| {
        ReplicationServer::new(own.replicator.service())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    });
    let repair = own.map(|own| {
        RepairServer::new(own.replicator.repair_service())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    });
    let told = shared::tell::AnnouncementsService::new(Arc::clone(&state));
    let announcements = AnnouncementsServer::new(told)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let conflicts = ConflictsServer::new(conflicts::ConflictsService::new(Arc::clone(&state)))
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let status = FilerStatusServer::new(status::StatusService::new(Arc::clone(&state)));
    let members = MembersServer::new(members::MembersService::new(Arc::clone(&state)));
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(dulse_proto::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| StartError::Reflection(e.to_string()))?;
    Ok(async move {
        tokio::spawn(report_health(state, reporter));
        let serving = listener
            .server()
            .layer(GrpcLayer::new("filer"))
            .add_service(filer)
            .add_optional_service(replication)
            .add_optional_service(repair)
            .add_service(announcements)
            .add_service(status)
            .add_service(conflicts)
            .add_service(members)
            .add_service(health)
            .add_service(reflection)
            .serve_with_incoming_shutdown(listener.incoming(), stopping(stop))
            .await;
        if let Err(error) = serving {
            tracing::error!(%error, "grpc listener failed");
        }
    })
}

/// Goes on with the tree changes that a restart interrupted, once this filer may write.
async fn resume_trees(own: Embedded) {
    let mut ready = own.replicator.ready();
    if ready.wait_for(Option::is_none).await.is_err() {
        return;
    }
    // The queue may be full at that moment.
    while let Err(error) = own.store.resume_trees().await {
        tracing::warn!(%error, "tree changes are not resumed yet; trying again");
        tokio::time::sleep(RESUME_RETRY).await;
    }
}

type FilerServer = SeaweedFilerServer<grpc::FilerService>;

async fn report_health(state: Arc<FilerState>, reporter: tonic_health::server::HealthReporter) {
    let mut ready = state.ready();
    loop {
        if ready.borrow_and_update().is_none() {
            reporter.set_serving::<FilerServer>().await;
        } else {
            reporter.set_not_serving::<FilerServer>().await;
        }
        if ready.changed().await.is_err() {
            return;
        }
    }
}
