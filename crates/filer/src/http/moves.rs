// SPDX-License-Identifier: Apache-2.0
//! `mv.from` and `tagging` of PUT and POST.

use dulse_types::{EntryFields, FullPath};
use http::{HeaderMap, StatusCode};

use super::Http;
use super::answer::{Refusal, Reply, accepted, bare};
use super::extended;
use super::names::NameError;
use super::target::{Query, Target, clean};
use super::write::{child, damaged, modify};

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

pub(super) fn bad(text: String) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, text)
}

/// Where to: into the target when it is a directory. And what is there at the source;
/// `lead` is what upstream puts before the cause, where it does.
pub(super) async fn source_and_target(
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
