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
use dulse_types::{FullPath, Origin, ServerAddress};
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
    /// Directories in shared stores of their own beside that.
    pub(crate) located: Vec<Arc<OnShared>>,
    /// Why namespace calls are not served yet.
    pub(crate) ready: watch::Receiver<Option<String>>,
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
        self.ready.clone()
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

    /// The shared stores: the default one, and those of directories.
    pub(crate) fn all_shared(&self) -> impl Iterator<Item = &Arc<OnShared>> {
        let default = match &self.kept {
            Kept::Shared(on) => Some(on),
            Kept::Embedded(_) => None,
        };
        default.into_iter().chain(&self.located)
    }

    /// Whether a shared store is the default one.
    pub(crate) fn is_default(&self, on: &Arc<OnShared>) -> bool {
        matches!(&self.kept, Kept::Shared(default) if Arc::ptr_eq(default, on))
    }

    /// The shared store on which an origin's filer is.
    ///
    /// # Errors
    ///
    /// `FailedPrecondition` when this filer is on none such.
    pub(crate) fn shared_with(&self, origin: Origin) -> Result<&Arc<OnShared>, Status> {
        let mut all = self.all_shared();
        all.find(|on| on.is_on_it(origin)).ok_or_else(|| {
            Status::failed_precondition(match &self.kept {
                Kept::Shared(on) => format!(
                    "this filer is on another shared store ({}, store id {})",
                    on.store.name(),
                    on.origin().signature()
                ),
                Kept::Embedded(_) => "this filer has an embedded store: it replicates with its \
                                      peers and announces nothing to filers on a shared store"
                    .to_owned(),
            })
        })
    }

    /// The shared store that has the entry at a path, unless an embedded one has it.
    pub(crate) fn shared_of(&self, path: &FullPath) -> Option<&Arc<OnShared>> {
        let located = self
            .located
            .iter()
            .filter_map(|on| Some((on.above(path)?, on)));
        let longest = located.max_by_key(|(location, _)| location.as_str().len());
        match (longest, &self.kept) {
            (Some((_, on)), _) | (None, Kept::Shared(on)) => Some(on),
            (None, Kept::Embedded(_)) => None,
        }
    }

    /// Whose changes are made here.
    pub(crate) fn own_origins(&self) -> Vec<Origin> {
        let located = self.located.iter().map(|on| on.origin());
        std::iter::once(self.namespace.origin())
            .chain(located)
            .collect()
    }

    /// What this filer is, to others.
    pub(crate) fn who(&self) -> Who {
        match &self.kept {
            Kept::Embedded(own) => {
                let (origin, engine) = (self.namespace.origin(), own.store.shared().engine_name());
                let located = self.located.iter().flat_map(|on| on.store.locations());
                Who::own(&self.options, origin, false, engine).and_locations(located)
            }
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
