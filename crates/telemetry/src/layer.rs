// SPDX-License-Identifier: Apache-2.0
//! Layers around services: a span, an id and figures for each request.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use metrics::{Counter, Histogram};
use parking_lot::RwLock;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::exporter::Exporter;
use crate::metric::Metric;
use crate::request::{self, RequestId};

crate::declare! {
    GRPC_REQUESTS: counter "dulse_grpc_requests_total", Count, ["role", "operation", "code"], Stable,
        "gRPC calls by name and status, when they are over; one whose client goes away before is cancelled.";
    GRPC_SECONDS: histogram [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
        "dulse_grpc_request_seconds", Seconds, ["role", "operation"], Stable,
        "Time of gRPC calls by name; of a stream, until it begins.";
    IN_FLIGHT: gauge "dulse_requests_in_flight", Count, ["role", "protocol"], Stable,
        "Requests whose answer has not begun.";
}

/// Operations with figures of their own; the protocol has fewer. More can only be invented
/// by clients.
const OPERATIONS_MAX: usize = 512;

/// gRPC's numbers of statuses.
const OK: &str = "0";
const CANCELLED: &str = "1";
const UNKNOWN: &str = "2";
const UNIMPLEMENTED: &str = "12";

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Figures of one operation.
struct Figures {
    name: String,
    ok: Counter,
    seconds: Histogram,
}

/// Figures of the operations called so far.
type Known = Arc<RwLock<HashMap<String, Arc<Figures>>>>;

/// Observes gRPC calls.
#[derive(Clone)]
pub struct GrpcLayer {
    role: &'static str,
    known: Known,
    in_flight: Arc<AtomicU64>,
}

impl GrpcLayer {
    /// For the services of one role.
    #[must_use]
    pub fn new(role: &'static str) -> Self {
        Self {
            role,
            known: Arc::default(),
            in_flight: in_flight(role, "grpc"),
        }
    }
}

impl<S> Layer<S> for GrpcLayer {
    type Service = GrpcObserved<S>;

    fn layer(&self, inner: S) -> GrpcObserved<S> {
        GrpcObserved {
            inner,
            layer: self.clone(),
        }
    }
}

/// A gRPC service that is observed.
#[derive(Clone)]
pub struct GrpcObserved<S> {
    inner: S,
    layer: GrpcLayer,
}

impl<S, B, R> Service<Request<B>> for GrpcObserved<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: Body + Unpin + 'static,
{
    type Response = Response<Told<R>>;
    type Error = S::Error;
    type Future = Answer<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let role = self.layer.role;
        let path = request.uri().path().to_owned();
        let id = RequestId::of(request.headers());
        let operation = operation_of(&path);
        let span = tracing::info_span!("request", id = id.as_str(), role, operation);
        let _entered = span.enter();
        let serving = request::scope(id.clone(), self.inner.call(request));
        drop(_entered);
        let layer = self.layer.clone();
        let flying = Flying::begin(&layer.in_flight);
        let observed = async move {
            let mut answer = serving.await?;
            drop(flying);
            let figures = layer.begun(&path, code_of(answer.headers()), started);
            answer.headers_mut().insert(request::HEADER, id.value());
            // An answer without a body has its status in front, any other behind.
            let mut ending = Ending {
                layer,
                figures,
                started,
                is_told: false,
                span: tracing::Span::current(),
            };
            if let Some(code) = code_of(answer.headers()) {
                ending.tell(code);
            }
            Ok(answer.map(|inner| Told { inner, ending }))
        };
        Box::pin(observed.instrument(span))
    }
}

/// The body of an answer, whose status comes behind it.
pub struct Told<B> {
    inner: B,
    ending: Ending,
}

impl<B: Body + Unpin> Body for Told<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.ending.tell(code_of(trailers).unwrap_or(OK));
                }
            }
            Poll::Ready(Some(Err(_))) => self.ending.tell(UNKNOWN),
            Poll::Ready(None) => self.ending.tell(OK),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What counts a call once, when it is over.
struct Ending {
    layer: GrpcLayer,
    figures: Arc<Figures>,
    started: Instant,
    is_told: bool,
    span: tracing::Span,
}

impl Ending {
    fn tell(&mut self, code: &str) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        self.layer.ended(&self.figures, code);
        let _entered = self.span.enter();
        tracing::debug!(
            code = code_name(code),
            seconds = self.started.elapsed().as_secs_f64(),
            "answered"
        );
    }
}

impl Drop for Ending {
    /// Nobody read it to its end.
    fn drop(&mut self) {
        self.tell(CANCELLED);
    }
}

/// The status in headers or trailers.
fn code_of(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok()
}

impl GrpcLayer {
    /// An answer begins; it may have its status with it.
    fn begun(&self, path: &str, code: Option<&str>, started: Instant) -> Arc<Figures> {
        let figures = self.figures(path, code.unwrap_or(OK));
        figures.seconds.record(started.elapsed().as_secs_f64());
        figures
    }

    fn ended(&self, figures: &Figures, code: &str) {
        if code == OK {
            figures.ok.increment(1);
        } else {
            self.counter(&figures.name, code_name(code)).increment(1);
        }
    }

    fn figures(&self, path: &str, code: &str) -> Arc<Figures> {
        if let Some(figures) = self.known.read().get(path) {
            return Arc::clone(figures);
        }
        let mut known = self.known.write();
        // A call that is not served may have any name.
        let is_own = code != UNIMPLEMENTED && known.len() < OPERATIONS_MAX;
        let (key, name) = match is_own {
            true => (path, operation_of(path)),
            false => ("", "other"),
        };
        let make = || {
            let labels = [
                ("role", self.role.to_owned()),
                ("operation", name.to_owned()),
            ];
            Arc::new(Figures {
                name: name.to_owned(),
                ok: self.counter(name, "ok"),
                seconds: GRPC_SECONDS.histogram(&labels),
            })
        };
        Arc::clone(known.entry(key.to_owned()).or_insert_with(make))
    }

    fn counter(&self, operation: &str, code: &'static str) -> Counter {
        GRPC_REQUESTS.counter(&[
            ("role", self.role.to_owned()),
            ("operation", operation.to_owned()),
            ("code", code.to_owned()),
        ])
    }
}

/// The method of `/package.Service/Method`.
fn operation_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// gRPC's name of a status.
fn code_name(code: &str) -> &'static str {
    match code {
        OK => "ok",
        CANCELLED => "cancelled",
        "3" => "invalid_argument",
        "4" => "deadline_exceeded",
        "5" => "not_found",
        "6" => "already_exists",
        "7" => "permission_denied",
        "8" => "resource_exhausted",
        "9" => "failed_precondition",
        "10" => "aborted",
        "11" => "out_of_range",
        UNIMPLEMENTED => "unimplemented",
        "13" => "internal",
        "14" => "unavailable",
        "15" => "data_loss",
        "16" => "unauthenticated",
        _ => "unknown",
    }
}

/// Observes HTTP requests: id and span always, figures where metrics are given.
#[derive(Clone)]
pub struct HttpLayer {
    role: &'static str,
    /// Requests by `type` and `code`, and seconds by `type`.
    figures: Option<(&'static Metric, &'static Metric)>,
    in_flight: Arc<AtomicU64>,
}

impl HttpLayer {
    /// For a service that counts its requests itself.
    #[must_use]
    pub fn new(role: &'static str) -> Self {
        Self {
            role,
            figures: None,
            in_flight: in_flight(role, "http"),
        }
    }

    /// Counts requests by labels `type` and `code`, and their seconds by `type`.
    #[must_use]
    pub fn counting(self, requests: &'static Metric, seconds: &'static Metric) -> Self {
        Self {
            figures: Some((requests, seconds)),
            ..self
        }
    }
}

impl<S> Layer<S> for HttpLayer {
    type Service = HttpObserved<S>;

    fn layer(&self, inner: S) -> HttpObserved<S> {
        HttpObserved {
            inner,
            layer: self.clone(),
        }
    }
}

/// An HTTP service that is observed.
#[derive(Clone)]
pub struct HttpObserved<S> {
    inner: S,
    layer: HttpLayer,
}

impl<S, B, R> Service<Request<B>> for HttpObserved<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Answer<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let started = Instant::now();
        let (role, figures) = (self.layer.role, self.layer.figures);
        let operation = kind_of(request.method());
        let id = RequestId::of(request.headers());
        request.headers_mut().insert(request::HEADER, id.value());
        let path = request.uri().path();
        let span = tracing::info_span!("request", id = id.as_str(), role, operation, path);
        let _entered = span.enter();
        let serving = request::scope(id.clone(), self.inner.call(request));
        drop(_entered);
        let flying = Flying::begin(&self.layer.in_flight);
        let observed = async move {
            let mut answer = serving.await?;
            drop(flying);
            let (status, seconds) = (answer.status(), started.elapsed().as_secs_f64());
            if let Some((requests, times)) = figures {
                let code = status.as_str().to_owned();
                let labels = [("type", operation.to_owned()), ("code", code)];
                requests.counter(&labels).increment(1);
                times.histogram(&[("type", operation)]).record(seconds);
            }
            tracing::debug!(status = status.as_u16(), seconds, "answered");
            let headers = answer.headers_mut();
            if !headers.contains_key(request::HEADER) {
                headers.insert(request::HEADER, id.value());
            }
            Ok(answer)
        };
        Box::pin(observed.instrument(span))
    }
}

/// The label of a method, as upstream's dashboards know it: a fixed set, whatever clients send.
#[must_use]
pub fn kind_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The number of requests in flight, shown by the exporter where there is one.
fn in_flight(role: &'static str, protocol: &'static str) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    if let Some(exporter) = Exporter::installed() {
        let shown = Arc::clone(&count);
        let labels = [("role", role), ("protocol", protocol)];
        exporter.observe(move || {
            let n = shown.load(Ordering::Relaxed);
            IN_FLIGHT.gauge(&labels).set(n as f64);
        });
    }
    count
}

/// Counts a request while it is served, also when its client goes away.
struct Flying(Arc<AtomicU64>);

impl Flying {
    fn begin(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
