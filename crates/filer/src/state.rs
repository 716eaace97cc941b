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
use tokio::sync::watch;
use tonic::Status;

use crate::grpc::subscribers;
use crate::http;
use crate::shared::OnShared;
use crate::shared::topology::Who;

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
    /// What is below the tree.
    pub kept: Kept,
    /// The masters, for calls.
    pub masters: Masters,
    /// Live subscriptions.
    pub subscribers: subscribers::Subscribers,
}

/// Where a filer's entries are, and with that who tells of changes.
pub enum Kept {
    /// In a replica of its own, in step with those of its peers.
    Embedded(Embedded),
    /// In a database that other filers use as well.
    Shared(Arc<OnShared>),
}

/// What a filer with an embedded store has. Cheap to clone.
#[derive(Clone)]
pub struct Embedded {
    /// The replica.
    pub store: Arc<ReplicaStore>,
    /// Peers.
    pub replicator: Arc<Replicator>,
}

impl FilerState {
    /// Why namespace calls are not served yet; `None` when they are.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.ready().borrow().clone()
    }

    /// Told the same whenever it changes.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<Option<String>> {
        match &self.kept {
            Kept::Embedded(own) => own.replicator.ready(),
            Kept::Shared(on) => on.ready(),
        }
    }

    /// Replica and peers, for what only they have.
    ///
    /// # Errors
    ///
    /// `FailedPrecondition` on a shared store, with what is asked instead.
    pub fn embedded(&self) -> Result<&Embedded, Status> {
        match &self.kept {
            Kept::Embedded(own) => Ok(own),
            Kept::Shared(on) => Err(Status::failed_precondition(format!(
                "this filer is on a shared store ({}): all its filers read the same database, so \
                 there are no members, conflicts, digests, repairs or transfers; the database's \
                 own tools look after its copies",
                on.store.name()
            ))),
        }
    }

    /// The shared store, for what only that has.
    pub(crate) fn on_shared(&self) -> Result<&Arc<OnShared>, Status> {
        match &self.kept {
            Kept::Shared(on) => Ok(on),
            Kept::Embedded(_) => Err(Status::failed_precondition(
                "this filer has an embedded store: it replicates with its peers and announces \
                 nothing to filers on a shared store",
            )),
        }
    }

    /// What this filer is, to others.
    pub(crate) fn who(&self) -> Who {
        match &self.kept {
            Kept::Embedded(own) => Who::own(
                &self.options,
                self.namespace.origin(),
                false,
                own.store.shared().engine_name(),
            ),
            Kept::Shared(on) => on.who(),
        }
    }

    /// Other filers that this one knows.
    pub(crate) fn peer_addresses(&self) -> Vec<ServerAddress> {
        match &self.kept {
            Kept::Embedded(own) => {
                let peers = own.replicator.peers().into_iter();
                peers.map(|peer| peer.address).collect()
            }
            Kept::Shared(on) => {
                let others = on.others.all().into_iter();
                others.map(|other| other.address).collect()
            }
        }
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
