// SPDX-License-Identifier: Apache-2.0
//! Repair: filers with equal vectors and unequal digests become equal, without an operator.
//!
//! Each filer repairs itself from what others have: [`round`] walks down from buckets to
//! directories to items, fetches the rows of what differs, and merges them by the rules of the
//! model. The others do the same, so all end with the union. [`serve`] answers, [`watch`]
//! decides when; all three do no IO of their own.

pub(crate) mod driver;
mod remote;
pub mod round;
mod scrub;
pub mod serve;
mod service;
pub mod watch;

pub use scrub::ScrubStatus;
pub use service::RepairService;

use dulse_merge::digest::Sum;
use dulse_proto::repair::Component;
use dulse_types::{Origin, Stamp, Vector};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch as channel};

/// What the tasks of one filer share about repair.
pub(crate) struct Repairs {
    /// Mismatches with peers.
    pub(crate) watch: Mutex<watch::Watch>,
    /// There may be a round to run.
    pub(crate) wake: Notify,
    /// Counts the passes that were asked for.
    pub(crate) ask_scrub: channel::Sender<u64>,
    /// How far the scrub is.
    pub(crate) scrub: channel::Sender<ScrubStatus>,
}

impl Repairs {
    pub(crate) fn new() -> Self {
        Self {
            watch: Mutex::default(),
            wake: Notify::new(),
            ask_scrub: channel::Sender::new(0),
            scrub: channel::Sender::new(ScrubStatus::default()),
        }
    }
}

/// Bytes of rows in one reply.
pub const REPLY_BYTES_MAX: usize = 2 << 20;

/// Items of one fine range: small, so that one that differs costs little.
pub const RANGE_ITEMS: usize = 64;

/// Items of one coarse range: as many fine ones as one of those has items.
pub const COARSE_ITEMS: usize = 64 * RANGE_ITEMS;

/// Ranges of one request.
pub const RANGES_MAX: usize = 4_096;

/// A vector as messages carry it.
#[must_use]
pub fn components(vector: &Vector) -> Vec<Component> {
    let rows = vector.iter().map(|(origin, stamp)| Component {
        origin: origin.0,
        stamp: stamp.0,
    });
    rows.collect()
}

/// The vector of a message.
#[must_use]
pub fn vector(components: &[Component]) -> Vector {
    let rows = components.iter();
    rows.map(|c| (Origin(c.origin), Stamp(c.stamp))).collect()
}

/// A sum as messages carry it.
#[must_use]
pub fn sum_bytes(sum: Sum) -> bytes::Bytes {
    sum.sum.to_be_bytes().to_vec().into()
}

/// The sum of a message; `None` where the bytes are none.
#[must_use]
pub fn sum_of(bytes: &[u8], count: i64) -> Option<Sum> {
    let sum = u128::from_be_bytes(bytes.try_into().ok()?);
    Some(Sum { sum, count })
}
