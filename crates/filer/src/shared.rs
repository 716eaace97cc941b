// SPDX-License-Identifier: Apache-2.0
//! A filer on a shared store: the database has the entries, and each filer on it announces what
//! it did itself.
//!
//! The filers of a group find one another through the master, and each hears what the others
//! announce, keeps it, and tells its own subscribers all of it in order of stamps, up to the point
//! below which nobody has more to say. No entry is ever replayed.

mod chunks;
pub(crate) mod events;
mod expiry;
mod follow;
mod gathered;
mod notes;
mod others;
pub(crate) mod tell;
pub(crate) mod topology;
mod upstream;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dulse_proto::announcements as pb;
use dulse_replication::Listing;
use dulse_shared::{AnyShared, Location};
use dulse_store::Error;
use dulse_transport::Transport;
use dulse_types::{FullPath, Origin, ServerAddress, Stamp, Vector};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::state::{FilerOptions, FilerState};
use gathered::Gathered;
#[doc(hidden)]
pub use notes::check_notes;
use others::Others;
pub(crate) use others::State;
use topology::Who;

/// The database's clock is asked this often while somebody waits for what this filer promises.
const CLOCK_EVERY: Duration = Duration::from_millis(200);

/// And this often else: it tells whether the database answers.
const IDLE_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// But no more often than this, whoever waits.
const HURRIED_EVERY: Duration = Duration::from_millis(10);

/// A database that does not answer for this long makes the filer not ready.
const DOWN_AFTER: Duration = Duration::from_secs(5);

/// Pause between two looks at what is awaited before the filer is ready.
const READY_LOOK: Duration = Duration::from_millis(20);

/// How often journals are trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// How long a filer that stops waits for the others to have heard everything.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// How a filer on a shared store is run.
#[derive(Clone, Debug)]
pub struct SharedSettings {
    /// A directory of this filer's own: what it hears of the others is kept there.
    pub dir: PathBuf,
    /// Where the database is, for people.
    pub place: String,
    /// How long announcements are kept.
    pub retention: Duration,
    /// Bytes of announcements, own and others' each, above which the oldest go before that.
    pub budget_bytes: u64,
}

/// See the module.
pub struct OnShared {
    pub(crate) store: Arc<dyn AnyShared>,
    pub(crate) settings: SharedSettings,
    gathered: Gathered,
    pub(crate) others: Others,
    who: Who,
    transport: Transport,
    address: ServerAddress,
    /// What this filer promises: no later announcement of it is at or below. Only rises.
    promised: watch::Sender<Stamp>,
    /// The greatest stamp or promise of anybody.
    seen: watch::Sender<Stamp>,
    ready: watch::Sender<Option<String>>,
    leaving: watch::Sender<bool>,
    n_followers: watch::Sender<usize>,
    /// Whether the aggregated stream has readers here.
    has_subscribers: watch::Sender<bool>,
    /// Tasks that follow others, by address.
    followed: Mutex<BTreeMap<String, JoinHandle<()>>>,
    listed: watch::Receiver<Option<Listing>>,
    /// Chunks that this filer dropped and has not freed.
    pub(crate) n_dropped: AtomicU64,
    /// Volumes on which some of these could not be freed.
    pub(crate) n_failing: AtomicU64,
    /// Up to which stamp everything that it dropped is freed: the journal is kept from there.
    pub(crate) freed: AtomicI64,
    /// Whether the database has answered lately.
    answers: AtomicBool,
    /// When what it promises last rose.
    risen: Mutex<Instant>,
    has_started: AtomicBool,
    /// Somebody waits for the clock.
    hurry: Notify,
    /// Itself, for tasks.
    own: std::sync::Weak<OnShared>,
}

/// Starts all that a filer does on a shared store; aborted when it stops.
pub(crate) fn start(state: &Arc<FilerState>, on: &Arc<OnShared>) -> Vec<JoinHandle<()>> {
    let mut tasks = on.start();
    tasks.push(tokio::spawn(chunks::collect(
        Arc::clone(state),
        Arc::clone(on),
    )));
    tasks.push(tokio::spawn(expiry::sweep(
        Arc::clone(state),
        Arc::clone(on),
    )));
    tasks
}

impl OnShared {
    /// Opens what is kept of the others. Blocks.
    ///
    /// - `beside`: directories in stores of their own beside this one; `None` for the store of
    ///   one, which announces nothing before it is started.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`, `Unavailable` when another process has it open.
    pub(crate) fn open(
        store: Arc<dyn AnyShared>,
        settings: SharedSettings,
        options: &FilerOptions,
        listed: watch::Receiver<Option<Listing>>,
        beside: Option<&[Location]>,
    ) -> Result<Arc<Self>, Error> {
        let origin = store.origin();
        let gathered = Gathered::open(&settings.dir, origin.0 as u32)?;
        // I9: with a journal of its own that is new, on a store that is not, it must not say
        // that nothing happened before.
        let begins = match store.is_new() {
            true => Stamp::ZERO,
            false => store.promise()?,
        };
        gathered.begin_self(origin, begins)?;
        let last = *store.announced().borrow();
        Ok(Arc::new_cyclic(|own| Self {
            who: Who::own(options, origin, true, store.name())
                .and_locations(store.locations())
                .and_locations(beside.unwrap_or_default()),
            gathered,
            others: Others::new(!options.masters.is_empty()),
            transport: options.transport.clone(),
            address: options.address.clone(),
            promised: watch::Sender::new(last),
            seen: watch::Sender::new(last),
            ready: watch::Sender::new(Some("starting".to_owned())),
            leaving: watch::Sender::new(false),
            n_followers: watch::Sender::new(0),
            has_subscribers: watch::Sender::new(false),
            followed: Mutex::default(),
            listed,
            n_dropped: AtomicU64::new(0),
            n_failing: AtomicU64::new(0),
            freed: AtomicI64::new(i64::MAX),
            answers: AtomicBool::new(true),
            risen: Mutex::new(Instant::now()),
            has_started: AtomicBool::new(beside.is_some()),
            hurry: Notify::new(),
            own: own.clone(),
            settings,
            store,
        }))
    }

    /// Starts what keeps this filer in step with the others; aborted when the filer stops.
    fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        *self.risen.lock() = Instant::now();
        self.others.begin();
        self.has_started.store(true, Ordering::SeqCst);
        vec![
            tokio::spawn(follow::all(Arc::clone(self), self.listed.clone())),
            tokio::spawn(ask_clock(Arc::clone(self))),
            tokio::spawn(promise(Arc::clone(self))),
            tokio::spawn(become_ready(Arc::clone(self))),
            tokio::spawn(trim(Arc::clone(self))),
        ]
    }

    /// Tells the others that this filer stops, and waits a moment for them to have heard all.
    pub(crate) async fn stop(&self) {
        let store = Arc::clone(&self.store);
        // Order: first. Nobody waits for more of one that says it stops.
        let sealed = tokio::task::spawn_blocking(move || store.seal()).await;
        if !matches!(sealed, Ok(true)) {
            tracing::warn!(
                "what was begun has not ended: the others wait for this filer's next start"
            );
            return;
        }
        self.leaving.send_replace(true);
        let mut followers = self.n_followers.subscribe();
        let nobody = followers.wait_for(|n| *n == 0);
        // One that does not read waits for this filer then, as for one that was killed.
        let _ = tokio::time::timeout(LEAVE_TIME_MAX, nobody).await;
        for task in std::mem::take(&mut *self.followed.lock()).into_values() {
            task.abort();
        }
    }

    /// Whether an origin is that of a filer on this store.
    pub(crate) fn is_on_it(&self, origin: Origin) -> bool {
        origin.signature() == self.origin().signature()
    }

    /// The one directory whose entries this store has, unless it has those of `/`.
    pub(crate) fn of_one(&self) -> Option<&FullPath> {
        let own = self.origin().0 as u32;
        let mut locations = self.store.locations().iter();
        let one = locations.find(|location| location.store_id == own);
        one.map(|location| &location.path)
    }

    /// The location above a path whose store this is.
    pub(crate) fn above(&self, path: &FullPath) -> Option<&FullPath> {
        let mut locations = self.store.locations().iter().map(|location| &location.path);
        locations.find(|location| path.is_below(location))
    }

    /// Whether the database has answered within the last seconds.
    pub(crate) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Up to which stamp all announcements are here of everybody who moves on; `None` when this
    /// filer does not. Who could promise nothing new for some seconds does not: the database does
    /// not answer, or does not end a change.
    pub(crate) fn limit_of_moving(&self) -> Option<Stamp> {
        if self.risen.lock().elapsed() >= DOWN_AFTER {
            return None;
        }
        let own = *self.promised.borrow();
        Some(self.others.limit_of_moving(own, DOWN_AFTER))
    }

    /// Whether what this filer promises holds back what is above a stamp.
    pub(crate) fn holds(&self, above: Stamp) -> bool {
        *self.promised.borrow() <= above
    }

    /// Raises what this filer promises.
    fn promises(&self, stamp: Stamp) {
        if raise(&self.promised, stamp) {
            *self.risen.lock() = Instant::now();
        }
    }

    /// Whether it tells the others anything yet.
    pub(crate) fn has_started(&self) -> bool {
        self.has_started.load(Ordering::SeqCst)
    }

    /// Whether the aggregated stream has readers here: the clock is asked for more often then.
    pub(crate) fn note_subscribers(&self, has_some: bool) {
        self.has_subscribers.send_if_modified(|has| {
            let is_new = *has != has_some;
            *has = has_some;
            is_new
        });
    }

    /// Has the clock asked for soon: events wait for it.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Who stamps this filer's changes.
    pub(crate) fn origin(&self) -> Origin {
        self.store.origin()
    }

    pub(crate) fn who(&self) -> Who {
        self.who.clone()
    }

    fn hello(&self) -> pb::Hello {
        self.who.hello()
    }

    /// Why namespace calls are not served; `None` when they are.
    pub(crate) fn ready(&self) -> watch::Receiver<Option<String>> {
        self.ready.subscribe()
    }

    /// Follows a filer unless it is followed, or is this one.
    fn introduce(&self, address: &ServerAddress) {
        if address.is_same_server(&self.address) || !self.others.add(address) {
            return;
        }
        let Some(own) = self.own.upgrade() else {
            return;
        };
        let task = tokio::spawn(follow::one(own, address.clone()));
        self.followed.lock().insert(address.http(), task);
    }

    fn is_listed(&self, address: &ServerAddress) -> bool {
        let listing = self.listed.borrow();
        let Some(listing) = &*listing else {
            return false;
        };
        listing.filers.iter().any(|one| one.is_same_server(address))
    }

    /// Somebody on this store gave this stamp, or promised it.
    fn saw(&self, stamp: Stamp) {
        raise(&self.seen, stamp);
    }

    /// Up to which stamp all announcements of everybody are here.
    pub(crate) fn limit(&self) -> Stamp {
        self.others.limit(*self.promised.borrow())
    }

    /// What can be read here of every origin. Order: after [`OnShared::limit`].
    pub(crate) fn readable(&self) -> Vector {
        let mut all = self.gathered.lasts();
        all.set(self.origin(), *self.store.announced().borrow());
        all
    }

    /// Returns when the limit may have risen or more can be read.
    pub(crate) fn news(&self) -> News {
        News {
            promised: self.promised.subscribe(),
            announced: self.store.announced(),
            arrived: self.gathered.arrivals(),
            others: self.others.changes(),
        }
    }

    /// What the others' announcements take on disk, in bytes.
    pub(crate) fn gathered_bytes(&self) -> u64 {
        self.gathered.size_bytes()
    }

    /// What this filer promises now, without asking anybody.
    pub(crate) fn promise_now(&self) -> Stamp {
        self.store.promise_from(*self.promised.borrow())
    }
}

/// A count of several stores together.
pub(crate) fn total<'a>(
    all: impl IntoIterator<Item = &'a Arc<OnShared>>,
    count: fn(&OnShared) -> &AtomicU64,
) -> u64 {
    let counts = all.into_iter().map(|on| count(on).load(Ordering::Relaxed));
    counts.sum()
}

/// Waits for anything that subscribers may be told.
pub(crate) struct News {
    promised: watch::Receiver<Stamp>,
    announced: watch::Receiver<Stamp>,
    arrived: watch::Receiver<Vector>,
    others: watch::Receiver<u64>,
}

impl News {
    /// What came before counts as seen.
    pub(crate) fn mark_seen(&mut self) {
        self.promised.borrow_and_update();
        self.announced.borrow_and_update();
        self.arrived.borrow_and_update();
        self.others.borrow_and_update();
    }

    /// Returns at the next; false when the filer stops.
    pub(crate) async fn next(&mut self) -> bool {
        tokio::select! {
            changed = self.promised.changed() => changed.is_ok(),
            changed = self.announced.changed() => changed.is_ok(),
            changed = self.arrived.changed() => changed.is_ok(),
            changed = self.others.changed() => changed.is_ok(),
        }
    }
}

/// Raises a stamp; whether it rose.
fn raise(what: &watch::Sender<Stamp>, to: Stamp) -> bool {
    what.send_if_modified(|now| {
        let is_new = to > *now;
        *now = to.max(*now);
        is_new
    })
}

/// Asks the database for its clock, which is what promises rise by while nothing happens, and
/// notes whether it answers.
async fn ask_clock(on: Arc<OnShared>) {
    let mut answered = Instant::now();
    let mut is_down = false;
    let mut followers = on.n_followers.subscribe();
    let mut subscribers = on.has_subscribers.subscribe();
    loop {
        let store = Arc::clone(&on.store);
        let asked = tokio::task::spawn_blocking(move || store.promise()).await;
        match asked {
            Ok(Ok(promise)) => {
                answered = Instant::now();
                on.promises(promise);
                raise(&on.seen, promise);
                if is_down {
                    is_down = false;
                    tracing::info!(place = on.settings.place, "the database answers again");
                    on.ready.send_replace(None);
                }
            }
            Ok(Err(error)) => {
                let down = answered.elapsed() >= DOWN_AFTER;
                if down && !is_down && on.ready.borrow().is_none() {
                    is_down = true;
                    let place = &on.settings.place;
                    tracing::error!(place, %error, "the database does not answer");
                    let text = format!("the database of the shared store does not answer: {error}");
                    on.ready.send_replace(Some(text));
                }
            }
            Err(_stopping) => return,
        }
        let answers = answered.elapsed() < DOWN_AFTER;
        on.answers.store(answers, Ordering::Relaxed);
        let n_followers = *followers.borrow_and_update();
        let is_used = *subscribers.borrow_and_update() || n_followers > 0;
        let pause = if is_used {
            CLOCK_EVERY
        } else {
            IDLE_CLOCK_EVERY
        };
        tokio::select! {
            // Whoever comes need not wait for the next turn.
            _ = followers.changed() => {}
            _ = subscribers.changed() => {}
            () = on.hurry.notified() => tokio::time::sleep(HURRIED_EVERY).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Raises this filer's promise with what it announced and what it saw of the others: they wait
/// for it.
async fn promise(on: Arc<OnShared>) {
    let (mut announced, mut seen) = (on.store.announced(), on.seen.subscribe());
    loop {
        let last = *announced.borrow_and_update();
        let greatest = last.max(*seen.borrow_and_update());
        on.promises(on.store.promise_from(greatest));
        let changed = tokio::select! {
            changed = announced.changed() => changed,
            changed = seen.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Serves the namespace once the others that are there were met: they wait then for what this
/// filer announces.
async fn become_ready(on: Arc<OnShared>) {
    let mut said = String::new();
    while let Some(why) = on.others.awaited() {
        if why != said {
            said.clone_from(&why);
            on.ready.send_replace(Some(why));
        }
        tokio::time::sleep(READY_LOOK).await;
    }
    on.ready.send_replace(None);
    let others = on.others.all();
    let met = others.iter().filter(|o| o.state == State::Following);
    let met: Vec<_> = met.map(|o| o.address.http()).collect();
    tracing::info!(
        store = on.store.name(),
        store_id = on.origin().signature(),
        others = met.join(", "),
        "serves the namespace of a shared store"
    );
}

/// Drops announcements that are too old or too many.
async fn trim(on: Arc<OnShared>) {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        let trimming = Arc::clone(&on);
        let trimmed = tokio::task::spawn_blocking(move || {
            let on = trimming;
            let age = i64::try_from(on.settings.retention.as_nanos()).unwrap_or(i64::MAX);
            let oldest = Stamp(on.promised.borrow().0.saturating_sub(age).max(0));
            let budget = on.settings.budget_bytes;
            // What is not freed would be forgotten with it, unless it is too much.
            let freed = Stamp(on.freed.load(Ordering::Relaxed));
            let own = on.store.trim(oldest.min(freed), budget)?;
            Ok::<_, Error>(own + on.gathered.trim(oldest, budget)?)
        });
        match trimmed.await {
            Ok(Ok(0)) => {}
            Ok(Ok(n_bytes)) => tracing::debug!(n_bytes, "dropped old announcements"),
            Ok(Err(error)) => tracing::warn!(%error, "old announcements are not dropped"),
            Err(_stopping) => return,
        }
    }
}
