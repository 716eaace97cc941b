// SPDX-License-Identifier: Apache-2.0
//! How far this replica's wall clock is believed. ⚠ What is stamped or promised never goes
//! beyond: a stamp that a fast clock gave cannot be taken back, and drags every other filer's
//! stamps along until their clocks have caught up.

use std::time::Duration;

use dulse_store::{Error, ErrorKind, Operation};
use parking_lot::Mutex;

use crate::metrics;

/// What is told to a replica of its clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockBound {
    /// It is believed.
    Free,
    /// Nothing is known of it yet: local writes are refused, promises stay where they are.
    Held,
    /// What the time is by others, in nanoseconds since 1970, and how far it may lead that.
    Near {
        /// At this moment; it goes on with the monotonic time.
        reference_ns: i64,
        /// Beyond it local writes are refused.
        lead_max: Duration,
    },
}

/// The bound, kept as a difference to the monotonic time.
#[derive(Debug)]
pub(crate) struct Guard(Mutex<Bound>);

#[derive(Clone, Copy, Debug)]
enum Bound {
    Free,
    Held,
    Near { offset: i64, lead_max: i64 },
}

impl Default for Guard {
    fn default() -> Self {
        Self(Mutex::new(Bound::Free))
    }
}

impl Guard {
    pub(crate) fn set(&self, bound: ClockBound, monotonic: Duration) {
        *self.0.lock() = match bound {
            ClockBound::Free => Bound::Free,
            ClockBound::Held => Bound::Held,
            ClockBound::Near {
                reference_ns,
                lead_max,
            } => Bound::Near {
                offset: reference_ns.saturating_sub(nanos(monotonic)),
                lead_max: nanos(lead_max),
            },
        };
    }

    /// The wall clock as far as it is believed.
    pub(crate) fn believed(&self, wall_ns: i64, monotonic: Duration) -> i64 {
        match *self.0.lock() {
            Bound::Free => wall_ns,
            Bound::Held => i64::MIN,
            Bound::Near { offset, lead_max } => {
                let reference = offset.saturating_add(nanos(monotonic));
                wall_ns.min(reference.saturating_add(lead_max))
            }
        }
    }

    /// Whether local writes may be made now.
    ///
    /// # Errors
    ///
    /// `ClockSkew` with how far the clock leads.
    pub(crate) fn check(&self, wall_ns: i64, monotonic: Duration) -> Result<(), Error> {
        let why = match *self.0.lock() {
            Bound::Free => return Ok(()),
            Bound::Held => "the other filers' clocks are not known yet".to_owned(),
            Bound::Near { offset, lead_max } => {
                let lead = wall_ns.saturating_sub(offset.saturating_add(nanos(monotonic)));
                if lead <= lead_max {
                    return Ok(());
                }
                format!(
                    "it leads most of the others by {:.3} s; expected at most {:.3} s. Writes resume \
                     when it is right; other filers take them meanwhile",
                    lead as f64 / 1e9,
                    lead_max as f64 / 1e9
                )
            }
        };
        metrics::CLOCK_REFUSED.add(1);
        Err(Error::new(Operation::Commit, ErrorKind::ClockSkew).with("because", why))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HALF: Duration = Duration::from_millis(500);

    #[test]
    fn the_bound_goes_on_with_the_monotonic_time() {
        let guard = Guard::default();
        assert_eq!(guard.believed(9, SECOND), 9);
        let bound = ClockBound::Near {
            reference_ns: 100_000_000_000,
            lead_max: HALF,
        };
        guard.set(bound, SECOND);
        assert_eq!(guard.believed(100_400_000_000, SECOND), 100_400_000_000);
        assert_eq!(guard.believed(i64::MAX, SECOND), 100_500_000_000);
        assert_eq!(guard.believed(i64::MAX, SECOND * 11), 110_500_000_000);
        assert_eq!(guard.believed(5, SECOND), 5, "a slow clock stays slow");
        assert!(guard.check(100_500_000_000, SECOND).is_ok());
        let refused = guard.check(103_700_000_000_000, SECOND).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ClockSkew);
        assert!(refused.is_retryable());
        assert!(
            refused
                .to_string()
                .contains("leads most of the others by 103600.000 s")
        );
        guard.set(ClockBound::Held, SECOND);
        assert_eq!(guard.believed(5, SECOND), i64::MIN);
        assert!(guard.check(5, SECOND).is_err());
    }
}
