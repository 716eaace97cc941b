// SPDX-License-Identifier: Apache-2.0
//! Watchers: at each filer one with upstream's scalar cursor and one with a vector. When
//! their filer goes away they go on at another.

use std::collections::BTreeSet;

use bytes::Bytes;
use dulse_filer::grpc::subscribe::{Reading, is_older_than_log};
use dulse_merge::Change;
use dulse_proto::filer::SubscribeMetadataResponse;
use dulse_replication::feed::{Cursor, Next};
use dulse_types::{Origin, Stamp, Vector};

use crate::world::World;

/// Bytes of changes that a vector subscriber takes at once: few, so that it stops anywhere.
const PAGE_BYTES: usize = 2_000;

/// One event as a client tells it from others: its stamp, and who made it.
pub(crate) type Told = (Stamp, i32);

/// Two watchers that stay together.
pub(crate) struct Subscriber {
    home: usize,
    /// The life of the home that the streams belong to.
    life: u64,
    pub(crate) scalar: Scalar,
    pub(crate) vector: ByVector,
}

/// A client of upstream's call.
#[derive(Default)]
pub(crate) struct Scalar {
    reading: Option<Reading>,
    /// The stamp of the last event or heartbeat: it resumes there.
    pub(crate) since: Stamp,
    /// Everything up to it came as a state, not as events.
    pub(crate) state: Vector,
    /// A filer that had been set back and did not know it said that all up to it was told.
    pub(crate) in_doubt: Stamp,
    /// Whether it was told all that there is at the cursor, too. Not while its stream is ended or
    /// begins with a state: resuming is inclusive.
    is_through: bool,
    /// Each event it was told since.
    pub(crate) told: Vec<Told>,
    /// Those at exactly the cursor when it resumed: they may be repeated.
    repeatable: BTreeSet<Told>,
}

/// A client whose cursor is a vector.
#[derive(Default)]
pub(crate) struct ByVector {
    pub(crate) at: Vector,
    /// The last violation it saw: a change that does not follow its cursor.
    pub(crate) violation: Option<(Origin, String)>,
}

impl Subscriber {
    pub(crate) fn new(home: usize) -> Self {
        Self {
            home,
            life: 0,
            scalar: Scalar::default(),
            vector: ByVector::default(),
        }
    }
}

impl World {
    /// A filer tells its subscribers what is new; those whose filer is away come here.
    pub(crate) fn serve_subscribers(&mut self, f: usize) -> Result<(), String> {
        let now = self.now;
        if self.filers[f]
            .running
            .as_ref()
            .is_some_and(|r| r.shared().needs_ceiling())
        {
            self.tolerate(f, |running| running.replica.raise_ceiling())?;
        }
        let Some(running) = self.filers[f].running.as_mut() else {
            return Ok(());
        };
        running.tell_watermark(now)?;
        let life = self.filers[f].life;
        let ready: Vec<bool> = self.filers.iter().map(|filer| filer.is_ready()).collect();
        let mut all = std::mem::take(&mut self.subscribers);
        let result = all.iter_mut().enumerate().try_for_each(|(n, subscriber)| {
            if subscriber.home != f && !ready[subscriber.home] {
                self.trace.say(self.now, || {
                    let since = subscriber.scalar.since;
                    format!("subscriber {n} goes on at filer {f} at {since}")
                });
                subscriber.home = f;
                subscriber.life = 0;
            }
            if subscriber.home != f {
                return Ok(());
            }
            if subscriber.life != life {
                subscriber.life = life;
                subscriber.scalar.reading = None;
                subscriber.scalar.is_through = false;
            }
            self.tell_scalar(f, &mut subscriber.scalar)?;
            self.tell_vector(f, &mut subscriber.vector)
        });
        self.subscribers = all;
        result
    }

    fn tell_scalar(&mut self, f: usize, client: &mut Scalar) -> Result<(), String> {
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        let (shared, hub, head) = (running.shared(), &running.hub, &running.head);
        let failed = |e| format!("subscriber at filer {f}: {e}");
        if client.reading.is_none() {
            client.resume();
            let mut reading = Reading::new(client.since, Vec::new());
            if is_older_than_log(&shared, client.since, false).map_err(failed)? {
                if !reading.may_take_state(head.limit) {
                    return Ok(());
                }
                client.take_state(shared.durable_vector(), &mut reading);
                self.counts.too_old += 1;
                self.trace.say(self.now, || {
                    let (since, state) = (client.since, &client.state);
                    format!("filer {f} gives a subscriber the state {state}, it goes on at {since}")
                });
            } else {
                reading.take_late(hub);
            }
            client.reading = Some(reading);
        }
        let Some(reading) = &mut client.reading else {
            return Ok(());
        };
        while let Some(event) = reading.next(hub, head, head.limit).map_err(failed)? {
            self.counts.told += 1;
            let told = (Stamp(event.ts_ns), made_by(&event));
            if client.repeatable.remove(&told) {
                continue;
            }
            client.since = client.since.max(told.0);
            client.told.push(told);
            self.trace.say(self.now, || {
                format!("filer {f} tells a subscriber {told:?}")
            });
        }
        if reading.take_cut().is_some() {
            // Told explicitly: it comes again and takes the state.
            client.reading = None;
            client.is_through = false;
        } else {
            client.is_through = head.limit >= client.since;
            // A heartbeat moves the cursor, too.
            client.since = client.since.max(head.limit);
            if self.filers[f].was_restored.is_some() {
                client.in_doubt = client.in_doubt.max(client.since);
            }
        }
        Ok(())
    }

    fn tell_vector(&mut self, f: usize, client: &mut ByVector) -> Result<(), String> {
        let Some(running) = &self.filers[f].running else {
            return Ok(());
        };
        let shared = running.shared();
        for (origin, _) in shared.durable_vector().iter() {
            let after = client.at.get(origin);
            let mut cursor = Cursor { origin, after };
            loop {
                let next = cursor.next(&shared, PAGE_BYTES);
                match next.map_err(|e| format!("subscriber at filer {f}: {e}"))? {
                    Next::Changes(changes) => client.take(origin, &changes)?,
                    Next::Idle => break,
                    Next::Cut(_) => {
                        client.at = shared.durable_vector();
                        self.counts.too_old += 1;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

impl Scalar {
    /// Whether it was told all that there is up to this stamp.
    pub(crate) fn has_passed(&self, stamp: Stamp) -> bool {
        stamp < self.since || stamp == self.since && self.is_through
    }

    /// It asks again for what comes at its cursor.
    fn resume(&mut self) {
        let since = self.since;
        let last = self.told.iter().filter(|(stamp, _)| *stamp == since);
        self.repeatable = last.copied().collect();
    }

    /// The log does not reach back: the state comes instead, then the log goes on.
    fn take_state(&mut self, state: Vector, reading: &mut Reading) {
        reading.skip_to(&state, self.since.next());
        self.state.merge_max(&state);
        self.told.clear();
        self.repeatable.clear();
        self.since = self.since.next();
    }
}

impl ByVector {
    fn take(&mut self, origin: Origin, changes: &[Bytes]) -> Result<(), String> {
        for payload in changes {
            let change = Change::decode(payload).map_err(|e| e.to_string())?;
            let have = self.at.get(origin);
            if change.prev != have || change.origin != origin {
                let why = format!(
                    "a subscriber at {have} of {origin} was told a change of {} that follows {}",
                    change.origin, change.prev
                );
                self.violation = Some((origin, why));
            }
            self.at.set(origin, change.stamp);
        }
        Ok(())
    }
}

/// The signature of who made the change: the first one.
fn made_by(event: &SubscribeMetadataResponse) -> i32 {
    let notification = event.event_notification.as_ref();
    notification
        .and_then(|n| n.signatures.first().copied())
        .unwrap_or(0)
}
