// SPDX-License-Identifier: Apache-2.0
//! HTTP to volume servers over kept connections.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use dulse_transport::{Guarded, HttpClient, Transport};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, RANGE};
use http::request::Builder;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

/// How long one request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest error text read of an answer.
const ERROR_LEN_MAX: usize = 4096;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("`{url}` is no address of a volume server: {source}")]
    Address { url: String, source: http::Error },
    #[error("no connection to {server}: {reason}")]
    Refused { server: String, reason: String },
    #[error("no answer from {server}: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("{server} answered {status}: {text}")]
    Status {
        server: String,
        status: StatusCode,
        text: String,
    },
    #[error("{server} sent {got} bytes instead of {expected}")]
    Length {
        server: String,
        got: u64,
        expected: u64,
    },
    #[error("{server} sent encoded bytes that were not asked for")]
    Encoded { server: String },
}

impl WireError {
    /// Whether the server said that it has no such chunk.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// Whether the request certainly changed nothing. A 500 does not say so: upstream keeps
    /// its own copy when another one was not written.
    pub(crate) fn is_not_applied(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Refused { .. } => true,
            Self::Status { status, .. } => status.is_client_error(),
            _ => false,
        }
    }
}

/// One pooled client.
pub(crate) struct Wire {
    client: HttpClient<Full<Bytes>>,
    transport: Transport,
}

/// What to upload.
pub(crate) struct Put<'a> {
    pub(crate) server: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) auth: &'a str,
    /// Base64 of the MD5, which the server compares.
    pub(crate) md5: &'a str,
    pub(crate) body: Bytes,
}

impl Wire {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            client: transport.http_client(),
            transport,
        }
    }

    fn url(&self, server: &str, path: &str, query: &str) -> String {
        let scheme = self.transport.http_scheme();
        format!("{scheme}://{server}/{path}{query}")
    }

    /// Leave to use a needle: a header for it, where there is a key.
    ///
    /// - `path`: its id; ids assigned together (`3,01cookie_1`) share that of the first.
    fn leave(&self, guarded: Guarded, path: &str) -> Option<HeaderValue> {
        let id = path.split_once('_').map_or(path, |(first, _)| first);
        let token = self.transport.tokens().sign_file(guarded, id);
        let header = HeaderValue::try_from(format!("Bearer {token}"));
        header.ok().filter(|_| !token.is_empty())
    }

    fn reading(&self, server: &str, path: &str, query: &str) -> Builder {
        let request = Request::builder().uri(self.url(server, path, query));
        match self.leave(Guarded::VolumeRead, path) {
            Some(leave) => request.header(AUTHORIZATION, leave),
            None => request,
        }
    }

    /// Writes a needle. Raw bytes, not a form: both sides save the framing.
    pub(crate) async fn put(&self, put: Put<'_>) -> Result<(), WireError> {
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri(self.url(put.server, put.path, put.query))
            .header("content-md5", put.md5);
        if !put.auth.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", put.auth));
        } else if let Some(leave) = self.leave(Guarded::VolumeWrite, put.path) {
            // A master that does not sign leaves it to us.
            request = request.header(AUTHORIZATION, leave);
        }
        let request = request.body(Full::new(put.body));
        let request = request.map_err(|e| address(put.server, e))?;
        within(put.server, async {
            let response = self.send(put.server, request).await?;
            // The answer is small; reading it frees the connection for the next request.
            let body = Limited::new(response.into_body(), ERROR_LEN_MAX).collect();
            body.await.map_err(|e| unreachable(put.server, &*e))?;
            Ok(())
        })
        .await
    }

    /// Passes a read on and the answer back, whatever its status; the body is streamed.
    pub(crate) async fn forward(
        &self,
        server: &str,
        path: &str,
        method: Method,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, WireError> {
        let request = Request::builder()
            .method(method)
            .uri(self.url(server, path, ""))
            .body(Full::new(Bytes::new()));
        let mut request = request.map_err(|e| address(server, e))?;
        *request.headers_mut() = headers;
        if let Some(leave) = self.leave(Guarded::VolumeRead, path) {
            request.headers_mut().insert(AUTHORIZATION, leave);
        }
        dulse_telemetry::request::pass_on(request.headers_mut());
        let response = tokio::time::timeout(REQUEST_TIMEOUT, self.client.request(request)).await;
        let reason = match response {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => return Err(unreachable(server, &error)),
            Err(_) => format!("no head within {REQUEST_TIMEOUT:?}"),
        };
        Err(WireError::Unreachable {
            server: server.to_owned(),
            reason,
        })
    }

    /// Reads a needle of unknown length, at most `limit` bytes.
    pub(crate) async fn get_all(
        &self,
        server: &str,
        path: &str,
        limit: usize,
    ) -> Result<Bytes, WireError> {
        let request = self.reading(server, path, "?readDeleted=true");
        let request = request.body(Full::new(Bytes::new()));
        let request = request.map_err(|e| address(server, e))?;
        within(server, async {
            let response = self.send(server, request).await?;
            let body = Limited::new(response.into_body(), limit).collect();
            let body = body.await.map_err(|e| unreachable(server, &*e))?;
            Ok(body.to_bytes())
        })
        .await
    }

    /// Reads `range` of a needle of `whole` clear bytes, as the frames that arrive.
    pub(crate) async fn get(
        &self,
        server: &str,
        path: &str,
        range: Range<u64>,
        whole: u64,
    ) -> Result<Vec<Bytes>, WireError> {
        let mut request = self.reading(server, path, "?readDeleted=true");
        let is_part = range.start > 0 || range.end < whole;
        if is_part {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        let request = request.body(Full::new(Bytes::new()));
        let request = request.map_err(|e| address(server, e))?;
        within(server, async {
            let response = self.send(server, request).await?;
            let encoding = response.headers().get(CONTENT_ENCODING);
            if encoding.is_some_and(|e| e != "identity") {
                let server = server.to_owned();
                return Err(WireError::Encoded { server });
            }
            if is_part && !response.headers().contains_key(CONTENT_RANGE) {
                let frames = frames(server, response, whole).await?;
                return Ok(cut(frames, range));
            }
            frames(server, response, range.end - range.start).await
        })
        .await
    }

    async fn send(
        &self,
        server: &str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, WireError> {
        dulse_telemetry::request::pass_on(request.headers_mut());
        let response = self.client.request(request).await;
        let response = response.map_err(|e| match e.is_connect() {
            true => WireError::Refused {
                server: server.to_owned(),
                reason: chain(&e),
            },
            false => unreachable(server, &e),
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), ERROR_LEN_MAX).collect();
        let text = body.await.map(|b| b.to_bytes()).unwrap_or_default();
        Err(WireError::Status {
            server: server.to_owned(),
            status,
            text: String::from_utf8_lossy(&text).trim().to_owned(),
        })
    }
}

async fn within<T>(
    server: &str,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => Err(WireError::Unreachable {
            server: server.to_owned(),
            reason: format!("took longer than {REQUEST_TIMEOUT:?}"),
        }),
    }
}

/// Collects exactly `expected` bytes without copying them together.
async fn frames(
    server: &str,
    response: Response<Incoming>,
    expected: u64,
) -> Result<Vec<Bytes>, WireError> {
    let mut body = response.into_body();
    let mut frames = Vec::new();
    let mut got = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| unreachable(server, &e))?;
        if let Ok(data) = frame.into_data() {
            got += data.len() as u64;
            frames.push(data);
        }
        if got > expected {
            break;
        }
    }
    if got != expected {
        return Err(WireError::Length {
            server: server.to_owned(),
            got,
            expected,
        });
    }
    Ok(frames)
}

/// The part of the frames within `range`.
fn cut(frames: Vec<Bytes>, range: Range<u64>) -> Vec<Bytes> {
    let mut at = 0_u64;
    let mut out = Vec::new();
    for frame in frames {
        let len = frame.len() as u64;
        let start = range.start.clamp(at, at + len) - at;
        let end = range.end.clamp(at, at + len) - at;
        if start < end {
            out.push(frame.slice(start as usize..end as usize));
        }
        at += len;
    }
    out
}

fn address(url: &str, source: http::Error) -> WireError {
    WireError::Address {
        url: url.to_owned(),
        source,
    }
}

fn unreachable(server: &str, error: &(dyn std::error::Error + 'static)) -> WireError {
    WireError::Unreachable {
        server: server.to_owned(),
        reason: chain(error),
    }
}

/// An error with all its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_keeps_the_bytes_of_the_range() {
        let frames = || vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defg")];
        for (range, expect) in [
            (0..7, "abcdefg"),
            (2..4, "cd"),
            (3..3, ""),
            (4..5, "e"),
            (6..9, "g"),
        ] {
            assert_eq!(cut(frames(), range).concat(), expect.as_bytes());
        }
    }
}
