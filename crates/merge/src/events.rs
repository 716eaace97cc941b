// SPDX-License-Identifier: Apache-2.0
//! Upstream's events, from the record of a change alone.

use bytes::Bytes;
use dulse_types::entry::{ATIME_NEVER, join, split};
use dulse_types::{Entry, Stamp};

use crate::change::{Change, NameStep, Step};

/// One event as upstream's subscribers see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When: one of the stamps its change reserved.
    pub stamp: Stamp,
    /// Where the entry was, for updates, renames and deletes.
    pub old_path: Option<Bytes>,
    /// What it was.
    pub old_entry: Option<Entry>,
    /// Where it is now; absent after a delete.
    pub new_path: Option<Bytes>,
    /// What it is now.
    pub new_entry: Option<Entry>,
    /// Whether a subscriber may drop the old chunks.
    pub delete_chunks: bool,
}

/// The events of a change, in order of their stamps.
#[must_use]
pub fn events(change: &Change) -> Vec<Event> {
    let steps = change.steps.iter().filter_map(|step| match step {
        Step::Name(step) if step.has_event => Some(step),
        _ => None,
    });
    steps.map(|step| event(change, step)).collect()
}

fn event(change: &Change, step: &NameStep) -> Event {
    let stamp = change.first.plus(step.offset);
    let base = step
        .old_entry
        .as_ref()
        .and_then(|raw| Entry::from_bytes(raw.clone()).ok());
    // A further link is born with the content its inode has: that is no old entry.
    let old_entry = if step.is_birth { None } else { base.clone() };
    let old_path = old_entry.as_ref().and(step.hints.first().cloned());
    let is_delete = step.kills.is_some() && !step.is_touch && step.place.is_none();
    let (new_path, new_entry) = if is_delete {
        (None, None)
    } else {
        let path = step.place.as_ref().map(|p| p.path.clone());
        let path = path.or_else(|| step.hints.first().cloned());
        (path, Some(new_entry(step, base.as_ref())))
    };
    Event {
        stamp,
        old_path,
        old_entry,
        new_path,
        new_entry,
        delete_chunks: step.delete_chunks,
    }
}

fn new_entry(step: &NameStep, old: Option<&Entry>) -> Entry {
    let old = old.map(split);
    let atime_ns = old.as_ref().map_or(ATIME_NEVER, |old| old.atime_ns);
    let atime_ns = step.atime_ns.map_or(atime_ns, |atime| atime.max(atime_ns));
    let (old_attributes, old_data) = old
        .map(|old| (old.attributes, old.data))
        .unwrap_or_default();
    let attributes = step.attributes.as_ref().map(|write| &write.value);
    let data = step.data.as_ref().map(|write| &write.value);
    let attributes = attributes.unwrap_or(&old_attributes);
    join(attributes, data.unwrap_or(&old_data), atime_ns)
}
