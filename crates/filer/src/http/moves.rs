// SPDX-License-Identifier: Apache-2.0
//! `mv.from`, `cp.from` and `tagging` of PUT and POST.

use bytes::Bytes;
use dulse_types::{EntryFields, FullPath};
use http::{HeaderMap, StatusCode};

use super::Http;
use super::answer::{Refusal, Reply, accepted, bare};
use super::extended;
use super::names::{Expected, NameError, Write};
use super::plan::{Plan, plan_of};
use super::read::Content;
use super::target::{Query, Target, clean};
use super::upload::store;
use super::write::{child, damaged, modify, now};

/// Renames `mv.from` to the path of the request.
pub(super) async fn rename(http: &Http, to: Target, query: &Query) -> Result<Reply, Refusal> {
    let from = clean(query.text("mv.from"))?;
    let (to, _) = source_and_target(http, &from, to, ", err").await?;
    http.check_name(&to)?;
    let written = match http.names.rename(&from, &to).await {
        Err(NameError::IsFile(_)) => {
            return Err(bad(format!(
                "move: cannot overwrite non-directory '{to}' with directory '{from}'"
            )));
        }
        Err(error @ (NameError::IsDirectory(_) | NameError::Invalid(_))) => {
            return Err(bad(format!(
                "failed to move entry from '{from}' to '{to}', err: {error}"
            )));
        }
        other => other?,
    };
    let mut reply = bare(StatusCode::NO_CONTENT);
    http.set_token(&mut reply, &written);
    Ok(reply)
}

/// Copies the file `cp.from`, bytes included, to the path of the request.
pub(super) async fn copy(http: &Http, to: Target, query: &Query) -> Result<Reply, Refusal> {
    let from = clean(query.text("cp.from"))?;
    let (to, fields) = source_and_target(http, &from, to, "").await?;
    http.check_name(&to)?;
    if fields.is_dir() {
        return Err(bad(format!(
            "copy: directory copying not yet supported for '{from}'"
        )));
    }
    let exists = || {
        let text = format!("destination file {to} already exists");
        Refusal::new(StatusCode::CONFLICT, text)
    };
    if from == to {
        return Err(bad(format!(
            "source and destination are the same path: {to}; \
             choose a different destination file name or directory"
        )));
    }
    let plan = plan_of(http, &to, query, 0)?;
    let (copied, stored) = copy_bytes(http, fields, &plan).await?;
    let write = Write {
        path: to.clone(),
        entry: copied.to_entry(&Default::default()),
        expected: match query.is_true("overwrite") {
            true => Expected::Anything,
            false => Expected::Absent,
        },
        make_parents: true,
    };
    let written = match http.names.write(write).await {
        Ok(written) => written,
        Err(NameError::Conflict) => return Err(exists()),
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
    let committed = http::HeaderName::from_static("x-seaweedfs-copy-committed");
    headers.insert(committed, http::HeaderValue::from_static("true"));
    Ok(reply)
}

fn bad(text: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, text)
}

async fn copy_bytes(
    http: &Http,
    mut fields: EntryFields,
    plan: &Plan,
) -> Result<(EntryFields, super::upload::Pending), Refusal> {
    let (now, nanos) = now();
    let attrs = fields.attrs_mut();
    (attrs.mtime, attrs.mtime_ns, attrs.crtime) = (now, nanos, now);
    attrs.inode = 0;
    fields.hard_link_id.clear();
    fields.hard_link_counter = 0;
    fields.remote_entry = None;
    let size = fields.size();
    if fields.chunks.is_empty() {
        return Ok((fields, super::upload::Pending::new(http.blobs.clone())));
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

/// Where to: into the target when it is a directory. And what is there at the source;
/// `lead` is what upstream puts before the cause, where it does.
async fn source_and_target(
    http: &Http,
    from: &FullPath,
    to: Target,
    lead: &str,
) -> Result<(FullPath, EntryFields), Refusal> {
    if from.is_root() {
        return Err(bad("invalid source '/'".to_owned()));
    }
    let source = match http.names.find(from).await {
        Ok(Some(found)) => found.entry.fields().map_err(damaged)?,
        Ok(None) => {
            let error = NameError::NotFound;
            return Err(bad(format!(
                "failed to get src entry '{from}'{lead}: {error}"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let is_dir = match http.names.find(&to.path).await? {
        Some(found) => found.entry.is_dir(),
        None => to.has_slash,
    };
    let path = if is_dir {
        child(&to.path, from.name())?
    } else {
        to.path
    };
    Ok((path, source))
}

/// Sets the tags of the request's headers.
pub(super) async fn tag(
    http: &Http,
    path: &FullPath,
    headers: &HeaderMap,
) -> Result<Reply, Refusal> {
    let tags = extended::tags_of(headers);
    let change = |fields: &mut EntryFields| {
        fields
            .extended
            .extend(tags.iter().map(|(k, v)| (k.clone(), v.clone())));
        true
    };
    let mut reply = accepted();
    if let Some(written) = modify(http, path, change).await? {
        http.set_token(&mut reply, &written);
    }
    Ok(reply)
}
