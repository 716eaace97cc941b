// SPDX-License-Identifier: Apache-2.0
//! What clients do: few paths, so that everything collides.

use bytes::Bytes;
use dulse_store::{Step, Transaction};
use dulse_types::entry::{MODE_DIRECTORY, UnknownFields};
use dulse_types::{Entry, EntryFields, FullPath};
use rand::Rng;
use rand::rngs::StdRng;

const NAMES: [&str; 7] = ["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1", "/hot"];

/// A few transactions that arrive together.
pub(crate) fn group(rng: &mut StdRng) -> Vec<Transaction> {
    (0..rng.random_range(1..4))
        .map(|_| transaction(rng))
        .collect()
}

fn transaction(rng: &mut StdRng) -> Transaction {
    let pick = |rng: &mut StdRng| FullPath::parse(NAMES[rng.random_range(0..NAMES.len())]);
    let (Ok(path), Ok(other)) = (pick(rng), pick(rng)) else {
        return Transaction::default();
    };
    let step = match rng.random_range(0..12) {
        0..=4 => Step::Create {
            path,
            entry: entry(rng),
        },
        5 => Step::Update {
            path,
            entry: entry(rng),
            delete_chunks: true,
        },
        6..=7 => Step::Delete {
            path,
            delete_chunks: true,
        },
        8..=9 => Step::Rename {
            from: path,
            to: other,
        },
        10 => Step::Link {
            from: path,
            to: other,
        },
        _ => Step::KvPut {
            key: Bytes::from_static(b"k"),
            value: vec![rng.random()].into(),
        },
    };
    Transaction {
        steps: vec![step],
        ..Transaction::default()
    }
}

fn entry(rng: &mut StdRng) -> Entry {
    let mut fields = EntryFields::default();
    let is_dir = rng.random_bool(0.4);
    fields.attrs_mut().file_mode = if is_dir {
        MODE_DIRECTORY | 0o755
    } else {
        0o644
    };
    fields.attrs_mut().uid = rng.random_range(0..1000);
    fields.to_entry(&UnknownFields::default())
}
