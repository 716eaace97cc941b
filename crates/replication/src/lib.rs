// SPDX-License-Identifier: Apache-2.0
//! Filers in step: each pulls each peer's own changes from that peer, in order.
//!
//! [`core`] decides and does no IO; the driver behind [`Replicator`] carries it out with
//! tokio, and the simulation in virtual time. What a dead filer had sent to others arrives
//! through them. A fresh filer takes one snapshot, or founds the cluster.

pub mod convert;
pub mod core;
mod driver;
pub mod feed;
pub mod freed;
mod join;
mod membership;
pub mod metrics;
pub mod repair;
mod returning;
mod server;
mod status;
mod stopping;

pub use crate::core::{End, MemberState, MemberStatus};
pub use dulse_cluster::{Judgement as ClockJudgement, LEAD_MAX, Listing};
pub use membership::{LEAVE_WAIT, Left, RemoveError};
pub use server::ReplicationService;
pub use status::{PeerState, PeerStatus, Transfer};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dulse_cluster::{Judgement, Now};
use dulse_replica::{ClockBound, Garbage, ReplicaStore};
use dulse_transport::Transport;
use dulse_types::{Origin, ServerAddress, Vector};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::core::{Core, Membership, Settings, View};
use crate::repair::{RepairService, Repairs, ScrubStatus};

/// The latest protocol this version speaks. 2: a filer states what it has judged, and a pull
/// names the process that it asks.
pub const PROTOCOL: u32 = 2;

/// The oldest one that this version speaks. With a peer of protocol 1 no chunk is freed: it does
/// not say what it has judged.
pub const PROTOCOL_MIN: u32 = 1;

/// The protocol since which heartbeats say what is judged and pulls name the process they ask.
pub(crate) const JUDGED_SINCE: u32 = 2;

/// A member that is silent for this long is shut out, unless told otherwise: a weekend and a
/// machine on order.
pub const OFFLINE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a stopping filer goes on handing over its last changes.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// How a filer replicates.
#[derive(Clone)]
pub struct Options {
    /// Who this filer is to others.
    pub address: ServerAddress,
    /// Filers of other groups are refused.
    pub group: String,
    /// Found a cluster without looking for others.
    pub is_alone: bool,
    /// A member that is silent for this long is shut out.
    pub offline_max: Duration,
    /// The latest protocol to speak: [`PROTOCOL`], or one before it in tests of clusters whose
    /// filers are not of one version.
    pub protocol: u32,
    /// What the master says; `None` until it has answered.
    pub listed: watch::Receiver<Option<Listing>>,
    /// What its clock said last; `None` while none tells.
    pub master_time: watch::Receiver<Option<MasterTime>>,
    /// Has the master remember a member, durably.
    pub report: Report,
    /// Dials peers.
    pub transport: Transport,
    /// Rows that the scrub looks at in a second; 0 for no scrub.
    pub scrub_rate: u64,
}

/// A call that has the master remember the founder; done when the master has it on disk, and
/// refused when it remembers others than those given, who have no history.
pub type Report = Arc<
    dyn Fn(Origin, ServerAddress, Vec<Origin>) -> BoxFuture<'static, Result<(), String>>
        + Send
        + Sync,
>;

/// What a master's clock said.
#[derive(Clone, Copy, Debug)]
pub struct MasterTime {
    /// When it was asked.
    pub asked: Instant,
    /// Nanoseconds since 1970.
    pub now_ns: i64,
}

/// Keeps this filer in step with its peers until it is dropped or stopped.
pub struct Replicator {
    inner: Arc<Inner>,
    director: JoinHandle<()>,
    repairer: JoinHandle<()>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<ReplicaStore>,
    pub(crate) options: Options,
    pub(crate) instance: u64,
    /// When this process started, by its wall clock.
    pub(crate) core: Mutex<Core>,
    /// Something happened that the core should look at now.
    pub(crate) wake: Notify,
    pub(crate) started: Instant,
    /// Why this filer is not ready; `None` when it is.
    pub(crate) ready: watch::Sender<Option<String>>,
    pub(crate) transfer: Mutex<Option<Transfer>>,
    /// Set when this filer stops: streams hand over what is left and end.
    pub(crate) stop: watch::Sender<bool>,
    /// What differs from others, and the scrub.
    pub(crate) repairs: Repairs,
    /// Streams that peers pull.
    pub(crate) n_feeds: AtomicUsize,
    /// Fresh filers that take their state from here.
    pub(crate) n_transfers: AtomicUsize,
    /// What is made of this filer's clock.
    pub(crate) clock: Mutex<Judgement>,
    /// Set when the store is to be opened again, under a new origin.
    pub(crate) renewed: watch::Sender<bool>,
    /// Set while what only this store had is made anew.
    pub(crate) is_returning: AtomicBool,
    /// Set while this filer leaves: it takes no writes any more.
    pub(crate) is_leaving: AtomicBool,
    /// Up to where subscribers were told that nothing more comes, in nanoseconds since 1970.
    pub(crate) told: AtomicI64,
}

impl Inner {
    pub(crate) fn origin(&self) -> Origin {
        self.store.shared().origin()
    }

    pub(crate) fn now(&self) -> Now {
        self.started.elapsed()
    }

    /// Who is a member as the log knows it; nobody when it cannot be read, which the store's own
    /// calls report.
    pub(crate) fn membership(&self) -> Membership {
        let rows = self.store.shared().members().unwrap_or_default();
        Membership::of(rows, &self.options.address)
    }

    /// Everything that every member has merged and on disk.
    pub(crate) fn stable(&self) -> Result<Vector, dulse_store::Error> {
        // The rows are read here once more so that a failed read cannot pass as "alone".
        self.store.shared().members()?;
        let durable = self.store.shared().acknowledged_vector();
        Ok(self.with(|core, view| core.stable(view, &durable)))
    }

    /// Calls `f` with the core and the present view, then wakes the director.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Core, &View<'_>) -> T) -> T {
        let (applied, membership) = (self.store.shared().vector(), self.membership());
        let logged = self.store.shared().logged();
        let mut core = self.core.lock();
        core.has_logged(logged);
        f(&mut core, &membership.view(&applied))
    }
}

impl Replicator {
    /// Starts the tasks. The service must be served for peers to pull from here.
    #[must_use]
    pub fn start(store: Arc<ReplicaStore>, options: Options) -> Self {
        let instance = rand::random();
        store.shared().hold_verdicts(true);
        let started_ns = store.shared().wall_ns();
        // A store that cannot be read says so with every call.
        let is_returning = store.shared().has_reissue().unwrap_or(true);
        let must_join = store.shared().must_join().unwrap_or(true);
        let settings = Settings {
            origin: store.shared().origin(),
            instance,
            started_ns,
            must_join,
            address: options.address.clone(),
            is_alone: options.is_alone,
            offline_max: options.offline_max,
        };
        let core = Core::new(settings);
        let not_yet = core.not_ready().map(str::to_owned);
        let inner = Arc::new(Inner {
            store,
            options,
            instance,
            core: Mutex::new(core),
            wake: Notify::new(),
            started: Instant::now(),
            ready: watch::Sender::new(not_yet),
            transfer: Mutex::new(None),
            stop: watch::Sender::new(false),
            repairs: Repairs::new(),
            n_feeds: AtomicUsize::new(0),
            n_transfers: AtomicUsize::new(0),
            clock: Mutex::new(Judgement::Held),
            renewed: watch::Sender::new(false),
            is_returning: AtomicBool::new(is_returning),
            is_leaving: AtomicBool::new(false),
            told: AtomicI64::new(0),
        });
        // ⚠ Nothing is promised by a clock that nobody has judged.
        inner.store.shared().bound_clock(ClockBound::Held);
        let director = tokio::spawn(driver::direct(Arc::clone(&inner)));
        if is_returning {
            tokio::spawn(returning::make_anew(Arc::clone(&inner)));
        }
        let repairer = tokio::spawn(repair::driver::run(Arc::clone(&inner)));
        Self {
            inner,
            director,
            repairer,
        }
    }

    /// What peers call.
    #[must_use]
    pub fn service(&self) -> ReplicationService {
        ReplicationService::new(Arc::clone(&self.inner))
    }

    /// What peers call to repair themselves.
    #[must_use]
    pub fn repair_service(&self) -> RepairService {
        RepairService::new(Arc::clone(&self.inner))
    }

    /// Begins a pass over all that is stored, at full speed; how far it is can be watched.
    #[must_use]
    pub fn scrub(&self) -> watch::Receiver<ScrubStatus> {
        let watched = self.inner.repairs.scrub.subscribe();
        self.inner.repairs.ask_scrub.send_modify(|n| *n += 1);
        self.inner.repairs.wake.notify_one();
        watched
    }

    /// How far the scrub is.
    #[must_use]
    pub fn scrub_status(&self) -> ScrubStatus {
        *self.inner.repairs.scrub.borrow()
    }

    /// Filers that are known to have the same changes and another digest.
    #[must_use]
    pub fn n_divergent(&self) -> usize {
        self.inner.repairs.watch.lock().n_alarms()
    }

    /// Why namespace calls cannot be served yet; `None` when they can.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<Option<String>> {
        self.inner.ready.subscribe()
    }

    /// Every peer as this filer sees it.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let applied = self.inner.store.shared().vector();
        self.inner.core.lock().peers(&applied)
    }

    /// Streams of changes that peers pull from here.
    #[must_use]
    pub fn n_feeds(&self) -> usize {
        self.inner.n_feeds.load(Ordering::Relaxed)
    }

    /// What is made of this filer's clock.
    #[must_use]
    pub fn clock(&self) -> Judgement {
        *self.inner.clock.lock()
    }

    /// A running bootstrap, if any.
    #[must_use]
    pub fn transfer(&self) -> Option<Transfer> {
        *self.inner.transfer.lock()
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
        let now = self.inner.now();
        let peers = self.inner.with(|core, view| core.watermark(now, view));
        let mark = peers.map_or(own, |peers| peers.0.min(own));
        self.inner.told.fetch_max(mark, Ordering::Relaxed);
        mark
    }

    /// Everything that every member has merged and on disk, and of whose losses each has said
    /// what it had to say: for freeing chunks.
    ///
    /// # Errors
    ///
    /// When the members cannot be read.
    pub fn judged(&self) -> Result<Vector, dulse_store::Error> {
        // The rows are read here once more so that a failed read cannot pass as "alone".
        let shared = self.inner.store.shared();
        shared.members()?;
        let judged = shared.judged_vector();
        Ok(self.inner.with(|core, view| core.judged(view, &judged)))
    }

    /// Asks the filer that frees some dropped chunks which of them are freed: their rows are of
    /// no use any more.
    ///
    /// - `covers`: everything that made these rows, stable.
    /// - `rows`: at most [`dulse_replica::ASKED_MAX`].
    ///
    /// # Errors
    ///
    /// Why there is no answer, in words; asking again is harmless.
    pub async fn freed(
        &self,
        asked: Origin,
        covers: &Vector,
        rows: &[Garbage],
    ) -> Result<Vec<Garbage>, String> {
        freed::ask(&self.inner, asked, covers, rows).await
    }

    /// True once this filer must be started again, to open its store under a new origin.
    #[must_use]
    pub fn renewed(&self) -> watch::Receiver<bool> {
        self.inner.renewed.subscribe()
    }

    /// Says to the peers that this filer stops and ends the tasks once those that pull have
    /// what was acknowledged here, at most two seconds later. The store is sealed before
    /// ([`dulse_replica::ReplicaStore::seal`]): what came after the word would come late.
    pub async fn hand_over(&self) {
        self.inner.stop.send_replace(true);
        let until = Instant::now() + HAND_OVER_MAX;
        while self.inner.n_feeds.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends all tasks.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
        self.director.abort();
        self.repairer.abort();
    }
}

impl Drop for Replicator {
    fn drop(&mut self) {
        self.stop();
    }
}
