// SPDX-License-Identifier: Apache-2.0
//! A wall clock that tests set wrong while a filer runs. Never used without the hidden flag
//! `--test-clock-offset-file`, which is no key of the configuration and no variable.

use std::path::PathBuf;
use std::time::Duration;

use dulse_replica::{Clock, SystemClock};

/// The system's clock and what a file says, whole milliseconds; a file that is not there or says
/// nothing of the kind says 0.
pub(crate) struct WrongClock(pub(crate) PathBuf);

impl Clock for WrongClock {
    fn now_ns(&self) -> i64 {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let wrong_by_ms: i64 = text.trim().parse().unwrap_or(0);
        SystemClock
            .now_ns()
            .saturating_add(wrong_by_ms.saturating_mul(1_000_000))
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}
