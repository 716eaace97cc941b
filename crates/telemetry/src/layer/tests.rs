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
        (answer.body().as_str(), &answer.headers()[HEADER]),
        ("77", &"77".parse().expect("a value"))
    );
}

#[test]
fn invented_operations_share_one_row() {
    let layer = GrpcLayer::new("test");
    let started = Instant::now();
    for n in 0..OPERATIONS_MAX * 2 {
        layer.count(&format!("/a.B/C{n}"), UNIMPLEMENTED, started);
    }
    assert_eq!(layer.known.read().len(), 1);
    layer.count("/a.B/Real", "0", started);
    assert_eq!(layer.known.read().len(), 2);
}
