// SPDX-License-Identifier: Apache-2.0
//! I8: each subscriber sees each change exactly once per cursor, or an explicit answer.
//! Design §13.
//!
//! Its ground: what subscribers were told to be complete stays complete; nothing comes at
//! or below a watermark that was told.

use std::collections::{BTreeMap, BTreeSet};

use dulse_merge::Change;
use dulse_replica::Applied;
use dulse_types::{Origin, Stamp, Vector};

use super::{Check, Seen, is_gone};
use crate::filer::Filer;
use crate::subscribers::{Subscriber, Told};
use crate::world::World;

/// Every event there ever was.
#[derive(Default)]
pub(crate) struct Watching {
    events: BTreeMap<Told, Origin>,
    /// Up to where the events of an origin are known.
    seen: BTreeMap<Origin, Stamp>,
}

impl Check for Watching {
    fn name(&self) -> &'static str {
        "I8"
    }

    fn saw(&mut self, world: &World, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { filer, results, .. } => {
                let Some(running) = &world.filers[*filer].running else {
                    return Ok(());
                };
                let mark = running.watermark;
                let mut stamps = results.iter().flatten().map(|commit| commit.stamp);
                if let Some(stamp) = stamps.find(|stamp| *stamp <= mark) {
                    return Err(format!("own change at {stamp} below the watermark {mark}"));
                }
                self.note(running.origin(), &running.shared())?;
            }
            Seen::Applied {
                filer,
                changes,
                results,
                ..
            } => {
                let Some(running) = &world.filers[*filer].running else {
                    return Ok(());
                };
                // One that was set back and is alone by its own list serves before it hears of
                // what it lost.
                if world.filers[*filer].was_restored.is_none() {
                    above(world, *filer, running.watermark, changes, results)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Result<(), String> {
        // What only a filer had that was shut out is told when it is made anew.
        let mut arrived = Vector::new();
        for running in world.filers.iter().filter_map(|f| f.running.as_ref()) {
            arrived.merge_max(&running.shared().vector());
        }
        for (n, subscriber) in world.subscribers.iter().enumerate() {
            if let Some((origin, violation)) = &subscriber.vector.violation
                && !world.is_promise_of_two(*origin)
            {
                return Err(violation.clone());
            }
            self.each_once(n, subscriber, &arrived, world)?;
        }
        Ok(())
    }

    fn at_end(&mut self, world: &World) -> Result<(), String> {
        self.at_rest(world)?;
        let first = world.filers.iter().find_map(|f| f.running.as_ref());
        let Some(running) = first else {
            return Ok(());
        };
        let vector = running.shared().vector();
        // What no disk holds any more nobody can be told of.
        let arrived = self.events.iter().filter(|((stamp, _), origin)| {
            *stamp <= vector.get(**origin) && !world.is_promise_of_two(**origin)
        });
        let last = arrived.map(|(told, _)| told.0).next_back();
        let last = last.unwrap_or(Stamp::ZERO);
        for (n, subscriber) in world.subscribers.iter().enumerate() {
            let since = subscriber.scalar.since;
            if since < last {
                let members = running.membership()?;
                let filers = world.filers.iter().filter_map(|f| f.running.as_ref());
                let marks: Vec<Stamp> = filers.map(|r| r.watermark).collect();
                return Err(format!(
                    "subscriber {n} hangs at {since}, the last event is {last}, the filers' \
                     watermarks are {marks:?}, {members:?}"
                ));
            }
            let at = &subscriber.vector.at;
            // What it was told of one that was set back since is there no more.
            let is_behind = |(origin, has): (Origin, Stamp)| at.get(origin) < has;
            if vector.iter().any(is_behind) {
                return Err(format!("vector subscriber {n} hangs at {at} of {vector}"));
            }
        }
        Ok(())
    }
}

impl Watching {
    /// The events of the last changes of an origin.
    fn note(&mut self, origin: Origin, shared: &dulse_replica::Shared) -> Result<(), String> {
        let after = self.seen.get(&origin).copied().unwrap_or(Stamp::ZERO);
        let records = shared.changes_after(origin, after, usize::MAX);
        for record in records.map_err(|e| e.to_string())? {
            let change = Change::decode(&record.payload).map_err(|e| e.to_string())?;
            for event in dulse_merge::events(&change) {
                self.events
                    .insert((event.stamp, origin.signature()), origin);
            }
            self.seen.insert(origin, record.stamp);
        }
        Ok(())
    }

    /// What a subscriber was told since it took a state: every event up to its cursor that
    /// the state lacks, each once, in order.
    fn each_once(
        &self,
        n: usize,
        subscriber: &Subscriber,
        arrived: &Vector,
        world: &World,
    ) -> Result<(), String> {
        let client = &subscriber.scalar;
        if let Some(pair) = client.told.windows(2).find(|pair| pair[0].0 > pair[1].0) {
            return Err(format!(
                "subscriber {n} was told {:?} before {:?}",
                pair[0], pair[1]
            ));
        }
        let told: BTreeSet<Told> = client.told.iter().copied().collect();
        if told.len() < client.told.len() {
            return Err(format!("subscriber {n} was told an event twice"));
        }
        let expected = self.events.iter().filter(|((stamp, _), origin)| {
            let has_arrived = *stamp <= arrived.get(**origin) && !world.is_promise_of_two(**origin);
            let is_of_set_back = has_admitted_and_was_set_back(world, **origin)
                || is_of_one_set_back(world, **origin);
            let has_arrived = has_arrived && !is_of_set_back;
            has_arrived
                && client.has_passed(*stamp)
                && *stamp > client.in_doubt
                && *stamp > client.state.get(**origin)
        });
        let missing: Vec<_> = expected
            .map(|(e, _)| e)
            .filter(|e| !told.contains(*e))
            .collect();
        if !missing.is_empty() {
            let since = client.since;
            return Err(format!(
                "subscriber {n} at {since} was never told {} events: {:?}",
                missing.len(),
                &missing[..missing.len().min(4)]
            ));
        }
        Ok(())
    }
}

/// Nothing comes below a watermark that was told.
fn above(
    world: &World,
    f: usize,
    mark: Stamp,
    changes: &[bytes::Bytes],
    results: &[Applied],
) -> Result<(), String> {
    for (payload, result) in changes.iter().zip(results) {
        if *result != Applied::Now {
            continue;
        }
        let change = Change::decode(payload).map_err(|e| e.to_string())?;
        let is_excused = world.is_promise_of_two(change.origin)
            || is_beyond(world, f, change.origin)
            || is_of_one_set_back(world, change.origin);
        if change.stamp <= mark && !is_excused {
            let (stamp, origin) = (change.stamp, change.origin);
            return Err(format!(
                "a change of {origin} at {stamp} arrived below the watermark {mark}"
            ));
        }
    }
    Ok(())
}

/// Whether a store took another origin that had let somebody join: what it had done lately that
/// one may have alone, and nobody waits for it.
fn has_admitted_and_was_set_back(world: &World, origin: Origin) -> bool {
    let mut admitted = world.admitted_by.iter();
    let has_admitted = admitted.any(|(joiner, by)| *by == origin && *joiner != origin);
    has_admitted && world.counts.restored > 0 && world.given_up.contains(&origin)
}

/// Whether the join of an origin was journaled by a store that took another one since: it may
/// have been set back before anybody heard of the join.
fn is_of_one_set_back(world: &World, origin: Origin) -> bool {
    let by = world.admitted_by.get(&origin);
    by.is_some_and(|by| *by != origin && world.given_up.contains(by))
}

/// Whether a change comes from the other side of a split.
fn is_beyond(world: &World, f: usize, origin: Origin) -> bool {
    let origins = world.filers.iter().filter_map(|filer| filer.origin);
    let has_others = origins
        .into_iter()
        .any(|other| is_unheard_of(world, f, other));
    is_unheard_of(world, f, origin)
        || is_gone(world, origin) && (has_others || has_crossed(world, f))
}

/// Whether somebody joined at one that this filer holds for no member any more: it was on the
/// other side of a split, and brings what that one did there.
fn has_crossed(world: &World, f: usize) -> bool {
    let running = |filer: &Filer| filer.running.as_ref().and_then(|r| r.membership().ok());
    let Some(membership) = running(&world.filers[f]) else {
        return false;
    };
    let mut others = world.filers.iter().filter_map(|o| o.running.as_ref());
    others.any(|other| {
        let joined = other.shared().joined().unwrap_or_default();
        membership
            .gone
            .iter()
            .any(|gone| gone.origin == joined.origin)
    })
}

/// Whether somebody's join was journaled by one that this filer holds for no member, beyond what
/// it took of that: it is on the other side of a split, and nobody waited for it. Of an origin
/// under which two wrote, what was taken of it does not say whether the join was.
pub(super) fn is_unheard_of(world: &World, f: usize, origin: Origin) -> bool {
    let running = |f: usize| world.filers[f].running.as_ref();
    let Some(membership) = running(f).and_then(|r| r.membership().ok()) else {
        return false;
    };
    let mut filers = (0..world.filers.len()).filter_map(running);
    let Some(other) = filers.find(|other| other.origin() == origin) else {
        return false;
    };
    let joined = other.shared().joined().unwrap_or_default();
    let applied = running(f).map(|r| r.shared().vector()).unwrap_or_default();
    let is_member = |of: Origin| membership.members.iter().any(|(member, _)| *member == of);
    let is_of_another_past = world.parted.contains(&joined.origin) && !is_member(origin);
    is_of_another_past || !is_member(joined.origin) && !applied.covers(joined)
}
