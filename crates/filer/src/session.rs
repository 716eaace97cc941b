// SPDX-License-Identifier: Apache-2.0
//! Session tokens: what a write returns and later calls wait for.
//!
//! A client that presents its last token reads its own writes at any filer, and writes on
//! top of them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use dulse_replica::Progress;
use dulse_types::{Origin, Stamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// How long a call waits for the writes that its tokens name.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// gRPC metadata key of a token: in the answer to a write, in the requests after it. It may
/// be there several times, one token per filer written to.
pub const METADATA_KEY: &str = "dulse-token";

/// Tokens of one request that count; a session has one per filer it wrote to.
pub(crate) const TOKENS_MAX: usize = 64;

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

/// Waits for every write that a request's metadata names.
///
/// # Errors
///
/// `InvalidArgument` for what is no token, `Unavailable` when a write has not arrived in time:
/// the client asks again, here or elsewhere.
pub(crate) async fn wait_for_all(
    metadata: &MetadataMap,
    progress: impl Fn() -> watch::Receiver<Progress>,
) -> Result<(), Status> {
    let mut until = None;
    for value in metadata.get_all(METADATA_KEY).iter().take(TOKENS_MAX) {
        let text = value.to_str().unwrap_or("not ASCII");
        let token = text.parse::<SessionToken>();
        let token = token.map_err(|e| Status::invalid_argument(e.to_string()))?;
        let until = *until.get_or_insert_with(|| Instant::now() + WAIT_MAX);
        if !token.is_applied_until(progress(), until).await {
            let text = format!("the write `{token}` has not arrived here yet, try again");
            return Err(Status::unavailable(text));
        }
    }
    Ok(())
}

impl SessionToken {
    /// The token as a metadata value.
    pub(crate) fn to_metadata(self) -> AsciiMetadataValue {
        let text = self.to_string();
        let value = AsciiMetadataValue::try_from(text);
        value.unwrap_or_else(|_| AsciiMetadataValue::from_static(""))
    }

    /// Waits until the change is applied here; `false` when it is not in time.
    pub async fn is_applied(self, progress: watch::Receiver<Progress>) -> bool {
        self.is_applied_until(progress, Instant::now() + WAIT_MAX)
            .await
    }

    async fn is_applied_until(
        self,
        mut progress: watch::Receiver<Progress>,
        until: Instant,
    ) -> bool {
        let applied = |p: &Progress| p.applied.get(self.origin) >= self.stamp;
        let waited = tokio::time::timeout_at(until, progress.wait_for(applied)).await;
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
