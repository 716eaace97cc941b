// SPDX-License-Identifier: Apache-2.0
//! Needles over HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use base64::Engine as _;
use bytes::Bytes;
use dulse_transport::{Guarded, Transport, token_of};
use dulse_types::FileId;
use md5::{Digest, Md5};
use serde_json::json;

use crate::kept;
use crate::needle::{IS_GZIP, IS_MANIFEST, Needle};
use crate::page;
use crate::store::{Store, VolumeError};

/// Largest needle.
const NEEDLE_LEN_MAX: usize = 256 << 20;

/// What HTTP requests share.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) store: Arc<Store>,
    pub(crate) transport: Transport,
}

/// Routes of the volume server.
pub(crate) fn router(web: Web) -> Router {
    let ok = || async { StatusCode::OK };
    Router::new()
        .route("/healthz", get(ok))
        .route("/readyz", get(ok))
        .route("/status", get(status))
        .route("/", get(page))
        .route("/ui/index.html", get(page))
        .fallback(needle)
        .layer(DefaultBodyLimit::max(NEEDLE_LEN_MAX))
        .with_state(web)
}

async fn page(State(web): State<Web>) -> Html<String> {
    Html(page::render(&web.store))
}

async fn status(State(web): State<Web>) -> Json<serde_json::Value> {
    let volumes: Vec<_> = web
        .store
        .all()
        .iter()
        .map(|volume| {
            let figures = volume.figures();
            json!({
                "Id": volume.kind.id,
                "Collection": volume.kind.collection,
                "Size": figures.size,
                "FileCount": figures.n_files,
                "DeleteCount": figures.n_deleted,
                "DeletedByteCount": figures.deleted_bytes,
                "ReadOnly": figures.is_read_only,
                "Version": 3,
            })
        })
        .collect();
    let dir = web.store.dir().display().to_string();
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({ "DiskStatuses": [{ "dir": dir }], "Version": version, "Volumes": volumes }))
}

fn refusal(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}

fn refused(error: &VolumeError) -> Response {
    let status = match error {
        VolumeError::NotFound | VolumeError::NoVolume(_) => StatusCode::NOT_FOUND,
        VolumeError::Io(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refusal(status, &error.to_string())
}

/// The file id of `/3,02efc2db58`, `/3/02efc2db58`, with an extension or a file name.
pub(crate) fn file_id(path: &str) -> Option<FileId> {
    let path = path.strip_prefix('/')?;
    let (volume, rest) = path.split_once([',', '/'])?;
    let key = rest.split(['.', '/']).next()?;
    FileId::parse_key_cookie(volume.parse().ok()?, key).ok()
}

async fn needle(State(web): State<Web>, request: Request) -> Response {
    let Some(id) = file_id(request.uri().path()) else {
        return refusal(StatusCode::BAD_REQUEST, "expected /volume,keycookie");
    };
    let query = Query::<HashMap<String, String>>::try_from_uri(request.uri());
    let query = query.map(|q| q.0).unwrap_or_default();
    if !is_allowed(&web, &request, &query) {
        return refusal(StatusCode::UNAUTHORIZED, "wrong jwt");
    }
    match request.method().clone() {
        method @ (Method::GET | Method::HEAD) => {
            let headers = request.headers().clone();
            read(&web, id, &headers, method == Method::HEAD).await
        }
        Method::PUT | Method::POST => write(&web, id, &query, request).await,
        Method::DELETE => delete(&web, id).await,
        other => refusal(
            StatusCode::BAD_REQUEST,
            &format!("unsupported method {other}"),
        ),
    }
}

/// The id that a token must name: ids assigned together (`/3,01cookie_1`) share the first's.
fn guarded_id(path: &str) -> Option<FileId> {
    file_id(path.split_once('_').map_or(path, |(first, _)| first))
}

fn is_allowed(web: &Web, request: &Request, query: &HashMap<String, String>) -> bool {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let guarded = if is_read {
        Guarded::VolumeRead
    } else {
        Guarded::VolumeWrite
    };
    let Some(id) = guarded_id(request.uri().path()) else {
        return false;
    };
    let in_query = query.get("jwt").map(String::as_str);
    let token = token_of(in_query, request.headers());
    let tokens = web.transport.tokens();
    tokens.check_file(guarded, token, &id.to_string()).is_ok()
}

async fn read(web: &Web, id: FileId, headers: &HeaderMap, is_head: bool) -> Response {
    let store = Arc::clone(&web.store);
    let read = move || store.volume(id.volume_id)?.read(id.key, id.cookie);
    let needle = match tokio::task::spawn_blocking(read).await {
        Ok(Ok(needle)) => needle,
        Ok(Err(VolumeError::NotFound | VolumeError::NoVolume(_))) => {
            return StatusCode::NOT_FOUND.into_response();
        }
        Ok(Err(error)) => return refused(&error),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let etag = format!("\"{}\"", needle.etag());
    if kept::is_unmodified(&needle, &etag, headers) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    let accepts_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("gzip"));
    let mut data = needle.data.clone();
    let mut is_encoded = false;
    if needle.flags & IS_GZIP != 0 {
        if accepts_gzip {
            is_encoded = true;
        } else {
            match unzip(&data) {
                Ok(clear) => data = clear,
                Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error),
            }
        }
    }
    answer(&needle, data, headers, &etag, is_encoded, is_head)
}

fn unzip(data: &[u8]) -> Result<Bytes, String> {
    use std::io::Read;
    let mut clear = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(data).take(NEEDLE_LEN_MAX as u64 + 1);
    decoder.read_to_end(&mut clear).map_err(|e| e.to_string())?;
    if clear.len() > NEEDLE_LEN_MAX {
        return Err("needle is larger than allowed when unzipped".to_owned());
    }
    Ok(clear.into())
}

fn answer(
    needle: &Needle,
    data: Bytes,
    headers: &HeaderMap,
    etag: &str,
    is_encoded: bool,
    is_head: bool,
) -> Response {
    let total = data.len();
    let range = headers
        .get(header::RANGE)
        .and_then(|v| v.to_str().ok())
        .map(|v| range(v, total));
    let (status, body, content_range) = match range {
        None => (StatusCode::OK, data, None),
        Some(Some((from, to))) => {
            let content_range = format!("bytes {from}-{}/{total}", to - 1);
            (
                StatusCode::PARTIAL_CONTENT,
                data.slice(from..to),
                Some(content_range),
            )
        }
        Some(None) => {
            let unmet = format!("bytes */{total}");
            return (
                StatusCode::RANGE_NOT_SATISFIABLE,
                [(header::CONTENT_RANGE, unmet)],
            )
                .into_response();
        }
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let out = response.headers_mut();
    kept::give_back(needle, out);
    let mut set = |name: header::HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            out.insert(name, value);
        }
    };
    set(header::ETAG, etag);
    set(header::ACCEPT_RANGES, "bytes");
    set(header::CONTENT_LENGTH, &body.len().to_string());
    if is_encoded {
        set(header::CONTENT_ENCODING, "gzip");
    }
    if needle.flags & IS_MANIFEST != 0 {
        set(header::HeaderName::from_static("x-file-store"), "chunked");
    }
    if let Some(content_range) = content_range {
        set(header::CONTENT_RANGE, &content_range);
    }
    if !is_head {
        *response.body_mut() = Body::from(body);
    }
    response
}

/// One range of `bytes=…` as from and behind; `None` when it cannot be met.
pub(crate) fn range(text: &str, total: usize) -> Option<(usize, usize)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => (from, to.saturating_add(1).min(total)),
        (Ok(from), Err(_)) if to.is_empty() => (from, total),
        (Err(_), Ok(last)) if from.is_empty() => (total.saturating_sub(last), total),
        _ => return None,
    };
    (from < to).then_some((from, to))
}

/// The content of an upload and what goes with it.
struct Upload {
    data: Bytes,
    name: String,
    mime: String,
    is_gzip: bool,
    md5: Option<String>,
}

async fn write(
    web: &Web,
    id: FileId,
    query: &HashMap<String, String>,
    request: Request,
) -> Response {
    let pairs = match kept::pairs(request.headers()) {
        Ok(pairs) => pairs,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error),
    };
    let upload = match take(request).await {
        Ok(upload) => upload,
        Err(response) => return response,
    };
    if let Some(sent) = &upload.md5 {
        let clear = if upload.is_gzip {
            unzip(&upload.data)
        } else {
            Ok(upload.data.clone())
        };
        let Ok(clear) = clear else {
            return refusal(StatusCode::BAD_REQUEST, "content is not gzip as it says");
        };
        let actual = base64::engine::general_purpose::STANDARD.encode(Md5::digest(&clear));
        if actual != *sent {
            return refusal(
                StatusCode::BAD_REQUEST,
                "Content-MD5 did not match md5 of file data",
            );
        }
    }
    let now = u64::try_from(crate::now_ns() / 1_000_000_000).unwrap_or(0);
    let ttl = query
        .get("ttl")
        .and_then(|text| crate::service::ttl(text).ok())
        .unwrap_or([0, 0]);
    let is_manifest = query.get("cm").is_some_and(|v| v == "true");
    let size = upload.data.len();
    let needle = Needle {
        cookie: id.cookie,
        key: id.key,
        data: upload.data,
        flags: if upload.is_gzip { IS_GZIP } else { 0 } | if is_manifest { IS_MANIFEST } else { 0 },
        name: upload.name.clone().into_bytes(),
        mime: upload.mime.into_bytes(),
        modified_s: query
            .get("ts")
            .and_then(|ts| ts.parse().ok())
            .unwrap_or(now),
        ttl,
        pairs,
        ..Needle::default()
    };
    let etag = needle.etag();
    let is_synced = query.get("fsync").is_some_and(|v| v == "true");
    let store = Arc::clone(&web.store);
    let write = move || store.volume(id.volume_id)?.write(needle, is_synced);
    match tokio::task::spawn_blocking(write).await {
        Ok(Ok(was_there)) => {
            let quoted = format!("\"{etag}\"");
            if was_there {
                return (StatusCode::NO_CONTENT, [(header::ETAG, quoted)]).into_response();
            }
            let body = Json(json!({ "name": upload.name, "size": size, "eTag": etag }));
            (StatusCode::CREATED, [(header::ETAG, quoted)], body).into_response()
        }
        Ok(Err(error)) => {
            crate::metrics::WRITE_FAILURES.add(1);
            refused(&error)
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn take(request: Request) -> Result<Upload, Response> {
    let text = |headers: &HeaderMap, name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    let bad = |e: String| refusal(StatusCode::BAD_REQUEST, &e);
    let headers = request.headers().clone();
    let kind = text(&headers, "content-type").unwrap_or_default();
    let md5 = text(&headers, "content-md5");
    if !kind.starts_with("multipart/form-data") {
        let name = request
            .uri()
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        let data = Bytes::from_request(request, &())
            .await
            .map_err(|e| bad(e.to_string()))?;
        let is_gzip = text(&headers, "content-encoding").is_some_and(|e| e == "gzip");
        let mime = if kind == "application/octet-stream" {
            String::new()
        } else {
            kind
        };
        return Ok(Upload {
            data,
            name,
            mime,
            is_gzip,
            md5,
        });
    }
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|e| bad(e.to_string()))?;
    let part = parts.next_field().await.map_err(|e| bad(e.to_string()))?;
    let Some(part) = part else {
        return Err(bad("the form has no part".to_owned()));
    };
    let name = part.file_name().unwrap_or_default().to_owned();
    let mime = part.content_type().unwrap_or_default().to_owned();
    let mime = if mime == "application/octet-stream" {
        String::new()
    } else {
        mime
    };
    let is_gzip = text(part.headers(), "content-encoding").is_some_and(|e| e == "gzip");
    let md5 = text(part.headers(), "content-md5").or(md5);
    let data = part.bytes().await.map_err(|e| bad(e.to_string()))?;
    Ok(Upload {
        data,
        name,
        mime,
        is_gzip,
        md5,
    })
}

async fn delete(web: &Web, id: FileId) -> Response {
    let store = Arc::clone(&web.store);
    let delete = move || store.volume(id.volume_id)?.delete(id.key, Some(id.cookie));
    match tokio::task::spawn_blocking(delete).await {
        Ok(Ok(size)) => (StatusCode::ACCEPTED, Json(json!({ "size": size }))).into_response(),
        Ok(Err(VolumeError::NotFound | VolumeError::NoVolume(_))) => {
            (StatusCode::NOT_FOUND, Json(json!({ "size": 0 }))).into_response()
        }
        Ok(Err(VolumeError::Cookie)) => refusal(
            StatusCode::BAD_REQUEST,
            "File Random Cookie does not match.",
        ),
        Ok(Err(error)) => refused(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
