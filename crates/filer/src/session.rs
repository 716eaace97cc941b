// SPDX-License-Identifier: Apache-2.0
//! Session tokens: what a write returns and later calls wait for.
//!
//! A client that presents its last token reads its own writes at any filer, and writes on
//! top of them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use dulse_replica::Progress;
use dulse_types::{Origin, Stamp, Vector};
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

/// Why a request with tokens is not served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SessionError {
    /// Something is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// ⚠ Those that were left out could be read behind.
    #[error(
        "more than {TOKENS_MAX} session tokens; expected one per filer written to, its greatest"
    )]
    TooMany,
    /// A write has not arrived in time.
    #[error("the write `{0}` has not arrived here yet, try again")]
    Late(SessionToken),
}

/// The tokens of a request: several values, each one token or a comma list.
///
/// # Errors
///
/// `Token`, `TooMany`.
pub fn parse<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<SessionToken>, SessionError> {
    let mut tokens = Vec::new();
    for text in values.flat_map(|value| value.split(',')) {
        if tokens.len() == TOKENS_MAX {
            return Err(SessionError::TooMany);
        }
        tokens.push(text.trim().parse()?);
    }
    Ok(tokens)
}

/// Waits for every write that tokens name, for ten seconds in all.
///
/// # Errors
///
/// `Late`.
pub async fn wait(
    tokens: &[SessionToken],
    progress: &watch::Receiver<Progress>,
) -> Result<(), SessionError> {
    let until = Instant::now() + WAIT_MAX;
    for token in tokens {
        if !token.is_applied_until(progress.clone(), until).await {
            return Err(SessionError::Late(*token));
        }
    }
    Ok(())
}

/// Waits for every write that a request's metadata names; on shared stores, without a progress,
/// there is nothing to wait for.
///
/// # Errors
///
/// `InvalidArgument` for what is no token, `Unavailable` when a write has not arrived in time:
/// the client asks again, here or elsewhere.
pub(crate) async fn wait_for_all(
    metadata: &MetadataMap,
    progress: Option<watch::Receiver<Progress>>,
) -> Result<(), Status> {
    let values = metadata.get_all(METADATA_KEY);
    let texts = values.iter().map(|v| v.to_str().unwrap_or("not ASCII"));
    let bad = |e: SessionError| Status::invalid_argument(e.to_string());
    let tokens = parse(texts).map_err(bad)?;
    let Some(progress) = progress.filter(|_| !tokens.is_empty()) else {
        return Ok(());
    };
    let waited = wait(&tokens, &progress).await;
    waited.map_err(|e| Status::unavailable(e.to_string()))
}

/// What a write that had nothing to do was decided on: everything that was applied here. Of more
/// origins than a request may name, those that changed last; the others are members no more.
#[must_use]
pub fn seen(applied: &Vector) -> Vec<SessionToken> {
    let tokens = applied.iter();
    let tokens = tokens.map(|(origin, stamp)| SessionToken { origin, stamp });
    let mut tokens: Vec<_> = tokens.collect();
    tokens.sort_unstable_by_key(|token| std::cmp::Reverse(token.stamp));
    tokens.truncate(TOKENS_MAX);
    tokens
}

impl SessionToken {
    /// The token as a metadata value.
    pub(crate) fn to_metadata(self) -> AsciiMetadataValue {
        let text = self.to_string();
        let value = AsciiMetadataValue::try_from(text);
        value.unwrap_or_else(|_| AsciiMetadataValue::from_static(""))
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
        let waiting = tokio::spawn(async move { wait(&[token, token], &progress).await });
        report.send_modify(|p| p.applied.set(token.origin, token.stamp));
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[test]
    fn tokens_come_in_several_values_and_in_lists_and_none_is_left_out() {
        let tokens = parse(
            [
                "0000000100000001:5, 0000000200000002:6",
                "0000000300000003:7",
            ]
            .into_iter(),
        );
        assert_eq!(tokens.unwrap().len(), 3);
        assert!(parse(["0000000100000001:5,"].into_iter()).is_err());
        let many = ["0000000100000001:5"; TOKENS_MAX + 1];
        assert_eq!(parse(many.into_iter()), Err(SessionError::TooMany));
        assert!(parse(many.into_iter().skip(1)).is_ok());
    }
}
