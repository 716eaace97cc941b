// SPDX-License-Identifier: Apache-2.0
//! One world: filers, a master's list, a network, faults, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dulse_store::TreeChange;
use dulse_types::{Origin, Stamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::alarms;
use crate::checks::{self, Check, Seen};
use crate::faults;
use crate::filer::Filer;
use crate::master::Master;
use crate::net::{Net, Reply};
use crate::operators::{Acts, Operators};
use crate::queue::{Event, Queue};
use crate::shape::{Shape, throw};
use crate::subscribers::Subscriber;
use crate::trace::Trace;
use crate::volumes::Volumes;
use crate::workload::{self, Clients};
use crate::{MS, SECOND};

/// After healing everything must be ready and equal within this time.
const HEALING: u64 = 60 * SECOND;

/// How long it is quiet before what is superfluous must be gone.
const LINGER: u64 = 15 * SECOND;

/// What happened.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Changes of peers that were applied.
    pub applied: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Times that stable parts of a log went.
    pub log_cuts: u64,
    /// Faults.
    pub faults: u64,
    /// Transfers of a whole state.
    pub joins: u64,
    /// Pulls through a third filer.
    pub relays: u64,
    /// Transfers that went on where they were interrupted.
    pub resumes: u64,
    /// Chunks that were freed.
    pub freed: u64,
    /// Rows of dropped chunks that went because another filer had freed them.
    pub told_freed: u64,
    /// Looks at what manifests hold.
    pub looks: u64,
    /// Of them, those that came to nothing since a volume server was away.
    pub unreadable: u64,
    /// Freed chunks that a dropped manifest listed.
    pub listed: u64,
    /// Entries whose time was over.
    pub expired: u64,
    /// Events that subscribers were told.
    pub told: u64,
    /// Subscribers that were told that their cursor is too old.
    pub too_old: u64,
    /// Bytes of the largest change.
    pub largest_change: u64,
    /// Trees that were changed in parts.
    pub trees_in_parts: u64,
    /// Those parts.
    pub tree_parts: u64,
    /// Filers that left their cluster.
    pub left: u64,
    /// Times that a copied store was put on a disk.
    pub restored: u64,
    /// Times that a store took a new origin.
    pub renewed: u64,
}

impl Counts {
    /// Adds another world's.
    pub fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.applied += other.applied;
        self.crashes += other.crashes;
        self.log_cuts += other.log_cuts;
        self.faults += other.faults;
        self.joins += other.joins;
        self.relays += other.relays;
        self.resumes += other.resumes;
        self.freed += other.freed;
        self.told_freed += other.told_freed;
        self.looks += other.looks;
        self.unreadable += other.unreadable;
        self.listed += other.listed;
        self.expired += other.expired;
        self.told += other.told;
        self.too_old += other.too_old;
        self.largest_change = self.largest_change.max(other.largest_change);
        self.trees_in_parts += other.trees_in_parts;
        self.tree_parts += other.tree_parts;
        self.left += other.left;
        self.restored += other.restored;
        self.renewed += other.renewed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            writes,
            applied,
            crashes,
            log_cuts,
            faults,
            joins,
            relays,
            resumes,
            freed,
            told_freed,
            looks,
            unreadable,
            listed,
            expired,
            told,
            too_old,
            largest_change: _,
            trees_in_parts,
            tree_parts,
            left,
            restored,
            renewed,
        } = self;
        write!(
            f,
            "{writes} writes acknowledged, {applied} changes delivered, {faults} faults, \
             {crashes} crashes, {log_cuts} log cuts, {joins} joins, {resumes} of them resumed, \
             {relays} relays, {freed} chunks freed ({told_freed} told, {listed} \
             that manifests list, by {looks} looks, {unreadable} of no use), {expired} entries expired, {told} events \
             told, {too_old} cursors too old, {trees_in_parts} trees changed in {tree_parts} parts, \
             {left} filers left, {restored} stores put back, {renewed} new origins"
        )
    }
}

/// A world that came to its end without a violation.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What happened.
    pub counts: Counts,
    /// A hash of all that happened: one seed, one hash.
    pub hash: u64,
}

/// How a world is looked at.
#[derive(Clone, Copy, Default, Debug)]
pub struct Options {
    /// Whether what happens is printed.
    pub is_traced: bool,
    /// Whether what must hold at rest for each filer by itself is looked at all the time.
    pub is_careful: bool,
    /// What operators do.
    pub operators: Operators,
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) shape: Shape,
    queue: Queue,
    pub(crate) filers: Vec<Filer>,
    pub(crate) master: Master,
    pub(crate) net: Net,
    pub(crate) rng: StdRng,
    pub(crate) clients: Clients,
    /// What a client asks of the filer it is at.
    pub(crate) tree_asked: Option<TreeChange>,
    pub(crate) volumes: Volumes,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) counts: Counts,
    /// Whether trouble is over and all must heal.
    pub(crate) is_over: bool,
    /// What operators did last, and whether that is over.
    pub(crate) acts: Acts,
    /// Whether that was a disk put back or copied.
    pub(crate) is_disk_act: bool,
    pub(crate) checks: Vec<Box<dyn Check>>,
    /// When a disk last came to hold less than it had held.
    pub(crate) disk_lost_at: u64,
    /// The last own change that each origin is known to have made.
    pub(crate) own_last: BTreeMap<Origin, Stamp>,
    /// Whose clock was an hour wrong last, and until when.
    pub(crate) hour_wrong: Option<(usize, u64)>,
    /// Origins under which two filers wrote: of a copied or restored store that nobody could
    /// tell so. Their stamps say nothing about what was applied.
    pub(crate) parted: BTreeSet<Origin>,
    /// Origins that their filers gave up for others: what they had comes again under those.
    pub(crate) given_up: BTreeSet<Origin>,
    /// Who journaled the join of whom.
    pub(crate) admitted_by: BTreeMap<Origin, Origin>,
    /// Those that they took instead, and made anew under what only they had.
    pub(crate) renewed: BTreeSet<Origin>,
    /// Members that some filer shut out: it may be down before the others hear of it.
    pub(crate) shut_out: BTreeSet<Origin>,
    /// Origins under which two filers served, and promised what they would not write.
    pub(crate) twice_served: BTreeSet<Origin>,
    /// Changes of this origin arrive damaged at this filer: a scenario's affair.
    pub(crate) damaged: Option<(usize, Origin)>,
    pub(crate) trace: Trace,
    pub(crate) options: Options,
}

/// Runs one seed to its end.
///
/// # Errors
///
/// The invariant that does not hold, in words.
pub fn run(seed: u64, options: Options) -> Result<Report, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = Shape::of(&mut rng, options.operators);
    let mut world = World::new(shape, rng, options);
    let lived = world.live();
    lived.map_err(|why| world.dated(&why))?;
    Ok(Report {
        counts: world.counts,
        hash: world.trace.hash(),
    })
}

impl World {
    pub(crate) fn new(shape: Shape, mut rng: StdRng, options: Options) -> Self {
        alarms::listen();
        let n_filers = shape.filers;
        let filers = (0..n_filers as u16)
            .map(|n| Filer::new(n, &mut rng))
            .collect();
        Self {
            now: 0,
            shape,
            queue: Queue::default(),
            filers,
            master: Master::new(),
            net: Net::new(n_filers),
            rng,
            clients: Clients::default(),
            tree_asked: None,
            volumes: Volumes::default(),
            subscribers: (0..n_filers).map(Subscriber::new).collect(),
            counts: Counts::default(),
            is_over: false,
            acts: Acts::default(),
            is_disk_act: false,
            checks: checks::all(),
            trace: Trace::new(options.is_traced),
            disk_lost_at: 0,
            own_last: BTreeMap::new(),
            hour_wrong: None,
            parted: BTreeSet::new(),
            given_up: BTreeSet::new(),
            admitted_by: BTreeMap::new(),
            renewed: BTreeSet::new(),
            shut_out: BTreeSet::new(),
            twice_served: BTreeSet::new(),
            damaged: None,
            options,
        }
    }

    /// A violation with the moment at which it showed.
    pub(crate) fn dated(&self, why: &str) -> String {
        format!("at {:.3} s: {why}", self.now as f64 / 1e9)
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        self.trace.say(self.now, what);
    }

    /// Has something happen after a delay.
    pub(crate) fn at(&mut self, delay: u64, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// Shows the checkers what happened.
    pub(crate) fn show(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        self.ask(|check, world| check.saw(world, seen))
    }

    fn live(&mut self) -> Result<(), String> {
        self.say(|| format!("{:?}", self.shape));
        for f in 0..self.filers.len() {
            // Some come later, to a cluster that has a history.
            let is_late = self.rng.random_bool(0.15);
            let latest = if is_late {
                self.shape.trouble
            } else {
                2 * SECOND
            };
            let delay = self.rng.random_range(0..latest);
            self.at(delay, Event::Start(f));
            self.at(SECOND, Event::Listed(f));
            self.at(SECOND, Event::Write(f));
        }
        self.at(2 * SECOND, Event::Fault);
        self.until(self.shape.trouble)?;
        self.settle()?;
        if self.remove_lost()? {
            self.settle()?;
        }
        self.linger()
    }

    /// An operator removes the members that nobody runs: their machines are gone, or another
    /// store is on their disks. Whether there were any.
    fn remove_lost(&mut self) -> Result<bool, String> {
        let by = self.any();
        let Some(running) = &self.filers[by].running else {
            return Ok(false);
        };
        let membership = running.membership()?;
        let members = membership.members.iter().map(|(origin, _)| *origin);
        let is_run = |origin: Origin| self.filers.iter().any(|f| f.origin == Some(origin));
        let unrun: Vec<Origin> = members.filter(|origin| !is_run(*origin)).collect();
        for member in &unrun {
            self.shut_out(by, *member, true)?;
        }
        Ok(!unrun.is_empty())
    }

    /// Lets all become stable and every grace end: what must be gone then is gone.
    pub(crate) fn linger(&mut self) -> Result<(), String> {
        self.until(self.now + LINGER)?;
        self.ask(|check, world| check.at_end(world))
    }

    /// Ends all trouble, and demands that all filers are ready and equal in time.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        self.is_over = true;
        for fault in faults::ALL {
            fault.heal(self);
        }
        for f in 0..self.filers.len() {
            self.start(f)?;
        }
        let end = self.now + HEALING;
        while self.now < end {
            self.until(self.now + SECOND)?;
            if checks::is_level(&self.filers) {
                return self.rest();
            }
        }
        Err(checks::why_not_level(&self.filers))
    }

    /// What must hold once all is quiet.
    fn rest(&mut self) -> Result<(), String> {
        for filer in &self.filers {
            if let Some(running) = &filer.running {
                let (_, sum) = running.shared().digest();
                self.trace.note_bytes(&sum.sum.to_be_bytes());
            }
        }
        self.ask(|check, world| check.at_rest(world))
    }

    fn ask(
        &mut self,
        mut question: impl FnMut(&mut dyn Check, &World) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut checks = std::mem::take(&mut self.checks);
        let result = checks.iter_mut().try_for_each(|check| {
            let result = question(&mut **check, self);
            result.map_err(|why| format!("{}: {why}", check.name()))
        });
        self.checks = checks;
        result
    }

    /// Lets time pass.
    pub(crate) fn until(&mut self, end: u64) -> Result<(), String> {
        while let Some((at, event)) = self.queue.pop(end) {
            self.now = self.now.max(at);
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    /// A frozen filer's events happen when it thaws.
    fn is_frozen(&self, f: usize) -> Option<u64> {
        let until = self.filers[f].frozen_until;
        (until > self.now).then(|| until - self.now)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let whose = match &event {
            Event::Poll(f, _) | Event::Write(f) | Event::Listed(f) => Some(*f),
            Event::Request(c) | Event::Feed(c) => self.net.connections.get(c).map(|c| c.server),
            Event::Reply(c) => self.net.connections.get(c).map(|c| c.client),
            Event::Fault | Event::Start(_) | Event::DiskFreed(_) => None,
        };
        if let Some(wait) = whose.and_then(|f| self.is_frozen(f)) {
            // It may thaw before its time.
            self.at(wait.min(100 * MS), event);
            return Ok(());
        }
        if let Some(f) = whose {
            self.filers[f].tick(self.now);
        }
        self.trace.note(&[self.now, event.number()]);
        let result = match event {
            Event::Poll(f, life) => self.turn(f, life),
            Event::Request(c) => self.request(c),
            Event::Reply(c) => self.reply(c),
            Event::Feed(c) => self.feed(c),
            Event::Listed(f) => self.listed(f),
            Event::Write(f) => self.write(f),
            Event::Fault => self.fault(),
            Event::Start(f) => self.start(f),
            Event::DiskFreed(f) => {
                self.filers[f].free_disk();
                Ok(())
            }
        };
        result?;
        alarms::raised(|text| self.is_expected(text))
    }

    /// Alarms that come with a full disk, or with a store that was set back.
    fn is_expected(&self, text: &str) -> bool {
        let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        let is_full = self.filers.iter().any(|filer| filer.is_disk_full);
        // Or of one on whose copy another promised in its name.
        let is_set_back = self.filers.iter().any(|filer| filer.was_restored.is_some())
            || !self.twice_served.is_empty();
        is_full && has(alarms::OF_A_FULL_DISK) || is_set_back && has(alarms::OF_A_STORE_SET_BACK)
    }

    /// A group of clients' writes, if any are served.
    fn write(&mut self, f: usize) -> Result<(), String> {
        if self.is_over || self.shape.write_pause_max == 0 {
            return Ok(());
        }
        let delay = self.rng.random_range(10 * MS..=self.shape.write_pause_max);
        self.at(delay, Event::Write(f));
        if !self.filers[f].is_ready() {
            return Ok(());
        }
        let Some(which) = throw(&self.shape.workloads, &mut self.rng) else {
            return Ok(());
        };
        let workload = workload::ALL[which];
        let group = workload.group(self, f);
        if let Some(change) = self.tree_asked.take() {
            return self.change_tree(f, change);
        }
        self.commit(f, group).map(drop)
    }

    /// What the driver's threads do each 100 ms.
    fn turn(&mut self, f: usize, life: u64) -> Result<(), String> {
        if self.filers[f].life != life || self.filers[f].running.is_none() {
            return Ok(());
        }
        self.at(100 * MS, Event::Poll(f, life));
        self.poll(f)?;
        // Subscribers are served by filers that are ready.
        let is_ready = self.filers[f].is_ready();
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        if is_ready {
            running.shared().hold_verdicts(false);
        }
        let stable = running.stable()?;
        let before = self.own_stamp(f);
        let is_cut = self.tolerate(f, |running| running.in_background(stable))?;
        if self.own_stamp(f) > before {
            self.wrote(f);
        }
        self.counts.log_cuts += u64::from(is_cut == Some(true));
        self.make_anew(f)?;
        self.step_leave(f)?;
        self.look_at_restored(f);
        self.note_who_admitted(f)?;
        if is_ready {
            self.serve_subscribers(f)?;
            self.step_tree(f)?;
        }
        // Sweeps and collections are rarer: each ten turns or so. In the end all must be done.
        let often = if self.is_over { 0.5 } else { 0.1 };
        if self.rng.random_bool(often) {
            self.collect(f)?;
            self.sweep(f)?;
        }
        self.show(&Seen::Turned(f))
    }

    fn fault(&mut self) -> Result<(), String> {
        if self.is_over || self.shape.fault_pause_max == 0 {
            return Ok(());
        }
        let delay = self.rng.random_range(50 * MS..=self.shape.fault_pause_max);
        self.at(delay, Event::Fault);
        let Some(which) = throw(&self.shape.faults, &mut self.rng) else {
            return Ok(());
        };
        let fault = faults::ALL[which];
        if faults::OF_LINKS.contains(&fault.name()) && self.must_links_hold() {
            return Ok(());
        }
        self.say(|| format!("fault: {}", fault.name()));
        self.counts.faults += 1;
        fault.strike(self)
    }

    /// Any filer.
    pub(crate) fn any(&mut self) -> usize {
        self.rng.random_range(0..self.filers.len())
    }

    pub(crate) fn delay(&mut self) -> u64 {
        if self.rng.random_bool(0.02) {
            self.rng.random_range(MS..800 * MS)
        } else {
            self.rng.random_range(MS / 10..5 * MS)
        }
    }

    /// Whether a message of a connection is lost on its way; then the connection stands still.
    pub(crate) fn is_lost(&mut self, c: u64, from: usize, to: usize) -> bool {
        let loss = self.net.loss[from][to];
        let is_lost = loss > 0.0 && self.rng.random_bool(loss);
        let Some(connection) = self.net.connections.get_mut(&c) else {
            return true;
        };
        connection.is_stalled |= is_lost;
        connection.is_stalled
    }

    pub(crate) fn push_reply(&mut self, c: u64, reply: Reply) {
        let delay = self.delay();
        if let Some(connection) = self.net.connections.get_mut(&c) {
            connection.replies.push_back(reply);
            self.at(delay, Event::Reply(c));
        }
    }
}
