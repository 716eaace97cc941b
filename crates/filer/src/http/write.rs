// SPDX-License-Identifier: Apache-2.0
//! PUT and POST: store a file, append to it, write into it, make a directory.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{FromRequest, Multipart};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dulse_store::Found;
use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{EntryFields, EntryName, FullPath};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, Request, StatusCode};
use serde::Serialize;

use super::Http;
use super::answer::{Refusal, Reply, json, set};
use super::extended;
use super::names::{Expected, NameError, Write, Written};
use super::plan::{Plan, mode_of, plan_of, ttl_seconds};
use super::target::{Query, Target};
use super::upload::{Stored, store};

/// Execute bits that a directory has beside the mode of its files.
const MODE_SEARCH: u32 = 0o111;

/// How often a change of an entry is tried again when someone else changed it meanwhile.
const CONFLICTS_MAX: u32 = 16;

/// Header that compares the body on its way.
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// Where the bytes of a request go in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// They are the file.
    Replace,
    /// Behind what is there.
    Append,
    /// At an offset of what is there.
    At(u64),
}

/// What a body is, beside its bytes.
struct Head<'a> {
    query: &'a Query,
    headers: &'a HeaderMap,
    /// Empty for octet-stream.
    mime: String,
    /// The name that the answer repeats.
    name: String,
}

#[derive(Serialize)]
struct Receipt<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Stores a raw body under the path of the request.
pub(super) async fn put(
    http: &Http,
    target: Target,
    query: &Query,
    request: Request<Body>,
) -> Result<Reply, Refusal> {
    let (parts, body) = request.into_parts();
    let place = place_of(query)?;
    let found = http.names.find(&target.path).await?;
    let is_dir = found.as_ref().is_some_and(|f| f.entry.is_dir());
    if target.path.is_root() {
        return Ok(receipt("", 0, query));
    }
    let (path, found) = if target.has_slash || is_dir {
        // A directory keeps the name of what is put on it, as upstream has it.
        let path = child(&target.path, target.path.name())?;
        let found = http.names.find(&path).await?;
        (path, found)
    } else {
        (target.path, found)
    };
    http.check_name(&path)?;
    let head = Head {
        query,
        mime: mime_of(
            parts
                .headers
                .get(CONTENT_TYPE)
                .and_then(|v| v.to_str().ok()),
        ),
        headers: &parts.headers,
        name: path.name().to_owned(),
    };
    let plan = plan_of(
        http,
        &path,
        query,
        &parts.headers,
        http.options.inline_below,
    )?;
    let stored = store(&http.blobs, &plan, body.into_data_stream()).await?;
    commit(http, &path, found, &head, &plan, place, stored).await
}

/// Stores the first part of a form, or makes a directory.
pub(super) async fn post(
    http: &Http,
    target: Target,
    query: &Query,
    request: Request<Body>,
) -> Result<Reply, Refusal> {
    let headers = request.headers().clone();
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let Some(content_type) = content_type else {
        if target.has_slash {
            return mkdir(http, &target.path, query).await;
        }
        return Err(no_form());
    };
    if !content_type.starts_with("multipart/form-data") {
        return Err(no_form());
    }
    let place = place_of(query)?;
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    let part = form.next_field().await;
    let part = part.map_err(|e| Refusal::new(StatusCode::BAD_REQUEST, e.body_text()))?;
    let part = part.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "the form is empty"))?;
    let name = base_name(part.file_name().unwrap_or_default()).to_owned();
    let mut found = http.names.find(&target.path).await?;
    let mut path = target.path;
    if target.has_slash || found.as_ref().is_some_and(|f| f.entry.is_dir()) {
        path = child(&path, &name)?;
        found = http.names.find(&path).await?;
    }
    http.check_name(&path)?;
    let head = Head {
        query,
        mime: mime_of(part.content_type()),
        headers: &headers,
        name,
    };
    // Upstream's programs read their settings below `/etc` from the entries alone.
    let is_setting = path.as_str().starts_with("/etc/");
    let inline_below = match query.is_true("saveInside") || is_setting {
        true => usize::MAX,
        false => http.options.inline_below,
    };
    let plan = plan_of(http, &path, query, &headers, inline_below)?;
    let stored = store(&http.blobs, &plan, part).await?;
    commit(http, &path, found, &head, &plan, place, stored).await
}

/// Makes a directory that must not be there.
async fn mkdir(http: &Http, path: &FullPath, query: &Query) -> Result<Reply, Refusal> {
    if path.is_root() {
        return Err(dir_exists(path));
    }
    http.check_name(path)?;
    let mut fields = EntryFields::default();
    let mode = mode_of(query) | MODE_SEARCH | MODE_DIRECTORY;
    fill_new(http, &mut fields, mode, query);
    let write = Write {
        path: path.clone(),
        entry: fields.to_entry(&Default::default()),
        expected: Expected::Absent,
        make_parents: true,
    };
    let written = match http.names.write(write).await {
        Err(NameError::Conflict | NameError::IsDirectory(_)) => return Err(dir_exists(path)),
        other => other?,
    };
    let mut reply = receipt(path.name(), 0, query);
    http.set_token(&mut reply, &written);
    Ok(reply)
}

/// Makes the entry that names what was stored.
async fn commit(
    http: &Http,
    path: &FullPath,
    mut found: Option<Found>,
    head: &Head<'_>,
    plan: &Plan,
    place: Place,
    stored: Stored,
) -> Result<Reply, Refusal> {
    check_md5(head.headers, &stored.md5)?;
    let mut n_conflicts = 0;
    let (written, total) = loop {
        let made = make_entry(http, found.as_ref(), head, plan, place, &stored).await?;
        let write = Write {
            path: path.clone(),
            entry: made.entry,
            expected: match (place, &found) {
                (Place::Replace, _) => Expected::Anything,
                (_, Some(found)) => Expected::Same(found.token),
                (_, None) => Expected::Absent,
            },
            make_parents: !head.query.is_true("skipCheckParentDir"),
        };
        match http.names.write(write).await {
            Ok(written) => {
                made.extra.keep();
                break (written, made.size);
            }
            Err(NameError::Conflict) if place != Place::Replace && n_conflicts < CONFLICTS_MAX => {
                n_conflicts += 1;
                found = http.names.find(path).await?;
            }
            Err(error) => {
                if error.may_be_applied() {
                    // The entry may be there and name the chunks.
                    made.extra.keep();
                    stored.chunks.keep();
                }
                return Err(error.into());
            }
        }
    };
    let md5 = STANDARD.encode(stored.md5);
    stored.chunks.keep();
    let mut reply = receipt(&head.name, total, head.query);
    set(&mut reply, CONTENT_MD5, &md5);
    http.set_token(&mut reply, &written);
    Ok(reply)
}

/// An entry ready to be written.
struct Made {
    entry: dulse_types::Entry,
    size: u64,
    /// Chunks written for this attempt only: manifests and inline bytes moved out.
    extra: super::upload::Pending,
}

async fn make_entry(
    http: &Http,
    found: Option<&Found>,
    head: &Head<'_>,
    plan: &Plan,
    place: Place,
    stored: &Stored,
) -> Result<Made, Refusal> {
    let mut extra = super::upload::Pending::new(http.blobs.clone());
    let old = match (place, found) {
        (Place::Replace, _) | (_, None) => None,
        (_, Some(found)) if found.entry.is_dir() => {
            return Err(NameError::IsDirectory("existing entry is a directory".to_owned()).into());
        }
        (_, Some(found)) => Some(&found.entry),
    };
    let (mut fields, unknown) = match old {
        Some(entry) => (entry.fields().map_err(damaged)?, entry.unknown()),
        None => (EntryFields::default(), Default::default()),
    };
    if old.is_none() {
        fill_new(http, &mut fields, mode_of(head.query), head.query);
        fields.attrs_mut().mime.clone_from(&head.mime);
        fields.extended = extended::of_headers(head.headers);
    } else {
        let (now, nanos) = now();
        fields.attrs_mut().mtime = now;
        fields.attrs_mut().mtime_ns = nanos;
    }
    let size_before = fields.size();
    let base = match place {
        Place::Replace => 0,
        Place::Append => size_before,
        Place::At(offset) => offset,
    };
    if old.is_none() && base == 0 {
        fields.content = stored.content.clone();
        fields.attrs_mut().md5 = Bytes::copy_from_slice(&stored.md5);
    } else {
        fields.attrs_mut().md5 = Bytes::new();
        let inline = std::mem::take(&mut fields.content);
        for (offset, bytes) in [(0, inline), (base, stored.content.clone())] {
            if !bytes.is_empty() {
                let up = http.blobs.upload(&plan.placement, bytes, offset, plan.sync);
                let chunk = up.await?.chunk;
                extra.push(chunk.clone());
                fields.chunks.push(chunk);
            }
        }
    }
    for chunk in stored.chunks.chunks() {
        let mut chunk = chunk.clone();
        let shift = i64::try_from(base).map_err(|_| bad_offset(&base.to_string()))?;
        chunk.offset = chunk
            .offset
            .checked_add(shift)
            .ok_or_else(|| bad_offset("it"))?;
        fields.chunks.push(chunk);
    }
    let size = size_before.max(base.saturating_add(stored.size));
    fields.attrs_mut().file_size = size;
    let n_before = fields.chunks.len();
    let chunks = std::mem::take(&mut fields.chunks);
    let old_manifests: Vec<_> = manifest_ids(&chunks);
    fields.chunks = http.blobs.fold(&plan.placement, chunks).await?;
    if fields.chunks.len() != n_before {
        let new = fields.chunks.iter().filter(|c| c.is_chunk_manifest);
        for chunk in new.filter(|c| !old_manifests.contains(&c.id())) {
            extra.push(chunk.clone());
        }
    }
    Ok(Made {
        entry: fields.to_entry(&unknown),
        size,
        extra,
    })
}

fn manifest_ids(chunks: &[dulse_types::FileChunk]) -> Vec<Option<dulse_types::FileId>> {
    let manifests = chunks.iter().filter(|c| c.is_chunk_manifest);
    manifests.map(dulse_types::FileChunk::id).collect()
}

/// Fills what every new entry has.
fn fill_new(http: &Http, fields: &mut EntryFields, mode: u32, query: &Query) {
    let (now, nanos) = now();
    let attrs = fields.attrs_mut();
    attrs.file_mode = mode;
    attrs.mtime = now;
    attrs.mtime_ns = nanos;
    attrs.ctime = now;
    attrs.ctime_ns = nanos;
    attrs.crtime = now;
    attrs.uid = http.options.uid;
    attrs.gid = http.options.gid;
    attrs.ttl_sec = ttl_seconds(query.text("ttl"));
    fields.is_directory = mode & MODE_DIRECTORY != 0;
}

fn place_of(query: &Query) -> Result<Place, Refusal> {
    let is_append = query.text("op") == "append";
    let text = query.text("offset");
    if text.is_empty() {
        return Ok(if is_append {
            Place::Append
        } else {
            Place::Replace
        });
    }
    let offset: u64 = text.parse().map_err(|_| bad_offset(text))?;
    if is_append {
        let text = "cannot set offset when op=append";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    }
    if i64::try_from(offset).is_err() {
        return Err(bad_offset(text));
    }
    Ok(match offset {
        0 => Place::Replace,
        offset => Place::At(offset),
    })
}

/// Compares the body with the header of the request, base64 or hex.
fn check_md5(headers: &HeaderMap, md5: &[u8; 16]) -> Result<(), Refusal> {
    let given = headers.get(CONTENT_MD5).and_then(|v| v.to_str().ok());
    let Some(given) = given.filter(|g| !g.is_empty()) else {
        return Ok(());
    };
    let hex: String = md5.iter().map(|b| format!("{b:02x}")).collect();
    if given == STANDARD.encode(md5) || given.eq_ignore_ascii_case(&hex) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        "The Content-Md5 you specified did not match what we received.",
    ))
}

fn mime_of(content_type: Option<&str>) -> String {
    match content_type {
        None | Some("application/octet-stream") => String::new(),
        Some(mime) => mime.to_owned(),
    }
}

/// What follows the last slash or backslash of a name that a browser sent.
fn base_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

pub(super) fn child(directory: &FullPath, name: &str) -> Result<FullPath, Refusal> {
    let bad = |e: dulse_types::PathError| Refusal::new(StatusCode::BAD_REQUEST, e.to_string());
    let name = EntryName::new(name).map_err(bad)?;
    directory
        .child(&name)
        .map_err(|_| Refusal::bare(StatusCode::URI_TOO_LONG))
}

fn receipt(name: &str, size: u64, query: &Query) -> Reply {
    json(
        StatusCode::CREATED,
        &Receipt { name, size },
        query.is_pretty(),
    )
}

fn bad_offset(text: &str) -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        format!("invalid 'offset': '{text}'"),
    )
}

fn no_form() -> Refusal {
    Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "request Content-Type isn't multipart/form-data",
    )
}

fn dir_exists(path: &FullPath) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, format!("dir {path} already exists"))
}

pub(super) fn damaged(error: dulse_types::entry::EntryError) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// Seconds since 1970 and the nanoseconds beyond.
pub(super) fn now() -> (i64, i32) {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    (seconds, i32::try_from(since.subsec_nanos()).unwrap_or(0))
}

/// Changes the fields of an entry, again when someone else changed it meanwhile.
pub(super) async fn modify(
    http: &Http,
    path: &FullPath,
    change: impl Fn(&mut EntryFields) -> bool,
) -> Result<Option<Written>, Refusal> {
    let mut n_conflicts = 0;
    loop {
        let found = http.names.find(path).await?.ok_or(NameError::NotFound)?;
        let mut fields = found.entry.fields().map_err(damaged)?;
        if !change(&mut fields) {
            return Ok(None);
        }
        let write = Write {
            path: path.clone(),
            entry: fields.to_entry(&found.entry.unknown()),
            expected: Expected::Same(found.token),
            make_parents: false,
        };
        match http.names.write(write).await {
            Err(NameError::Conflict) if n_conflicts < CONFLICTS_MAX => n_conflicts += 1,
            other => return Ok(Some(other?)),
        }
    }
}
