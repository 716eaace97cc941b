// SPDX-License-Identifier: Apache-2.0
//! Entries, paths and transactions.

use dulse_store::{Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FullPath};
use rand::Rng;
use rand::rngs::StdRng;

/// A path of these; the constants are valid.
#[expect(clippy::expect_used, reason = "constant paths")]
pub(crate) fn path(path: &str) -> FullPath {
    FullPath::parse(path).expect("a constant path")
}

/// One of these paths.
pub(crate) fn any_path(paths: &[&str], rng: &mut StdRng) -> FullPath {
    path(paths[rng.random_range(0..paths.len())])
}

/// A transaction of one step.
pub(crate) fn one(step: Step) -> Transaction {
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

/// A file without content.
pub(crate) fn file(rng: &mut StdRng) -> Entry {
    entry(0o644, rng)
}

/// A directory.
pub(crate) fn directory(rng: &mut StdRng) -> Entry {
    entry(MODE_DIRECTORY | 0o755, rng)
}

/// A file that holds a number.
pub(crate) fn numbered(number: u32, rng: &mut StdRng) -> Entry {
    let entry = file(rng);
    let Ok(mut fields) = entry.fields() else {
        return entry;
    };
    fields.attrs_mut().mtime = i64::from(number);
    fields.to_entry(&UnknownFields::default())
}

/// The number that it holds.
pub(crate) fn number_of(entry: &Entry) -> u32 {
    let mtime = entry.fields().map_or(0, |fields| fields.attrs().mtime);
    u32::try_from(mtime).unwrap_or(0)
}

fn entry(mode: u32, rng: &mut StdRng) -> Entry {
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = mode;
    fields.attrs_mut().uid = rng.random_range(0..1000);
    fields.to_entry(&UnknownFields::default())
}
