// SPDX-License-Identifier: Apache-2.0
//! DELETE of entries, and of tags.

use dulse_types::FullPath;
use http::StatusCode;

use super::Http;
use super::answer::{Refusal, Reply, accepted, bare};
use super::extended::PREFIX;
use super::names::{Delete, NameError};
use super::target::Query;
use super::write::modify;

/// Deletes an entry; what is missing counts as deleted.
pub(super) async fn entry(http: &Http, path: &FullPath, query: &Query) -> Result<Reply, Refusal> {
    let mut reply = bare(StatusCode::NO_CONTENT);
    if path.is_root() {
        return Ok(reply);
    }
    let how = Delete {
        is_recursive: match http.options.deletes_recursively {
            true => query.text("recursive") != "false",
            false => query.is_true("recursive"),
        },
        ignores_errors: query.is_true("ignoreRecursiveError"),
        deletes_chunks: !query.is_true("skipChunkDeletion"),
    };
    match http.names.delete(path, how).await {
        Ok(written) => http.set_token(&mut reply, &written),
        Err(NameError::NotFound) => http.set_token(&mut reply, &http.names.seen()),
        Err(error) => return Err(error.into()),
    }
    Ok(reply)
}

/// Removes the tags named in the query, or all of them.
pub(super) async fn tags(http: &Http, path: &FullPath, query: &Query) -> Result<Reply, Refusal> {
    let names: Vec<String> = query
        .text("tagging")
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| format!("{PREFIX}{}", super::extended::canonical(name)))
        .collect();
    let change = |fields: &mut dulse_types::EntryFields| {
        let n_before = fields.extended.len();
        fields.extended.retain(|key, _| {
            let is_named = names.is_empty() || names.contains(key);
            !(key.starts_with(PREFIX) && is_named)
        });
        fields.extended.len() != n_before
    };
    // Upstream asks for 304 where nothing was removed; what clients see is 200.
    let Some(written) = modify(http, path, change).await? else {
        let mut reply = bare(StatusCode::OK);
        http.set_token(&mut reply, &http.names.seen());
        return Ok(reply);
    };
    let mut reply = accepted();
    http.set_token(&mut reply, &written);
    Ok(reply)
}
