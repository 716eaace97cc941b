// SPDX-License-Identifier: Apache-2.0
//! Request ids: one name for a request in the logs of all processes that it touches.
//!
//! The id is that of the task that serves the request, and of tasks begun with [`carried`].
//! Tracing's spans cannot be asked for their values, so it is kept beside them.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tracing::{Instrument, Span};

/// Upstream's name of the header and of the gRPC metadata; ours everywhere, too.
pub const HEADER: HeaderName = HeaderName::from_static("x-amz-request-id");

/// What proxies send; taken where upstream's is not there.
pub const PROXY_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over, in bytes: a longer one is no id.
const LEN_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// Names a request. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id that a request came with, or a new one. One that is empty, too long or holds
    /// anything but visible ASCII is not taken over, since it goes into logs and headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let sent = headers.get(HEADER).or_else(|| headers.get(PROXY_HEADER));
        let sent = sent.and_then(|value| value.to_str().ok());
        match sent {
            Some(id) if is_id(id) => Self(id.into()),
            _ => Self::random(),
        }
    }

    /// 24 upper case hexadecimal digits, upstream's form.
    #[must_use]
    pub fn random() -> Self {
        let (high, low) = (rand::random::<u64>(), rand::random::<u32>());
        Self(format!("{high:016X}{low:08X}").into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a header's value.
    ///
    /// # Panics
    ///
    /// Never: an id is visible ASCII.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("an id is visible ASCII")
    }
}

fn is_id(text: &str) -> bool {
    (1..=LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of the request that this task serves.
#[must_use]
pub fn current() -> Option<RequestId> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Serves a request under its id.
pub async fn scope<F: Future>(id: RequestId, serving: F) -> F::Output {
    CURRENT.scope(id, serving).await
}

/// A request's id and span, taken along to where its work goes on: another task, or the body
/// of an answer that is made while it is sent.
#[derive(Clone, Debug)]
pub struct Carrier {
    id: Option<RequestId>,
    span: Span,
}

impl Carrier {
    /// Of the request that this task serves.
    #[must_use]
    pub fn here() -> Self {
        Self {
            id: current(),
            span: Span::current(),
        }
    }

    /// A future under that request's id and span.
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let id = self.id.clone();
        let future = future.instrument(self.span.clone());
        async move {
            match id {
                Some(id) => scope(id, future).await,
                None => future.await,
            }
        }
    }
}

/// A future for a task of its own that goes on under the present request's id and span.
pub fn carried<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
    Carrier::here().run(future)
}

/// The present request's id as headers, or gRPC metadata, of a request to another server;
/// empty outside of a request.
#[must_use]
pub fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    pass_on(&mut headers);
    headers
}

/// Puts the present request's id into the headers of a request to another server.
pub fn pass_on(headers: &mut HeaderMap) {
    if let Some(id) = current() {
        headers.insert(HEADER, id.value());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: HeaderName, value: &[u8]) -> RequestId {
        let value = HeaderValue::from_bytes(value).expect("a header");
        RequestId::of(&HeaderMap::from_iter([(name, value)]))
    }

    #[test]
    fn an_id_is_taken_over_where_it_is_one() {
        assert_eq!(of(HEADER, b"abc-1").as_str(), "abc-1");
        assert_eq!(of(PROXY_HEADER, b"f3").as_str(), "f3");
        for bad in [&b"two words"[..], b"", b"\xff", &[b'a'; 129]] {
            let made = of(HEADER, bad);
            assert_eq!(made.as_str().len(), 24, "{made}");
        }
    }

    #[test]
    fn an_id_is_new_where_none_came() {
        let (a, b) = (
            RequestId::of(&HeaderMap::new()),
            RequestId::of(&HeaderMap::new()),
        );
        assert_ne!(a, b);
        assert_eq!(a.value().to_str().ok(), Some(a.as_str()));
    }
}
