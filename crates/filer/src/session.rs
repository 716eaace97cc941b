// SPDX-License-Identifier: Apache-2.0
//! Session tokens: what a write returns and a read waits for.
//!
//! A client that presents its last token reads its own writes at any filer.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use dulse_replica::Progress;
use dulse_types::{Origin, Stamp};
use tokio::sync::watch;

/// How long a read waits for the write that its token names.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Position of a change: whose log, and where in it. Text form `origin:stamp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionToken {
    /// Whose change.
    pub origin: Origin,
    /// Its stamp.
    pub stamp: Stamp,
}

/// A text that is no token.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no session token; expected `origin:stamp`")]
pub struct TokenError(String);

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.stamp.0)
    }
}

impl FromStr for SessionToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let bad = || TokenError(text.to_owned());
        let (origin, stamp) = text.split_once(':').ok_or_else(bad)?;
        Ok(Self {
            origin: origin.parse().map_err(|_| bad())?,
            stamp: Stamp(stamp.parse().map_err(|_| bad())?),
        })
    }
}

impl SessionToken {
    /// Waits until the change is applied here; `false` when it is not in time.
    pub async fn is_applied(self, mut progress: watch::Receiver<Progress>) -> bool {
        let applied = |p: &Progress| p.applied.get(self.origin) >= self.stamp;
        let waited = tokio::time::timeout(WAIT_MAX, progress.wait_for(applied)).await;
        waited.is_ok_and(|seen| seen.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_as_text() {
        let token = SessionToken {
            origin: Origin::new(7, 9).unwrap(),
            stamp: Stamp(1_795_350_754_000_000_001),
        };
        assert_eq!(token.to_string().parse(), Ok(token));
        for bad in ["", "x", "1:", ":1", "1:x", "é:1"] {
            assert!(bad.parse::<SessionToken>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_read_waits_for_its_write() {
        let token = SessionToken {
            origin: Origin::new(7, 9).unwrap(),
            stamp: Stamp(5),
        };
        let (report, progress) = watch::channel(Progress::default());
        let waiting = tokio::spawn(token.is_applied(progress));
        report.send_modify(|p| p.applied.set(token.origin, token.stamp));
        assert!(waiting.await.unwrap());
    }
}
