// SPDX-License-Identifier: Apache-2.0
//! `cp.from` of PUT and POST: a copy of a file, bytes included.
//!
//! The mount's `copy_file_range` sends `dataOnly=true`, which replaces the content of a file
//! and leaves its attributes, and says which source and destination it means:
//! `copy.srcInode`, `copy.srcMtime` (seconds), `copy.srcSize`, and the same for `dst`.
//! Upstream also remembers outcomes by `copy.requestId` for two minutes. Here the id is only
//! repeated in the answer: a request that is sent again finds its own result and is refused
//! by its preconditions, never applied twice.

use bytes::Bytes;
use dulse_store::Found;
use dulse_types::{EntryFields, FullPath, UnknownFields};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Http;
use super::answer::{Refusal, Reply, bare, set};
use super::moves::{bad, source_and_target};
use super::names::{Expected, NameError, Write};
use super::plan::{Plan, plan_of};
use super::read::Content;
use super::target::{Query, Target, clean};
use super::upload::{Pending, store};
use super::write::{damaged, now};

const COMMITTED: HeaderName = HeaderName::from_static("x-seaweedfs-copy-committed");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-seaweedfs-copy-request-id");

/// Copies the file `cp.from`, bytes included, to the path of the request.
pub(super) async fn copy(
    http: &Http,
    to: Target,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Reply, Refusal> {
    let from = clean(query.text("cp.from"))?;
    let (to, source) = source_and_target(http, &from, to, "").await?;
    http.check_name(&to)?;
    if source.is_dir() {
        return Err(bad(format!(
            "copy: directory copying not yet supported for '{from}'"
        )));
    }
    if from == to {
        return Err(bad(format!(
            "source and destination are the same path: {to}; \
             choose a different destination file name or directory"
        )));
    }
    let there = http.names.find(&to).await?;
    check(query, "copy.src", Some(&source))?;
    let old = there.as_ref().map(|found| found.entry.fields());
    let old = old.transpose().map_err(damaged)?;
    check(query, "copy.dst", old.as_ref())?;
    let plan = plan_of(http, &to, query, headers, 0)?;
    let is_data_only = query.is_true("dataOnly");
    let into = there.zip(old).filter(|_| is_data_only);
    let expected = match &into {
        Some((found, _)) => Expected::Same(found.token),
        None if query.is_true("overwrite") => Expected::Anything,
        None => Expected::Absent,
    };
    let (content, stored) = content_of(http, source, &plan).await?;
    let (fields, unknown) = merged(into, content)?;
    let write = Write {
        path: to.clone(),
        entry: fields.to_entry(&unknown),
        expected,
        make_parents: true,
    };
    let written = match http.names.write(write).await {
        Ok(written) => written,
        Err(NameError::Conflict) if is_data_only => return Err(changed(&to)),
        Err(NameError::Conflict) => {
            let text = format!("destination file {to} already exists");
            return Err(Refusal::new(StatusCode::CONFLICT, text));
        }
        Err(error) => {
            if error.may_be_applied() {
                stored.keep();
            }
            return Err(error.into());
        }
    };
    stored.keep();
    let mut reply = bare(StatusCode::NO_CONTENT);
    http.set_token(&mut reply, &written);
    let headers = reply.headers_mut();
    headers.insert(COMMITTED, HeaderValue::from_static("true"));
    if !query.text("copy.requestId").is_empty() {
        set(&mut reply, REQUEST_ID, query.text("copy.requestId"));
    }
    Ok(reply)
}

/// The destination's entry with the content; without a destination the content's own.
fn merged(
    into: Option<(Found, EntryFields)>,
    content: EntryFields,
) -> Result<(EntryFields, UnknownFields), Refusal> {
    let Some((found, mut fields)) = into else {
        return Ok((content, UnknownFields::default()));
    };
    if fields.is_dir() {
        let error = NameError::IsDirectory("existing entry is a directory".to_owned());
        return Err(error.into());
    }
    let from = content.attributes.clone().unwrap_or_default();
    let to = fields.attrs_mut();
    (to.mtime, to.mtime_ns) = (from.mtime, from.mtime_ns);
    (to.file_size, to.mime, to.md5) = (from.file_size, from.mime, from.md5);
    (fields.chunks, fields.content) = (content.chunks, content.content);
    Ok((fields, found.entry.unknown()))
}

/// Compares an entry with what the request says of it, where it says something.
fn check(query: &Query, what: &str, entry: Option<&EntryFields>) -> Result<(), Refusal> {
    let attributes = entry.and_then(|fields| fields.attributes.clone());
    let attributes = attributes.unwrap_or_default();
    let size = entry.map_or(0, EntryFields::size);
    for (name, is) in [
        ("Inode", attributes.inode.to_string()),
        ("Mtime", attributes.mtime.to_string()),
        ("Size", size.to_string()),
    ] {
        let name = format!("{what}{name}");
        let wanted = query.text(&name);
        if !wanted.is_empty() && (entry.is_none() || wanted != is) {
            let text = format!("{name} is {is}, expected {wanted}");
            return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, text));
        }
    }
    Ok(())
}

fn changed(to: &FullPath) -> Refusal {
    let text = format!("destination file {to} was changed meanwhile");
    Refusal::new(StatusCode::PRECONDITION_FAILED, text)
}

/// A new file's fields with a copy of the content of another.
async fn content_of(
    http: &Http,
    mut fields: EntryFields,
    plan: &Plan,
) -> Result<(EntryFields, Pending), Refusal> {
    let (now, nanos) = now();
    let attrs = fields.attrs_mut();
    (attrs.mtime, attrs.mtime_ns, attrs.crtime) = (now, nanos, now);
    attrs.inode = 0;
    fields.hard_link_id.clear();
    fields.hard_link_counter = 0;
    fields.remote_entry = None;
    let size = fields.size();
    if fields.chunks.is_empty() {
        fields.attrs_mut().file_size = size;
        return Ok((fields, Pending::new(http.blobs.clone())));
    }
    let content = Content::of(http, fields.clone()).await?;
    let frames = http.blobs.stream(content.views(0..size)?);
    let stored = store(&http.blobs, plan, Box::pin(frames)).await?;
    fields.chunks = stored.chunks.chunks().to_vec();
    fields.content.clear();
    fields.attrs_mut().file_size = size;
    fields.attrs_mut().md5 = Bytes::copy_from_slice(&stored.md5);
    Ok((fields, stored.chunks))
}
