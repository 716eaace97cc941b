// SPDX-License-Identifier: Apache-2.0
//! The master's file, and what clients say about volumes.

use dulse_master::topology::{parse_replication, parse_ttl};

/// `master.json`, a replica placement, a time to live.
pub(crate) fn state(input: &[u8]) {
    dulse_master::fuzz::state(input);
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = (parse_replication(text), parse_ttl(text));
    }
}
