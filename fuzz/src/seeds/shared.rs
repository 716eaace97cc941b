// SPDX-License-Identifier: Apache-2.0
//! Payloads of a shared store's journal, and values of upstream's stores.

use dulse_shared::value;
use dulse_types::{Entry, Origin};

use super::{entries, golden};

const PAYLOADS: &str = include_str!("../../../crates/shared/tests/golden/payloads.txt");

const SKIP_LISTS: &str = include_str!("../../../crates/stores/redis/tests/golden/skip_lists.txt");

/// Lists of names as upstream's filer wrote them.
pub(crate) fn skip_lists() -> Vec<Vec<u8>> {
    golden(SKIP_LISTS)
}

/// Golden payloads.
pub(crate) fn payloads() -> Vec<Vec<u8>> {
    golden(PAYLOADS)
}

/// Small files of a filer on a shared store.
pub(crate) fn notes() -> Vec<Vec<u8>> {
    let (a, b) = (Origin(0x1234_5678_9abc_def1), Origin(2 << 32 | 7));
    let floors = format!("{b} 0\n{a} 1764143580123456789\n");
    vec![floors.into_bytes(), b"1764143580123456789\n".to_vec()]
}

/// Entries as they are stored.
pub(crate) fn stored() -> Vec<Vec<u8>> {
    let entries = entries().into_iter().map(bytes::Bytes::from);
    let entries = entries.filter_map(|bytes| Entry::from_bytes(bytes).ok());
    entries
        .map(|entry| value::encode(&entry).to_vec())
        .collect()
}
