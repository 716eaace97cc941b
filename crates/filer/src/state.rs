// SPDX-License-Identifier: Apache-2.0
//! What every request of a filer needs.

use std::sync::Arc;
use std::time::Duration;

use dulse_blobs::Blobs;
use dulse_client::{Ask, MasterClient, Masters};
use dulse_namespace::Namespace;
use dulse_proto::filer::GetFilerConfigurationResponse;
use dulse_proto::master::GetMasterConfigurationRequest;
use dulse_replica::ReplicaStore;
use dulse_replication::Replicator;
use dulse_transport::Transport;
use dulse_types::ServerAddress;
use tonic::Status;

use crate::grpc::subscribers;
use crate::http;

/// How a filer is run.
#[derive(Clone, Debug)]
pub struct FilerOptions {
    /// Who it is to others.
    pub address: ServerAddress,
    /// The masters.
    pub masters: Vec<ServerAddress>,
    /// Filers of one group replicate to one another.
    pub group: String,
    /// Found a cluster without looking for others.
    pub is_alone: bool,
    /// A member that is silent for this long is shut out.
    pub offline_max: Duration,
    /// See [`dulse_replication::Options::protocol`].
    pub protocol: u32,
    /// Leave the cluster when stopped in order, waiting this long for the others.
    pub leaves_within: Option<Duration>,
    /// How long a dropped chunk stays after every member is known to have dropped it.
    pub chunk_grace: Duration,
    /// Size of chunks in MiB.
    pub max_mb: u32,
    /// Rows that the scrub looks at in a second; 0 for no scrub.
    pub scrub_rate: u64,
    /// Listens and dials.
    pub transport: Transport,
    /// Of the HTTP side; chunk size and transport are taken from above.
    pub http: http::Options,
}

/// All that requests share.
pub struct FilerState {
    /// Settings.
    pub options: FilerOptions,
    /// The tree.
    pub namespace: Namespace,
    /// Contents.
    pub blobs: Arc<Blobs>,
    /// The replica below the tree.
    pub store: Arc<ReplicaStore>,
    /// The masters, for calls.
    pub masters: Masters,
    /// Peers.
    pub replicator: Arc<Replicator>,
    /// Live subscriptions.
    pub subscribers: subscribers::Subscribers,
}

impl FilerState {
    /// Why namespace calls are not served yet; `None` when they are.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.replicator.ready().borrow().clone()
    }

    /// A client of the first master that answers.
    ///
    /// # Errors
    ///
    /// `Unavailable` when none does.
    pub async fn master(&self) -> Result<MasterClient, Status> {
        let answering = |mut master: MasterClient| async move {
            let request = GetMasterConfigurationRequest {};
            master.get_master_configuration(request).await?;
            Ok(master)
        };
        self.masters.ask(Ask::ONCE, answering).await
    }

    /// What upstream's clients ask first.
    #[must_use]
    pub fn configuration(&self) -> GetFilerConfigurationResponse {
        GetFilerConfigurationResponse {
            masters: self
                .options
                .masters
                .iter()
                .map(ToString::to_string)
                .collect(),
            max_mb: self.options.max_mb,
            collection: self.options.http.collection.clone(),
            replication: self.options.http.replication.clone(),
            dir_buckets: self.namespace.options().buckets_folder.clone(),
            signature: self.namespace.origin().signature(),
            version: concat!("Dulse ", env!("CARGO_PKG_VERSION")).to_owned(),
            filer_group: self.options.group.clone(),
            major_version: 4,
            minor_version: 48,
            ..GetFilerConfigurationResponse::default()
        }
    }
}
