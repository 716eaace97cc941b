// SPDX-License-Identifier: Apache-2.0
//! GET and HEAD of files.

use std::convert::Infallible;
use std::ops::Range;

use axum::body::Body;
use bytes::Bytes;
use dulse_blobs::{Piece, Source, View, views_of};
use dulse_types::{EntryFields, FullPath};
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_DISPOSITION,
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES,
    HeaderName, HeaderValue, LAST_MODIFIED, RANGE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Response, StatusCode};

use super::Http;
use super::answer::{Refusal, Reply, bare, set, text};
use super::condition::{Current, Verdict, http_date, judge, range_holds};
use super::extended;
use super::mime;
use super::range::{Wanted, parse};
use super::target::Query;

/// Response headers that a query may set.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", CACHE_CONTROL),
    ("response-content-disposition", CONTENT_DISPOSITION),
    ("response-content-encoding", CONTENT_ENCODING),
    ("response-content-language", CONTENT_LANGUAGE),
    ("response-content-type", CONTENT_TYPE),
    ("response-expires", EXPIRES),
];

/// Answers with a file, a part of it, or why not.
pub(super) async fn file(
    http: &Http,
    path: &FullPath,
    fields: EntryFields,
    query: &Query,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Reply, Refusal> {
    let etag = dulse_blobs::etag(&fields);
    let attrs = fields.attrs();
    let current = Current {
        etag: &etag,
        mtime: attrs.mtime,
    };
    match judge(headers, &current) {
        Verdict::Proceed => {}
        verdict => return Ok(unchanged(verdict, &current)),
    }
    let size = fields.size();
    if is_only_remote(&fields, size) {
        let mut reply = bare(StatusCode::SERVICE_UNAVAILABLE);
        set(&mut reply, RETRY_AFTER, "5");
        return Ok(reply);
    }
    let mut reply = Response::new(Body::empty());
    fill_headers(&mut reply, path, &fields, query, &current);
    if method == Method::HEAD {
        reply
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(size));
        return Ok(reply);
    }
    let wanted = match headers.get(RANGE).and_then(|v| v.to_str().ok()) {
        Some(range) if range_holds(headers, &current) => parse(Some(range), size),
        _ => Wanted::Whole,
    };
    send(http, reply, fields, size, wanted).await
}

async fn send(
    http: &Http,
    mut reply: Reply,
    fields: EntryFields,
    size: u64,
    wanted: Wanted,
) -> Result<Reply, Refusal> {
    let ranges = match wanted {
        Wanted::Whole => vec![],
        Wanted::Parts(parts) => parts,
        Wanted::Malformed => return Ok(unsatisfied(reply, "invalid range\n")),
        Wanted::Unsatisfiable => {
            set(&mut reply, CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(unsatisfied(reply, "invalid range: failed to overlap\n"));
        }
    };
    let content = Content::of(http, fields).await?;
    let views = match ranges.as_slice() {
        [] => content.views(0..size)?,
        [range] => {
            let value = content_range(range, size);
            set(&mut reply, CONTENT_RANGE, &value);
            content.views(range.clone())?
        }
        parts => {
            let mime = reply.headers().get(CONTENT_TYPE).cloned();
            let (views, boundary) = byteranges(&content, parts, size, mime.as_ref())?;
            let value = format!("multipart/byteranges; boundary={boundary}");
            set(&mut reply, CONTENT_TYPE, &value);
            views
        }
    };
    if !ranges.is_empty() {
        *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let length: u64 = views.iter().map(|v| v.len).sum();
    reply
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    *reply.body_mut() = body_of(http, views).await?;
    Ok(reply)
}

/// The body of some views; the first piece is read before any header is sent, so
/// that a chunk that is lost is a status, not a torn connection.
pub(super) async fn body_of(http: &Http, views: Vec<View>) -> Result<Body, Refusal> {
    let mut pieces = Piece::of(views);
    let Some(first) = pieces.next() else {
        return Ok(Body::empty());
    };
    let mut frames = http.blobs.fetch(first).await?;
    let Some(second) = pieces.next() else {
        return Ok(match frames.len() {
            0 | 1 => Body::from(frames.pop().unwrap_or_default()),
            _ => Body::from_stream(stream::iter(frames.into_iter().map(Ok::<_, Infallible>))),
        });
    };
    let rest = http
        .blobs
        .stream_pieces(std::iter::once(second).chain(pieces));
    Ok(Body::from_stream(
        stream::iter(frames.into_iter().map(Ok)).chain(rest.map_err(log_broken)),
    ))
}

/// A reader sees the connection break; the operator sees why.
fn log_broken(error: dulse_blobs::Error) -> dulse_blobs::Error {
    tracing::warn!(%error, "a response broke off");
    error
}

/// Where the bytes of a file are.
pub(super) struct Content {
    inline: Bytes,
    chunks: Vec<dulse_types::FileChunk>,
}

impl Content {
    pub(super) async fn of(http: &Http, fields: EntryFields) -> Result<Self, Refusal> {
        let resolved = http.blobs.resolve(fields.chunks).await?;
        Ok(Self {
            inline: fields.content,
            chunks: resolved.data,
        })
    }

    pub(super) fn views(&self, range: Range<u64>) -> Result<Vec<View>, Refusal> {
        if self.inline.is_empty() {
            return Ok(views_of(&self.chunks, range)?);
        }
        let n_inline = self.inline.len() as u64;
        let (start, end) = (range.start.min(n_inline), range.end.min(n_inline));
        let mut views = Vec::new();
        if start < end {
            views.push(inline_view(
                start,
                self.inline.slice(start as usize..end as usize),
            ));
        }
        let hole = range.start.max(n_inline)..range.end;
        if hole.start < hole.end {
            views.extend(views_of(&[], hole)?);
        }
        Ok(views)
    }
}

fn inline_view(offset: u64, bytes: Bytes) -> View {
    View {
        offset,
        len: bytes.len() as u64,
        source: Source::Inline(bytes),
    }
}

/// Several ranges as one body, the headers between them as inline views.
fn byteranges(
    content: &Content,
    parts: &[Range<u64>],
    size: u64,
    mime: Option<&HeaderValue>,
) -> Result<(Vec<View>, String), Refusal> {
    let boundary = format!("{:032x}", rand::random::<u128>());
    let mime = mime
        .and_then(|m| m.to_str().ok())
        .unwrap_or("application/octet-stream");
    let mut views = Vec::new();
    for (i, range) in parts.iter().enumerate() {
        let lead = if i == 0 { "" } else { "\r\n" };
        let range_text = content_range(range, size);
        let head = format!(
            "{lead}--{boundary}\r\nContent-Range: {range_text}\r\nContent-Type: {mime}\r\n\r\n"
        );
        views.push(inline_view(0, Bytes::from(head)));
        views.extend(content.views(range.clone())?);
    }
    let end = format!("\r\n--{boundary}--\r\n");
    views.push(inline_view(0, Bytes::from(end)));
    Ok((views, boundary))
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// 416: the file's headers, and why.
fn unsatisfied(mut reply: Reply, why: &'static str) -> Reply {
    let (mut parts, _) = text(StatusCode::RANGE_NOT_SATISFIABLE, why).into_parts();
    for (name, value) in reply.headers() {
        if !parts.headers.contains_key(name) {
            parts.headers.insert(name, value.clone());
        }
    }
    let nosniff = HeaderValue::from_static("nosniff");
    parts.headers.insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    *reply.status_mut() = parts.status;
    *reply.headers_mut() = parts.headers;
    *reply.body_mut() = Body::from(why);
    reply
}

fn unchanged(verdict: Verdict, current: &Current<'_>) -> Reply {
    let mut reply = match verdict {
        Verdict::Failed => bare(StatusCode::PRECONDITION_FAILED),
        _ => bare(StatusCode::NOT_MODIFIED),
    };
    if verdict == Verdict::NotModified {
        set(&mut reply, ETAG, &format!("\"{}\"", current.etag));
    }
    set(&mut reply, LAST_MODIFIED, &http_date(current.mtime));
    reply
}

/// Whether the bytes are at another storage only.
fn is_only_remote(fields: &EntryFields, size: u64) -> bool {
    fields.remote_entry.is_some()
        && fields.chunks.is_empty()
        && fields.content.is_empty()
        && size > 0
}

fn fill_headers(
    reply: &mut Reply,
    path: &FullPath,
    fields: &EntryFields,
    query: &Query,
    current: &Current<'_>,
) {
    let stored_mime = fields.attributes.as_ref().map_or("", |a| a.mime.as_str());
    let mime = match stored_mime {
        "" => mime::by_name(path.name()),
        stored => stored,
    };
    set(reply, CONTENT_TYPE, mime);
    set(reply, ETAG, &format!("\"{}\"", current.etag));
    set(reply, LAST_MODIFIED, &http_date(current.mtime));
    let headers = reply.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let mut exposed = extended::to_headers(&fields.extended, headers);
    if !headers.contains_key(CONTENT_DISPOSITION) {
        set(
            reply,
            CONTENT_DISPOSITION,
            &disposition(path.name(), query.is_true("dl")),
        );
    }
    exposed.push("Content-Disposition".to_owned());
    set(reply, ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(","));
    for (name, header) in OVERRIDES {
        if !query.text(name).is_empty() {
            set(reply, header, query.text(name));
        }
    }
}

/// `inline; filename=…`, quoted or encoded where the name needs it (RFC 6266).
fn disposition(name: &str, is_download: bool) -> String {
    let kind = if is_download { "attachment" } else { "inline" };
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&b);
    if name.bytes().all(is_token) {
        return format!("{kind}; filename={name}");
    }
    if name.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("{kind}; filename=\"{quoted}\"");
    }
    let encoded = super::target::percent_encode_path(name);
    format!("{kind}; filename*=utf-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_or_encoded_as_they_need() {
        for (name, expect) in [
            ("a.txt", "inline; filename=a.txt"),
            ("a b.txt", "inline; filename=\"a b.txt\""),
            ("a\"b", "inline; filename=\"a\\\"b\""),
            ("é\r\n", "inline; filename*=utf-8''%C3%A9%0D%0A"),
        ] {
            assert_eq!(disposition(name, false), expect);
        }
        assert_eq!(disposition("a", true), "attachment; filename=a");
    }

    #[test]
    fn inline_content_is_cut_and_padded_like_chunks() {
        let content = Content {
            inline: Bytes::from_static(b"hello"),
            chunks: Vec::new(),
        };
        let views = content.views(3..8).unwrap();
        assert_eq!(views[0].source, Source::Inline(Bytes::from_static(b"lo")));
        assert_eq!((views[1].len, &views[1].source), (3, &Source::Zeros));
        assert_eq!(content.views(6..8).unwrap().len(), 1);
    }
}
