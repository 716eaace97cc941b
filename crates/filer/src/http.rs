// SPDX-License-Identifier: Apache-2.0
//! The filer over HTTP: files, directories, and a page for people.
//!
//! [`Http::handle`] is one request; [`Http::router`] makes a service of it.
//! Statuses and texts follow upstream, its defects aside: entity tags compare as
//! RFC 9110 says, ranges and holes are exact, inline files have size and MD5.

mod answer;
mod auth;
mod body;
mod condition;
mod copy;
mod entry_json;
mod extended;
#[doc(hidden)]
pub mod fuzz;
mod glob;
mod list;
mod list_json;
mod mime;
mod moves;
mod names;
mod over_namespace;
#[cfg(test)]
mod parsers;
mod plan;
mod proxy;
mod range;
mod read;
mod remove;
mod target;
mod upload;
mod write;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use dulse_blobs::Blobs;
use dulse_telemetry::layer::kind_of;
use dulse_telemetry::{RequestId, request};
use dulse_transport::Transport;
use dulse_types::FullPath;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE, HeaderName, ORIGIN,
    SERVER, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};

use answer::{Refusal, Reply, bare, json, set, text};
use target::{Query, Target};

use crate::metrics;

pub use names::{Answer, Delete, Expected, NameError, Names, Write, Written};
pub use over_namespace::OverNamespace;

/// What answers call this program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The `Server` header.
const SERVER_TEXT: &str = concat!("Dulse/", env!("CARGO_PKG_VERSION"));

/// Session token: sent with writes, presented with any later request.
const TOKEN: HeaderName = HeaderName::from_static("dulse-token");

/// Methods named to browsers of other origins.
const METHODS: &str = "PUT, POST, GET, DELETE, OPTIONS";

/// Renders the metrics of the process.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Says why the filer does not serve the namespace yet, if it does not.
pub type NotReady = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Settings of the HTTP side.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of chunks in MiB.
    pub block_mb: usize,
    /// Bodies of fewer bytes are kept in the entry; 0 never.
    pub inline_below: usize,
    /// Longest name in bytes.
    pub name_len_max: usize,
    /// Most entries of one JSON listing.
    pub list_limit: usize,
    /// Whether directories are listed at all.
    pub lists_directories: bool,
    /// Whether a directory is deleted with its contents unless the query says no.
    pub deletes_recursively: bool,
    /// The directory whose children are buckets, such as `/buckets`.
    pub buckets_folder: String,
    /// Whether only reads are served.
    pub is_read_only: bool,
    /// Collection of new chunks outside of buckets.
    pub collection: String,
    /// Replica placement of new chunks.
    pub replication: String,
    /// Disk type of new chunks.
    pub disk_type: String,
    /// Data center of new chunks.
    pub data_center: String,
    /// Rack of new chunks.
    pub rack: String,
    /// Owner of new entries.
    pub uid: u32,
    /// Group of new entries.
    pub gid: u32,
    /// Origins of browsers that may call; `*` is any.
    pub allowed_origins: Vec<String>,
    /// Has the keys of tokens.
    pub transport: Transport,
}

impl Options {
    /// Upstream's defaults.
    #[must_use]
    pub fn upstream() -> Self {
        // The owner of this process, which the standard library does not tell otherwise.
        let owner = fs::metadata("/proc/self").map_or((0, 0), |m| (m.uid(), m.gid()));
        Self {
            block_mb: 4,
            inline_below: 0,
            name_len_max: dulse_types::path::NAME_LEN_MAX,
            list_limit: 100_000,
            lists_directories: true,
            deletes_recursively: false,
            buckets_folder: "/buckets".to_owned(),
            is_read_only: false,
            collection: String::new(),
            replication: String::new(),
            disk_type: String::new(),
            data_center: String::new(),
            rack: String::new(),
            uid: owner.0,
            gid: owner.1,
            allowed_origins: vec!["*".to_owned()],
            transport: Transport::plain(),
        }
    }
}

/// All that a request needs.
#[derive(Clone)]
pub struct Http {
    /// The namespace.
    pub names: Arc<dyn Names>,
    /// Chunks.
    pub blobs: Arc<Blobs>,
    /// Settings.
    pub options: Arc<Options>,
    /// Whether the namespace is served.
    pub not_ready: NotReady,
    /// Answers `/metrics`; without it that is an ordinary name.
    pub metrics: Option<RenderMetrics>,
}

impl Http {
    /// A router that answers everything.
    pub fn router(self) -> Router {
        Router::new()
            .fallback(move |request: Request<Body>| {
                let http = self.clone();
                async move { http.handle_to_the_end(request).await }
            })
            .layer(DefaultBodyLimit::disable())
    }

    /// Answers one request; a write goes on when its client is gone. The server drops what
    /// it answers with when a connection closes, and a commit that has begun is not undone
    /// by that: who dropped it would take back the chunks that the entry is about to name.
    async fn handle_to_the_end(self, request: Request<Body>) -> http::Response<Body> {
        if matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        ) {
            return self.handle(request).await;
        }
        let work = async move { self.handle(request).await };
        let done = tokio::spawn(request::carried(work)).await;
        // Only a runtime that stops ends a task early.
        done.unwrap_or_else(|_| bare(StatusCode::SERVICE_UNAVAILABLE))
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>) -> http::Response<Body> {
        let origin = request.headers().get(ORIGIN).cloned();
        let id = RequestId::of(request.headers());
        let is_head = request.method() == Method::HEAD;
        let kind = kind_of(request.method());
        let started = Instant::now();
        let mut reply = match self.answer(request, origin.as_ref()).await {
            Ok(reply) => reply,
            Err(refusal) => {
                if refusal.status == StatusCode::INTERNAL_SERVER_ERROR {
                    tracing::warn!(error = refusal.text, "a request failed");
                }
                refusal.reply()
            }
        };
        if is_head {
            *reply.body_mut() = Body::empty();
        }
        let code = reply.status().as_str().to_owned();
        let labels = [("type", kind.to_owned()), ("code", code)];
        metrics::REQUESTS.counter(&labels).increment(1);
        let seconds = metrics::REQUEST_SECONDS.histogram(&[("type", kind)]);
        seconds.record(started.elapsed());
        let headers = reply.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static(SERVER_TEXT));
        headers.insert(request::HEADER, id.value());
        if let Some(origin) = origin {
            self.allow_origin(headers, &origin);
        }
        reply
    }

    async fn answer(
        &self,
        request: Request<Body>,
        origin: Option<&HeaderValue>,
    ) -> Result<Reply, Refusal> {
        if origin.is_some_and(|o| !self.is_allowed(o)) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "origin not allowed"));
        }
        if request.method() == Method::OPTIONS {
            return Ok(preflight());
        }
        if let Some(reply) = self.own_page(&request) {
            return Ok(reply);
        }
        let query = Query::of(request.uri());
        let target = Target::of(request.uri().path())?;
        let (method, headers) = (request.method().clone(), request.headers());
        let tokens = self.options.transport.tokens();
        auth::check(&tokens, &method, &target.path, &query, headers)?;
        if let Some(why) = (self.not_ready)() {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why));
        }
        if !query.text("proxyChunkId").is_empty() {
            // Behind the token check, unlike upstream: else anyone could read any chunk.
            return proxy::chunk(self, query.text("proxyChunkId"), &method, headers).await;
        }
        let is_read = method == Method::GET || method == Method::HEAD;
        if self.options.is_read_only && !is_read {
            return Err(Refusal::bare(StatusCode::METHOD_NOT_ALLOWED));
        }
        let tokens = headers.get_all(TOKEN).iter();
        let tokens = tokens.map(|value| value.to_str().unwrap_or("not ASCII"));
        self.names.wait_for(tokens.collect()).await?;
        match method {
            Method::GET | Method::HEAD => self.read(&target.path, &query, &method, headers).await,
            Method::DELETE if query.has("tagging") => {
                remove::tags(self, &target.path, &query).await
            }
            Method::DELETE => remove::entry(self, &target.path, &query).await,
            Method::PUT | Method::POST => self.write(target, &query, request).await,
            _ => Err(Refusal::bare(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    async fn read(
        &self,
        path: &FullPath,
        query: &Query,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Reply, Refusal> {
        let found = self.names.find(path).await?;
        let found = found.ok_or_else(|| Refusal::bare(StatusCode::NOT_FOUND))?;
        let mut fields = found.entry.fields().map_err(write::damaged)?;
        if query.is_true("metadata") {
            if query.is_true("resolveManifest") {
                fields.chunks = self.blobs.resolve(fields.chunks).await?.data;
            }
            let entry = entry_json::EntryJson::of(path.as_str(), fields);
            return Ok(json(StatusCode::OK, &entry, query.is_pretty()));
        }
        if found.entry.is_dir() {
            return list::directory(self, path, query, method, headers).await;
        }
        read::file(self, path, fields, query, method, headers).await
    }

    async fn write(
        &self,
        target: Target,
        query: &Query,
        request: Request<Body>,
    ) -> Result<Reply, Refusal> {
        if !query.text("mv.from").is_empty() {
            return moves::rename(self, target, query).await;
        }
        if !query.text("cp.from").is_empty() {
            return copy::copy(self, target, query, request.headers()).await;
        }
        if request.method() == Method::POST {
            return write::post(self, target, query, request).await;
        }
        if query.has("tagging") {
            return moves::tag(self, &target.path, request.headers()).await;
        }
        write::put(self, target, query, request).await
    }

    /// Pages that are no names: health, readiness, metrics.
    fn own_page(&self, request: &Request<Body>) -> Option<Reply> {
        let path = request.uri().path();
        let is_own = matches!(path, "/healthz" | "/readyz" | "/favicon.ico")
            || (path == "/metrics" && self.metrics.is_some());
        if is_own && !matches!(*request.method(), Method::GET | Method::HEAD) {
            // A file of such a name could be written and never read.
            return Some(bare(StatusCode::METHOD_NOT_ALLOWED));
        }
        match path {
            "/healthz" => Some(bare(StatusCode::OK)),
            "/readyz" => Some(match (self.not_ready)() {
                None => bare(StatusCode::OK),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            }),
            "/metrics" => self.metrics.as_ref().map(|render| {
                let mut reply = text(StatusCode::OK, render());
                set(
                    &mut reply,
                    CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                );
                reply
            }),
            "/favicon.ico" => Some(bare(StatusCode::NO_CONTENT)),
            _ => None,
        }
    }

    /// Refuses a path whose last name is too long for the filer and for the path's rule.
    fn check_name(&self, path: &FullPath) -> Result<(), Refusal> {
        let len = path.name().len();
        let is_raised = || {
            let rule = self.names.rule_of(path.as_str());
            rule.is_some_and(|rule| len <= rule.max_file_name_length as usize)
        };
        match len <= self.options.name_len_max || is_raised() {
            true => Ok(()),
            false => Err(Refusal::bare(StatusCode::URI_TOO_LONG)),
        }
    }

    fn set_token(&self, reply: &mut Reply, written: &Written) {
        if !written.token.is_empty() {
            set(reply, TOKEN, &written.token);
        }
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        let allowed = &self.options.allowed_origins;
        allowed
            .iter()
            .any(|a| a == "*" || a.as_bytes() == origin.as_bytes())
    }

    fn allow_origin(&self, headers: &mut HeaderMap, origin: &HeaderValue) {
        if !self.is_allowed(origin) {
            return;
        }
        let is_any = self.options.allowed_origins.iter().any(|a| a == "*");
        let any = HeaderValue::from_static("*");
        let shown = if is_any { any.clone() } else { origin.clone() };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shown);
        // A file's own list is more exact than `any`, which counts only without credentials.
        let exposed = headers.entry(ACCESS_CONTROL_EXPOSE_HEADERS);
        exposed.or_insert(any);
        headers.append(VARY, HeaderValue::from_static("Origin"));
        allow_methods(headers);
    }
}

fn preflight() -> Reply {
    let mut reply = bare(StatusCode::OK);
    let any = HeaderValue::from_static("*");
    reply
        .headers_mut()
        .insert(ACCESS_CONTROL_EXPOSE_HEADERS, any);
    allow_methods(reply.headers_mut());
    reply
}

fn allow_methods(headers: &mut HeaderMap) {
    let methods = HeaderValue::from_static(METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    let credentials = HeaderValue::from_static("true");
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
}
