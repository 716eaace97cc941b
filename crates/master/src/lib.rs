// SPDX-License-Identifier: Apache-2.0
//! The master: who is there, where volumes are, and where new chunks go.
//!
//! [`topology`] is a state machine without IO; [`service`] serves it over gRPC,
//! `web` over HTTP. The greatest volume id, a ceiling of file keys, the topology's id and
//! the members of the filers' clusters survive a restart; everything else comes from
//! heartbeats and registrations.

mod assign;
pub mod cluster;
#[doc(hidden)]
pub mod fuzz;
mod growth;
pub mod metrics;
mod page;
mod remembered;
pub mod service;
mod stored;
pub mod topology;
mod tree;
mod web;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use dulse_proto::cluster::cluster_server::ClusterServer;
use dulse_proto::master::seaweed_server::SeaweedServer;
use dulse_telemetry::{Exporter, GrpcLayer, HttpLayer};
use dulse_transport::{MESSAGE_BYTES_MAX, Transport};
use dulse_types::ServerAddress;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use service::MasterService;

/// How long requests in flight may take after a stop.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How a master is run.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// Who it is to others.
    pub address: ServerAddress,
    /// Where its state is kept.
    pub dir: PathBuf,
    /// Volumes above it take no more writes, in bytes.
    pub volume_size_limit_bytes: u64,
    /// Replica placement where none is asked for, three digits.
    pub default_replication: String,
    /// Listens, dials, signs.
    pub transport: Transport,
}

/// A failed start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The stored state cannot be read.
    #[error("read the master's state")]
    State(#[from] stored::StoredError),
    /// The reflection service could not be made.
    #[error("reflection: {0}")]
    Reflection(String),
}

/// A running master.
pub struct Master {
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
}

impl Master {
    /// Starts listening.
    ///
    /// # Errors
    ///
    /// `Listen` when an address is taken, `State` when the directory cannot be used.
    pub async fn start(
        options: MasterOptions,
        listen_http: SocketAddr,
        listen_grpc: SocketAddr,
    ) -> Result<Self, StartError> {
        let transport = options.transport.clone();
        let http_listener = transport.listen_http(listen_http).await;
        let http_listener = http_listener.map_err(|e| StartError::Listen(listen_http, e))?;
        let grpc_listener = transport.listen_grpc(listen_grpc).await;
        let grpc_listener = grpc_listener.map_err(|e| StartError::Listen(listen_grpc, e))?;
        let stored = stored::Stored::open(&options.dir)?;
        let service = MasterService::new(options, stored);
        let (stop, stopped) = watch::channel(false);
        let mut router = web::router(Arc::clone(service.state()));
        if let Some(exporter) = Exporter::installed() {
            let state = Arc::clone(service.state());
            exporter.observe(move || metrics::observe(&state));
            router = router.route("/metrics", get(|| async { exporter.render() }));
        }
        let counting =
            HttpLayer::new("master").counting(&metrics::REQUESTS, &metrics::REQUEST_SECONDS);
        let router = router.layer(counting);
        let http = http_listener.serve(router, stopping(stopped.clone()));
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(dulse_proto::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|e| StartError::Reflection(e.to_string()))?;
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<SeaweedServer<MasterService>>().await;
        let remembered = ClusterServer::new(remembered::Remembered(Arc::clone(service.state())));
        let grpc = async move {
            let serving = grpc_listener
                .server()
                .layer(GrpcLayer::new("master"))
                .add_service(
                    SeaweedServer::new(service)
                        .max_decoding_message_size(MESSAGE_BYTES_MAX)
                        .max_encoding_message_size(MESSAGE_BYTES_MAX),
                )
                .add_service(remembered)
                .add_service(health)
                .add_service(reflection)
                .serve_with_incoming_shutdown(grpc_listener.incoming(), stopping(stopped))
                .await;
            if let Err(error) = serving {
                tracing::error!(%error, "grpc listener failed");
            }
        };
        Ok(Self {
            stop,
            servers: vec![tokio::spawn(http), tokio::spawn(grpc)],
        })
    }

    /// Refuses new requests and lets those in flight end; streams are cut.
    pub async fn stop(self) {
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
