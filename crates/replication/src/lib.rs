// SPDX-License-Identifier: Apache-2.0
//! Filers in step: each pulls each peer's own changes from that peer, in order.
//!
//! [`Replicator`] runs one task per known address. What a dead filer had sent to
//! others arrives through them. A fresh filer takes one snapshot, or founds the cluster.

mod bootstrap;
mod convert;
mod peer;
mod server;
mod table;

pub use server::ReplicationService;
pub use table::{PeerState, PeerStatus, Transfer};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dulse_replica::ReplicaStore;
use dulse_types::{Origin, ServerAddress};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use table::Table;

/// The protocol this version speaks.
pub const PROTOCOL: u32 = 1;

/// How long a peer that does not answer holds back readiness.
pub const SILENT_MAX: Duration = Duration::from_secs(10);

/// Pause before a peer is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// How a filer replicates.
#[derive(Clone)]
pub struct Options {
    /// Who this filer is to others.
    pub address: ServerAddress,
    /// Filers of other groups are refused.
    pub group: String,
    /// Found a cluster without looking for others.
    pub is_alone: bool,
    /// The filers the master lists, this one among them; `None` until it has answered.
    pub listed: watch::Receiver<Option<Vec<ServerAddress>>>,
}

/// Keeps this filer in step with its peers until it is dropped or stopped.
pub struct Replicator {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<ReplicaStore>,
    pub(crate) options: Options,
    pub(crate) table: Table,
    /// Why this filer is not ready; `None` when it is.
    pub(crate) ready: watch::Sender<Option<String>>,
    pub(crate) stop: watch::Sender<bool>,
    /// Whether this filer has founded, joined, or has a history.
    pub(crate) begun: watch::Sender<bool>,
}

impl Inner {
    pub(crate) fn origin(&self) -> Origin {
        self.store.shared().origin()
    }
}

impl Replicator {
    /// Starts the tasks. The service must be served for peers to pull from here.
    #[must_use]
    pub fn start(store: Arc<ReplicaStore>, options: Options) -> Self {
        let not_yet = Some("looking for the other filers".to_owned());
        let inner = Arc::new(Inner {
            store,
            options,
            table: Table::default(),
            ready: watch::Sender::new(not_yet),
            stop: watch::Sender::new(false),
            begun: watch::Sender::new(false),
        });
        let dialing = tokio::spawn(dial_all(Arc::clone(&inner)));
        let readying = tokio::spawn(bootstrap::become_ready(Arc::clone(&inner)));
        Self {
            inner,
            tasks: vec![dialing, readying],
        }
    }

    /// What peers call.
    #[must_use]
    pub fn service(&self) -> ReplicationService {
        ReplicationService::new(Arc::clone(&self.inner))
    }

    /// Why namespace calls cannot be served yet; `None` when they can.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<Option<String>> {
        self.inner.ready.subscribe()
    }

    /// Every peer as this filer sees it.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.inner.table.status(&self.inner.store)
    }

    /// A running bootstrap, if any.
    #[must_use]
    pub fn transfer(&self) -> Option<Transfer> {
        self.inner.table.transfer()
    }

    /// The stamp below which everything of every reachable filer has been applied here,
    /// for merging events of all filers in order.
    pub async fn low_watermark(&self) -> i64 {
        let own = self
            .inner
            .store
            .promise()
            .await
            .map_or(0, |promise| promise.0);
        let applied = self.inner.store.shared().vector();
        self.inner
            .table
            .low_watermark(&applied)
            .map_or(own, |peers| peers.min(own))
    }

    /// Everything that every member has merged and on disk, for freeing chunks.
    ///
    /// # Errors
    ///
    /// When the members cannot be read.
    pub fn stable(&self) -> Result<dulse_types::Vector, dulse_store::Error> {
        let members = self.inner.store.shared().members()?;
        let own = self.inner.store.shared().durable_vector();
        let applied = self.inner.store.shared().vector();
        Ok(self
            .inner
            .table
            .stable(self.inner.origin(), &members, &own, &applied))
    }

    /// Ends all tasks.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs one task per address that the master lists or a peer knows; level-triggered.
async fn dial_all(inner: Arc<Inner>) {
    let mut listed = inner.options.listed.clone();
    let mut tasks: BTreeMap<ServerAddress, JoinHandle<()>> = BTreeMap::new();
    let mut stop = inner.stop.subscribe();
    loop {
        let mut wanted: BTreeSet<ServerAddress> = listed
            .borrow_and_update()
            .iter()
            .flatten()
            .cloned()
            .collect();
        wanted.extend(inner.table.known_addresses());
        wanted.retain(|address| !address.is_same_server(&inner.options.address));
        for address in &wanted {
            if tasks.get(address).is_none_or(JoinHandle::is_finished) {
                let task = tokio::spawn(peer::keep(Arc::clone(&inner), address.clone()));
                tasks.insert(address.clone(), task);
            }
        }
        tokio::select! {
            changed = listed.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(RETRY_DELAY) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    for task in tasks.into_values() {
        task.abort();
    }
}
