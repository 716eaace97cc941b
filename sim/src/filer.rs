// SPDX-License-Identifier: Apache-2.0
//! One simulated filer: the real replica and the real replication core over a virtual
//! clock, disk and network.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dulse_filer::grpc::subscribe::{Head, Hub};
use dulse_journal::MemDisk;
use dulse_kv::{MemoryEngine, ReadExt};
use dulse_merge::Rows as ModelRows;
use dulse_merge::keys::Space;
use dulse_merge::txn::RowsError;
use dulse_replica::{
    Clock, ClockBound, Durability, Grace, Limits, Replica, ReplicaOptions, Shared,
};
use dulse_replication::core::{Core, Membership, Phase, Settings, View, bound};
use dulse_store::Error;
use dulse_types::{Origin, ServerAddress, Stamp, Vector};
use rand::Rng;
use rand::rngs::StdRng;

use crate::freed::{Asking, Looks};
use crate::leaving::Leaving;

/// Bytes of journal after which a filer checkpoints: small, so that crashes find all ages.
const CHECKPOINT_EVERY_BYTES: u64 = 8_000;

/// Time after which it checkpoints, too.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// Bytes of a segment, and of log above which stable parts go: small, so that all filers cut
/// their logs under all that happens.
pub(crate) const SEGMENT_SIZE_BYTES: u64 = 4_000;
const LOG_BUDGET_BYTES: u64 = 12_000;

/// At half of the filers, what one change may move or remove; and what one part does.
const TREE_NAMES_MAX: usize = 6;
const TREE_PART_NAMES: usize = 3;

/// A dropped chunk stays for this long: more than a client works with what it has read.
const GRACE: Duration = Duration::from_secs(3);

/// What right clocks say when a world begins: late enough for a clock to be an hour behind.
pub(crate) const START_NS: i64 = 10_000 * 1_000_000_000;

/// The virtual wall clock of one filer.
pub(crate) struct VirtualClock {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl Clock for VirtualClock {
    fn now_ns(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        let ns = self.monotonic.load(Ordering::Relaxed);
        Duration::from_nanos(ns.unsigned_abs())
    }
}

/// What lasts over a crash, and what runs now.
pub(crate) struct Filer {
    pub(crate) disk: MemDisk,
    pub(crate) engine: MemoryEngine,
    /// Others fill its disk: what fails for that is no violation.
    pub(crate) is_disk_full: bool,
    clock: Arc<VirtualClock>,
    clock_offset: i64,
    random: u64,
    pub(crate) port: u16,
    /// Counts starts; an event of an earlier life is void.
    pub(crate) life: u64,
    pub(crate) running: Option<Running>,
    /// Frozen until then: nothing happens here.
    pub(crate) frozen_until: u64,
    /// How long it stood still since it was started, in nanoseconds.
    pub(crate) frozen_for: u64,
    /// Log above this goes when it is stable; a member for whom more is kept is shut out.
    pub(crate) log_budget_bytes: u64,
    /// What was put on its disk, until its store has an origin of its own again.
    pub(crate) was_restored: Option<Restored>,
    /// Whose store is on its disk, as far as it ran.
    pub(crate) origin: Option<Origin>,
    /// What its disk held for certain when its process ended.
    durable_at_end: Vector,
    /// A copy that its operator made of its disk some time ago.
    pub(crate) backup: Option<Backup>,
    /// It is about to leave its cluster.
    pub(crate) leaving: Option<Leaving>,
    /// A member that is silent for this long is shut out.
    pub(crate) offline_max: Duration,
}

/// A copy of a disk, with what it holds for certain.
#[derive(Clone)]
pub(crate) struct Backup {
    disk: MemDisk,
    engine: MemoryEngine,
    /// Whose store it is.
    pub(crate) origin: Origin,
    pub(crate) durable: Vector,
}

/// A store that was put in the place of another one.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    /// Whose it is.
    pub(crate) origin: Origin,
    /// What any disk held then: until it has that, it has less than it said it had.
    pub(crate) held: Vector,
    /// Whether there was a later one somewhere, or another filer runs on that origin: whatever
    /// is written under it now parts from that.
    pub(crate) may_part: bool,
}

/// A process.
pub(crate) struct Running {
    members: RefCell<(Vector, Rc<Membership>)>,
    /// What stands for the address of a member that has none, as in the driver.
    own_address: ServerAddress,
    pub(crate) replica: Replica,
    pub(crate) core: Core,
    /// What subscribers of this process share.
    pub(crate) hub: Hub,
    pub(crate) head: Head,
    grace: Grace,
    /// Questions about dropped chunks that are under way.
    pub(crate) asking: Asking,
    /// Manifests that are being read.
    pub(crate) looks: Looks,
    pub(crate) instance: u64,
    pub(crate) started: u64,
    /// The greatest watermark told to subscribers in this life.
    pub(crate) watermark: Stamp,
}

/// The address of a port.
pub(crate) fn address(port: u16) -> ServerAddress {
    // A literal host and a port that is never 0 are an address.
    #[expect(clippy::expect_used, reason = "constant host")]
    ServerAddress::new("sim", port, port).expect("a constant address")
}

impl Running {
    /// The stamp of its last own change.
    pub(crate) fn own_stamp(&self) -> Stamp {
        let shared = self.replica.shared();
        shared.vector().get(shared.origin())
    }
}

impl Filer {
    pub(crate) fn new(n: u16, rng: &mut StdRng) -> Self {
        Self {
            disk: MemDisk::new(),
            engine: MemoryEngine::new(),
            is_disk_full: false,
            clock: Arc::new(VirtualClock {
                wall: AtomicI64::new(0),
                monotonic: AtomicI64::new(0),
            }),
            clock_offset: START_NS,
            random: rng.random(),
            port: 1_000 + n,
            life: 0,
            running: None,
            frozen_until: 0,
            frozen_for: 0,
            log_budget_bytes: LOG_BUDGET_BYTES,
            was_restored: None,
            origin: None,
            durable_at_end: Vector::new(),
            backup: None,
            leaving: None,
            offline_max: Duration::from_secs(3600),
        }
    }

    /// Sets the wall clock for this moment.
    pub(crate) fn tick(&self, now: u64) {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.clock.monotonic.store(now, Ordering::Relaxed);
        self.clock
            .wall
            .store(now + self.clock_offset, Ordering::Relaxed);
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, by: i64) {
        self.clock_offset = (self.clock_offset + by).max(0);
    }

    /// By how much its wall clock is wrong, in nanoseconds.
    pub(crate) fn wrong_by(&self) -> i64 {
        self.clock_offset - START_NS
    }

    pub(crate) fn start(&mut self, now: u64, rng: &mut StdRng) -> Result<(), String> {
        self.tick(now);
        let replica = Replica::open(ReplicaOptions {
            disk: Arc::new(self.disk.clone()),
            engine: Arc::new(self.engine.clone()),
            clock: self.clock.clone(),
            random: self.random,
            durability: Durability::Fsync,
            limits: Limits {
                checkpoint_every_bytes: CHECKPOINT_EVERY_BYTES,
                checkpoint_every: CHECKPOINT_EVERY,
                segment_size_bytes: SEGMENT_SIZE_BYTES,
                log_budget_bytes: self.log_budget_bytes,
                tree_names_max: match self.random % 2 {
                    0 => TREE_NAMES_MAX,
                    _ => Limits::STANDARD.tree_names_max,
                },
                tree_part_names: TREE_PART_NAMES,
                ..Limits::STANDARD
            },
        });
        let replica = replica.map_err(|e| format!("I2: open after a crash: {e}"))?;
        let shared = replica.shared();
        shared.bound_clock(ClockBound::Held);
        shared.hold_verdicts(true);
        let instance = rng.random();
        let hub = Hub::new(Arc::clone(&shared));
        let core = Core::new(Settings {
            origin: shared.origin(),
            instance,
            started_ns: i64::try_from(now).unwrap_or(i64::MAX),
            must_join: shared.must_join().map_err(|e| e.to_string())?,
            address: address(self.port),
            is_alone: false,
            offline_max: self.offline_max,
        });
        self.life += 1;
        self.frozen_until = 0;
        self.frozen_for = 0;
        let origin = shared.origin();
        self.origin = Some(origin);
        // Renewed: what is written from now on is its own.
        self.was_restored = self.was_restored.take().filter(|was| was.origin == origin);
        self.running = Some(Running {
            members: RefCell::default(),
            own_address: address(self.port),
            replica,
            core,
            hub,
            head: Head::default(),
            grace: Grace::new(GRACE),
            asking: Asking::default(),
            looks: Looks::default(),
            instance,
            started: now,
            watermark: Stamp::ZERO,
        });
        Ok(())
    }

    /// A copy of what is on its disk now; of a process that runs.
    pub(crate) fn copy(&self) -> Option<Backup> {
        let running = self.running.as_ref()?;
        Some(Backup {
            disk: self.disk.copied(),
            engine: self.engine.copied(),
            origin: running.origin(),
            durable: running.shared().durable_vector(),
        })
    }

    /// Puts what was on a disk once in the place of what is there: its own, or another's.
    pub(crate) fn restore(&mut self, backup: &Backup, held: Vector, may_part: bool) {
        self.running = None;
        self.leaving = None;
        self.disk = backup.disk.copied();
        self.engine = backup.engine.copied();
        self.is_disk_full = false;
        self.durable_at_end = backup.durable.clone();
        self.origin = Some(backup.origin);
        self.was_restored = Some(Restored {
            origin: backup.origin,
            held,
            may_part,
        });
    }

    /// What its disk holds for certain.
    pub(crate) fn on_disk(&self) -> Vector {
        match &self.running {
            Some(running) => running.shared().durable_vector(),
            None => self.durable_at_end.clone(),
        }
    }

    /// Its process ends; its disk stays as it is.
    pub(crate) fn stop(&mut self) {
        self.durable_at_end = self.on_disk();
        self.running = None;
        self.leaving = None;
    }

    /// kill -9 and power loss in one: unsynced bytes torn, later engine batches lost.
    pub(crate) fn crash(&mut self, rng: &mut StdRng) {
        self.stop();
        let kept = rng.random_range(0..200);
        self.engine.crash(|batch| batch < kept);
        // Cut at a byte, or a disk of blocks that wrote some of them.
        if rng.random_bool(0.5) {
            self.disk.crash(|unsynced| rng.random_range(0..=unsynced));
        } else {
            let keeps = rng.random_range(0.0..1.0);
            self.disk.crash_blocks(512, || rng.random_bool(keeps));
        }
    }

    /// Its machine is replaced by an empty one.
    pub(crate) fn wipe(&mut self, rng: &mut StdRng) {
        self.stop();
        self.durable_at_end = Vector::new();
        self.was_restored = None;
        self.origin = None;
        self.disk = MemDisk::new();
        self.engine = MemoryEngine::new();
        self.is_disk_full = false;
        self.random = rng.random();
    }

    /// There is room on its disk again.
    pub(crate) fn free_disk(&mut self) {
        self.is_disk_full = false;
        self.disk.set_full(false);
        self.disk.set_space(None);
    }

    /// Its wall clock.
    pub(crate) fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }

    /// The rows of a space as they are.
    pub(crate) fn rows(&self, space: Space) -> Result<Vec<(Bytes, Bytes)>, String> {
        let (from, to) = space.range();
        let rows = self.engine.scan(&from, &to, usize::MAX);
        rows.map_err(|e| e.to_string())
    }

    /// Whether it serves clients.
    pub(crate) fn is_ready(&self) -> bool {
        let is_there = |running: &Running| {
            running.has_state() && !running.shared().has_reissue().unwrap_or(true)
        };
        self.leaving.is_none() && self.running.as_ref().is_some_and(is_there)
    }
}

impl Running {
    /// What has been stable for the whole grace.
    pub(crate) fn aged(&mut self, now: u64, stable: Vector) -> Vector {
        let since = Duration::from_nanos(now - self.started);
        self.grace.pass(since, stable)
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.replica.shared()
    }

    /// Whether it has what the others have; it serves when nothing is left to be made anew.
    pub(crate) fn has_state(&self) -> bool {
        *self.core.phase() == Phase::Ready
    }

    pub(crate) fn origin(&self) -> Origin {
        self.replica.shared().origin()
    }

    /// Who is a member as the log knows it. Read once for each state: rows of members change
    /// with changes only.
    pub(crate) fn membership(&self) -> Result<Rc<Membership>, String> {
        let vector = self.shared().vector();
        let mut kept = self.members.borrow_mut();
        if kept.0 != vector || kept.1.members.is_empty() {
            let rows = self.shared().members().map_err(|e| e.to_string())?;
            let read = Membership::of(rows, &self.own_address);
            *kept = (vector, Rc::new(read));
        }
        Ok(Rc::clone(&kept.1))
    }

    /// Calls `f` with the core, its time and its view.
    pub(crate) fn with<T>(
        &mut self,
        now: u64,
        f: impl FnOnce(&mut Core, Duration, &View<'_>) -> T,
    ) -> Result<T, String> {
        let (applied, membership) = (self.shared().vector(), self.membership()?);
        let since = Duration::from_nanos(now - self.started);
        let logged = self.shared().logged();
        self.core.has_logged(logged);
        Ok(f(&mut self.core, since, &membership.view(&applied)))
    }

    /// Has the core judge the wall clock, and the replica bound by it.
    pub(crate) fn judge_clock(&mut self, now: u64) -> Result<(), String> {
        let shared = self.shared();
        let wall_ns = shared.wall_ns();
        let judged = self.with(now, |core, since, view| {
            core.judge_clock(since, wall_ns, view)
        })?;
        shared.bound_clock(bound(judged));
        Ok(())
    }

    /// What this filer believes that every member has on disk.
    pub(crate) fn stable(&self) -> Result<Vector, String> {
        let shared = self.shared();
        let (applied, membership) = (shared.vector(), self.membership()?);
        let view = membership.view(&applied);
        Ok(self.core.stable(&view, &shared.acknowledged_vector()))
    }

    /// What it believes that every member has judged, too.
    pub(crate) fn judged(&self) -> Result<Vector, String> {
        let shared = self.shared();
        let (applied, membership) = (shared.vector(), self.membership()?);
        let view = membership.view(&applied);
        Ok(self.core.judged(&view, &shared.judged_vector()))
    }

    /// What threads and the director do beside the requests: sync, and tell what is stable.
    /// Whether the log was cut.
    pub(crate) fn in_background(&mut self, stable: Vector) -> Result<bool, Error> {
        self.replica.sync()?;
        self.replica.checkpoint_when_due();
        let shared = self.shared();
        self.core.log_is_over(shared.is_log_over());
        let has_failed = shared.is_behind() || shared.journal().is_poisoned();
        self.core.store_has_failed(has_failed);
        let begin = self.shared().journal().begin();
        self.replica.stable(stable)?;
        Ok(self.shared().journal().begin() > begin)
    }

    /// The watermark as a subscriber is told it.
    pub(crate) fn tell_watermark(&mut self, now: u64) -> Result<(), String> {
        let own = self.shared().promise();
        let peers = self.with(now, |core, since, view| core.watermark(since, view))?;
        let mark = peers.map_or(own, |peers| peers.min(own));
        self.watermark = self.watermark.max(mark);
        let shared = self.shared();
        let applied = shared.vector();
        self.head = self.hub.head(mark, &applied, shared.durable_vector());
        let told = self.hub.publish(self.head.clone());
        told.map_err(|e| format!("tell subscribers: {e}"))
    }
}

/// The rows of an engine, as the model reads them.
pub(crate) struct Rows<'a>(pub(crate) &'a MemoryEngine);

impl ModelRows for Rows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        dulse_kv::Read::get(self.0, key).map_err(Into::into)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        ReadExt::scan(self.0, from, to, limit).map_err(Into::into)
    }
}
