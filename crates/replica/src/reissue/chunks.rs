// SPDX-License-Identifier: Apache-2.0
//! Chunks that only one store ever named.

use std::collections::BTreeSet;

use dulse_merge::change::Step;
use dulse_merge::{Change, NameStep};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::entry::{DataPart, file_id_of, split};
use dulse_types::{Entry, FileId};

use super::Known;
use crate::shared::Shared;

/// Log read at once, in bytes.
const READ_BYTES: usize = 1 << 20;

/// The chunks that were named first by changes that nobody else has.
///
/// ⚠ A write names chunks of what it replaces and new ones, so the new ones of those changes are
/// known to nobody who could have freed them. Not so what was
/// taken out of a manifest: others may have known it there. The log holds all such changes: it is kept until
/// every member has it. What it should lack all the same is taken for known to others.
///
/// Cost: one reading of those changes.
///
/// # Errors
///
/// `Corrupt`, `DiskFull`, `Io`.
pub(crate) fn named_here_alone(shared: &Shared, known: &Known) -> Result<BTreeSet<FileId>, Error> {
    // Of what is not on disk the log says nothing.
    shared.sync()?;
    let mut chunks = BTreeSet::new();
    for (origin, stamp) in known.iter() {
        let mut after = stamp;
        loop {
            let records = shared.changes_after(origin, after, READ_BYTES)?;
            for record in &records {
                let change = Change::decode(&record.payload);
                let change = change
                    .map_err(|e| Error::new(Operation::Transfer, ErrorKind::Corrupt).source(e))?;
                for step in &change.steps {
                    if let Step::Name(step) = step {
                        chunks.extend(new_chunks(step));
                    }
                }
            }
            match records.last() {
                Some(last) if last.stamp > after => after = last.stamp,
                _ => break,
            }
        }
    }
    Ok(chunks)
}

fn new_chunks(step: &NameStep) -> Vec<FileId> {
    let Some(data) = &step.data else {
        return Vec::new();
    };
    let old = match step.old_entry.clone().map(Entry::from_bytes) {
        Some(Ok(old)) => split(&old).data,
        None => DataPart::default(),
        Some(Err(_)) => return Vec::new(),
    };
    let mut named = data.value.file_ids();
    // ⚠ What the new value has may have come out of a manifest that it has no more.
    let manifests = old.manifests();
    let mut manifests = manifests.iter().filter_map(|chunk| file_id_of(chunk));
    if manifests.any(|manifest| !named.contains(&manifest)) {
        return Vec::new();
    }
    let mut had = old.file_ids();
    had.extend_from_slice(&step.moved_chunks);
    named.retain(|chunk| !had.contains(chunk));
    named
}
