// SPDX-License-Identifier: Apache-2.0
//! Between messages and values.

use dulse_proto::replication::{Hello, Known, Position};
use dulse_types::{Origin, ServerAddress, Stamp, Vector};

use crate::{Inner, PROTOCOL};

/// Format of changes this version writes and reads.
pub(crate) const FORMAT: u32 = dulse_merge::codec::CHANGE_VERSION as u32;

pub(crate) fn positions(vector: &Vector) -> Vec<Position> {
    vector
        .iter()
        .map(|(origin, stamp)| Position {
            origin: origin.0,
            stamp: stamp.0,
        })
        .collect()
}

pub(crate) fn vector(positions: &[Position]) -> Vector {
    positions
        .iter()
        .map(|p| (Origin(p.origin), Stamp(p.stamp)))
        .collect()
}

pub(crate) fn known(inner: &Inner) -> Vec<Known> {
    let own = Known {
        origin: inner.origin().0,
        address: inner.options.address.to_string(),
    };
    let peers = inner.table.known();
    let peers = peers.into_iter().map(|(origin, address)| Known {
        origin: origin.0,
        address: address.to_string(),
    });
    std::iter::once(own).chain(peers).collect()
}

/// Addresses that parse; the others are no use.
pub(crate) fn addresses(known: &[Known]) -> Vec<(Origin, ServerAddress)> {
    let parsed = known
        .iter()
        .filter_map(|k| Some((Origin(k.origin), k.address.parse().ok()?)));
    parsed.collect()
}

/// Whether this filer has no history: nobody ever joined, itself included.
pub(crate) fn is_fresh(inner: &Inner) -> bool {
    inner
        .store
        .shared()
        .members()
        .is_ok_and(|members| members.is_empty())
}

pub(crate) fn hello(inner: &Inner) -> Hello {
    Hello {
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
        features: 0,
        group: inner.options.group.clone(),
        store_kind: "embedded".to_owned(),
        origin: inner.origin().0,
        format: FORMAT,
        address: inner.options.address.to_string(),
        is_fresh: is_fresh(inner),
        is_ready: inner.ready.borrow().is_none(),
        vector: positions(&inner.store.shared().vector()),
        known: known(inner),
    }
}

/// Why two filers cannot talk; `None` when they can.
pub(crate) fn mismatch(inner: &Inner, other: &Hello) -> Option<String> {
    if other.group != inner.options.group {
        let ours = &inner.options.group;
        return Some(format!(
            "filer group `{}` differs from ours, `{ours}`",
            other.group
        ));
    }
    if other.protocol_min > PROTOCOL || other.protocol_max < PROTOCOL {
        return Some(format!(
            "protocol {}..={} does not include ours, {PROTOCOL}: upgrade the older filer",
            other.protocol_min, other.protocol_max
        ));
    }
    if other.store_kind != "embedded" {
        return Some(format!(
            "store kind `{}` cannot replicate with ours",
            other.store_kind
        ));
    }
    None
}
