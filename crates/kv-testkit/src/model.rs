// SPDX-License-Identifier: Apache-2.0
//! The plainest store there is, to compare with.

use std::collections::BTreeMap;

use bytes::Bytes;
use dulse_kv::{Batch, Read, ReadExt};
use rand::Rng;
use rand::rngs::StdRng;

/// Rows by key.
pub(crate) type Model = BTreeMap<Vec<u8>, Bytes>;

/// An end behind every key that cases use.
pub(crate) const END: &[u8] = &[0xff; 64];

pub(crate) fn apply(model: &mut Model, batch: &Batch) {
    for (key, value) in &batch.writes {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

/// Every row of a reader.
pub(crate) fn all(read: &dyn Read) -> Model {
    let rows = read.scan(b"", END, usize::MAX).expect("scan every row");
    rows.into_iter().map(|(k, v)| (k.to_vec(), v)).collect()
}

/// A batch that writes one value to a key.
pub(crate) fn put(key: &[u8], value: &[u8]) -> Batch {
    puts([(key, value)])
}

/// A batch that writes several.
pub(crate) fn puts<'a>(rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Batch {
    let write = |(key, value): (&[u8], &[u8])| (key.to_vec(), Some(Bytes::copy_from_slice(value)));
    let writes = rows.into_iter().map(write).collect();
    Batch { writes }
}

/// A batch that removes keys.
pub(crate) fn removes<'a>(keys: impl IntoIterator<Item = &'a [u8]>) -> Batch {
    let writes = keys.into_iter().map(|key| (key.to_vec(), None)).collect();
    Batch { writes }
}

/// A short key of few different bytes, so that keys meet, prefix one another and touch both
/// ends of the alphabet.
pub(crate) fn random_key(random: &mut StdRng) -> Vec<u8> {
    let length = random.random_range(0..5);
    let byte = |random: &mut StdRng| [0, 1, b'/', b'a', 0xfe, 0xff][random.random_range(0..6)];
    (0..length).map(|_| byte(random)).collect()
}

/// A value that is mostly short and sometimes many pages long.
pub(crate) fn random_value(random: &mut StdRng) -> Bytes {
    let length = match random.random_range(0..20) {
        0 => random.random_range(0..40_000),
        1 => 0,
        _ => random.random_range(0..300),
    };
    let fill: u8 = random.random();
    (0..length)
        .map(|at: usize| fill.wrapping_add(at as u8))
        .collect()
}

/// A batch in which each key appears once.
pub(crate) fn random_batch(random: &mut StdRng, rows_max: usize) -> Batch {
    let n = random.random_range(0..=rows_max);
    let rows: BTreeMap<_, _> = (0..n)
        .map(|_| {
            let is_put = random.random_bool(0.7);
            (random_key(random), is_put.then(|| random_value(random)))
        })
        .collect();
    let writes = rows.into_iter().collect();
    Batch { writes }
}
