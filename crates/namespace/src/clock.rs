// SPDX-License-Identifier: Apache-2.0
//! The wall clock as an argument: what entries are dated with and expire by.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives nanoseconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Nanoseconds of one second.
const SECOND_NS: i64 = 1_000_000_000;

/// The system's wall clock.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
    })
}

/// A moment as entries carry it: seconds since 1970, and nanoseconds of the present one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    pub(crate) s: i64,
    pub(crate) ns: i32,
}

impl Moment {
    pub(crate) fn of(now_ns: i64) -> Self {
        let ns = now_ns.rem_euclid(SECOND_NS);
        Self {
            s: now_ns.div_euclid(SECOND_NS),
            ns: i32::try_from(ns).unwrap_or(0),
        }
    }
}
