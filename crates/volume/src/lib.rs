// SPDX-License-Identifier: Apache-2.0
//! A small volume server: blobs in append-only files, in upstream's on-disk format.
//!
//! [`needle`] is one record, [`store`] the files, [`service`] and `web` what is served.
//! Not here: moving, compacting and replicating volumes.

mod contents;
#[doc(hidden)]
pub mod fuzz;
mod heartbeat;
mod kept;
pub mod metrics;
pub mod needle;
mod page;
pub mod service;
pub mod store;
mod web;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::routing::get;
use dulse_proto::volume::volume_server_server::VolumeServerServer;
use dulse_telemetry::{Exporter, GrpcLayer, HttpLayer};
use dulse_transport::{MESSAGE_BYTES_MAX, Transport};
use dulse_types::ServerAddress;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::service::interceptor::InterceptedService;

use service::VolumeService;
use store::{Store, VolumeError};

/// How long requests in flight may take after a stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How a volume server is run.
#[derive(Clone, Debug)]
pub struct VolumeOptions {
    /// Who it is to others.
    pub address: ServerAddress,
    /// Where the volumes are.
    pub dir: PathBuf,
    /// The masters.
    pub masters: Vec<ServerAddress>,
    /// Most volumes; 0 goes by free disk.
    pub max_volumes: u32,
    /// Listens, dials, checks tokens.
    pub transport: Transport,
}

/// A failed start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The volumes cannot be opened.
    #[error("open the volumes")]
    Volumes(#[from] VolumeError),
    /// The reflection service could not be made.
    #[error("reflection: {0}")]
    Reflection(String),
}

/// A running volume server.
pub struct VolumeServer {
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    beating: JoinHandle<()>,
}

pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl VolumeServer {
    /// Opens the volumes and starts listening.
    ///
    /// # Errors
    ///
    /// `Listen` when an address is taken, `Volumes` when a volume is damaged.
    pub async fn start(
        options: VolumeOptions,
        listen_http: SocketAddr,
        listen_grpc: SocketAddr,
    ) -> Result<Self, StartError> {
        let transport = options.transport.clone();
        let http_listener = transport.listen_http(listen_http).await;
        let http_listener = http_listener.map_err(|e| StartError::Listen(listen_http, e))?;
        let grpc_listener = transport.listen_grpc(listen_grpc).await;
        let grpc_listener = grpc_listener.map_err(|e| StartError::Listen(listen_grpc, e))?;
        let store = Arc::new(Store::open(&options.dir)?);
        let changed = Arc::new(Notify::new());
        let service = VolumeService {
            store: Arc::clone(&store),
            changed: Arc::clone(&changed),
        };
        let mut router = web::router(web::Web {
            store: Arc::clone(&store),
            transport,
        });
        if let Some(exporter) = Exporter::installed() {
            let observed = Arc::clone(&store);
            let told = options.clone();
            exporter.observe(move || {
                metrics::observe(&observed, heartbeat::max_volumes(&told, &observed));
            });
            router = router.route("/metrics", get(|| async { exporter.render() }));
        }
        let counting =
            HttpLayer::new("volume").counting(&metrics::REQUESTS, &metrics::REQUEST_SECONDS);
        let router = router.layer(counting);
        let (stop, stopped) = watch::channel(false);
        let http = http_listener.serve(router, stopping(stopped.clone()));
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(dulse_proto::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|e| StartError::Reflection(e.to_string()))?;
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter
            .set_serving::<VolumeServerServer<VolumeService>>()
            .await;
        let service = VolumeServerServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let guard = options.transport.clone();
        let admit = move |request| admit(&guard, request);
        let grpc = async move {
            let serving = grpc_listener
                .server()
                .layer(GrpcLayer::new("volume"))
                .add_service(InterceptedService::new(service, admit))
                .add_service(health)
                .add_service(reflection)
                .serve_with_incoming_shutdown(grpc_listener.incoming(), stopping(stopped))
                .await;
            if let Err(error) = serving {
                tracing::error!(%error, "grpc listener failed");
            }
        };
        let beating = tokio::spawn(heartbeat::keep(options, store, changed));
        Ok(Self {
            stop,
            servers: vec![tokio::spawn(http), tokio::spawn(grpc)],
            beating,
        })
    }

    /// Leaves the master, refuses new requests and lets those in flight end.
    pub async fn stop(self) {
        self.beating.abort();
        self.stop.send_replace(true);
        for server in self.servers {
            let abort = server.abort_handle();
            if tokio::time::timeout(DRAIN_TIME_MAX, server).await.is_err() {
                abort.abort();
            }
        }
    }
}

async fn stopping(mut stop: watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Every call of the volume service changes or tells something: it is for those whom the
/// white list names.
fn admit(transport: &Transport, request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    let peer = request.remote_addr();
    if transport.white_list().admits_peer(peer) {
        return Ok(request);
    }
    let text = format!("{peer:?} is not in `guard.white_list`");
    Err(Status::permission_denied(text))
}
