// SPDX-License-Identifier: Apache-2.0
//! A request's id goes in, through and out.

use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::request::{HEADER, PROXY_HEADER};

/// A service that answers with the id it was asked under, from a task of its own.
async fn echo(request: Request<()>) -> Result<Response<String>, Infallible> {
    let inside = request.headers().get(HEADER).cloned();
    let seen = tokio::spawn(request::carried(async { request::current() })).await;
    let seen = seen
        .ok()
        .flatten()
        .map_or_else(String::new, |id| id.to_string());
    let mut answer = Response::new(seen);
    *answer.status_mut() = if inside.is_some() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok(answer)
}

#[tokio::test]
async fn an_http_request_has_one_id_in_its_headers_its_tasks_and_its_answer() {
    let service = HttpLayer::new("test").layer(service_fn(echo));
    let request = Request::builder()
        .header(PROXY_HEADER, "from-a-proxy")
        .body(());
    let answer = service.clone().oneshot(request.expect("a request")).await;
    let answer = answer.expect("infallible");
    assert_eq!(answer.body(), "from-a-proxy");
    assert_eq!(answer.headers()[HEADER], "from-a-proxy");
    assert_eq!(
        answer.status(),
        StatusCode::OK,
        "the service saw the header"
    );

    let answer = service.oneshot(Request::new(())).await.expect("infallible");
    assert_eq!(answer.body().len(), 24);
    assert_eq!(answer.headers()[HEADER], answer.body().as_str());
}

#[tokio::test]
async fn a_grpc_call_is_answered_with_its_id() {
    let service = GrpcLayer::new("test").layer(service_fn(echo));
    let request = Request::builder()
        .uri("/a.B/C")
        .header(HEADER, "77")
        .body(());
    let answer = service.oneshot(request.expect("a request")).await;
    let answer = answer.expect("infallible");
    assert_eq!(
        (answer.body().inner.as_str(), &answer.headers()[HEADER]),
        ("77", &"77".parse().expect("a value"))
    );
}

#[test]
fn invented_operations_share_one_row() {
    let layer = GrpcLayer::new("test");
    let started = Instant::now();
    for n in 0..OPERATIONS_MAX * 2 {
        layer.begun(&format!("/a.B/C{n}"), Some(UNIMPLEMENTED), started);
    }
    assert_eq!(layer.known.read().len(), 1);
    layer.begun("/a.B/Real", None, started);
    assert_eq!(layer.known.read().len(), 2);
}

/// A body of one message and what comes behind it.
struct Stream {
    frames: std::collections::VecDeque<Frame<&'static [u8]>>,
}

impl Stream {
    fn of(code: Option<&'static str>) -> Self {
        let trailers = code.map(|code| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", code.parse().expect("a value"));
            Frame::trailers(trailers)
        });
        let message = Frame::data(&b"message"[..]);
        Self {
            frames: [Some(message), trailers].into_iter().flatten().collect(),
        }
    }
}

impl Body for Stream {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }
}

/// Reads so many frames of an answer and lets it go.
async fn read(code: Option<&'static str>, n_frames: usize) {
    let answer =
        move |_: Request<()>| async move { Ok::<_, Infallible>(Response::new(Stream::of(code))) };
    let service = GrpcLayer::new("test").layer(service_fn(answer));
    let request = Request::builder().uri("/a.B/Call").body(());
    let answer = service.oneshot(request.expect("a request")).await;
    let mut body = answer.expect("infallible").into_body();
    for _ in 0..n_frames {
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    }
}

/// The failure of a stream comes behind what it sent: it was counted as a success when the
/// stream began.
#[test]
fn a_stream_counts_when_it_is_over_with_the_status_behind_it() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            read(Some("0"), 2).await;
            read(Some("14"), 2).await;
            read(Some("14"), 2).await;
            // Its client goes away.
            read(Some("0"), 1).await;
            read(None, 2).await;
        });
    });
    let text = recorder.handle().render();
    let count = |code: &str| {
        let start = format!(
            "dulse_grpc_requests_total{{role=\"test\",operation=\"Call\",code=\"{code}\"}} "
        );
        let mut found = text.lines().filter_map(|line| line.strip_prefix(&start));
        found.next().unwrap_or("none").to_owned()
    };
    let counts = ["ok", "unavailable", "cancelled"].map(count);
    assert_eq!(counts, ["2", "2", "1"], "{text}");
}
