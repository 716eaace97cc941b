// SPDX-License-Identifier: Apache-2.0
//! What a filer on a shared store reads: its journal's payloads, and values of upstream's stores.

use bytes::Bytes;
use dulse_shared::{Payload, value};

/// A payload that is read is written alike, but for events whose entries are told once.
pub(crate) fn payload(input: &[u8]) {
    let Ok(payload) = Payload::decode(input) else {
        return;
    };
    let again = Payload::decode(&payload.encode());
    assert_eq!(again.as_ref(), Ok(&payload));
}

/// An entry that is read is stored and read alike.
pub(crate) fn stored(input: &[u8]) {
    let Ok(entry) = value::decode(Bytes::copy_from_slice(input)) else {
        return;
    };
    let Ok(fields) = entry.fields() else {
        return;
    };
    let again = value::decode(value::encode(&entry)).expect("what was written");
    assert_eq!(again.fields().ok(), Some(fields));
}

/// The small files of a filer on a shared store.
pub(crate) fn notes(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        dulse_filer::check_notes(text);
    }
}

/// A list of names in Redis that is read is written alike.
pub(crate) fn skip_list(input: &[u8]) {
    dulse_store_redis::check_skip_list(input);
}
