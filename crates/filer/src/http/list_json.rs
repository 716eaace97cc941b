// SPDX-License-Identifier: Apache-2.0
//! A directory as JSON, written page by page: memory does not grow with the listing.

use axum::body::Body;
use bytes::Bytes;
use dulse_store::Listed;
use dulse_types::FullPath;
use futures::stream;
use http::StatusCode;
use serde::Serialize;

use super::Http;
use super::answer::{Refusal, Reply, bare, json, mark_json};
use super::entry_json::EntryJson;
use super::list::{Filter, Page};
use super::target::Query;

/// Entries read and written at a time, some hundred KiB of text.
const PART_ROWS: usize = 500;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListJson<'a> {
    version: &'a str,
    path: &'a str,
    entries: Option<Vec<EntryJson>>,
    limit: usize,
    last_file_name: &'a str,
    should_display_load_more: bool,
    empty_folder: bool,
}

/// A listing on its way.
struct Listing {
    http: Http,
    path: FullPath,
    filter: Filter,
    limit: usize,
    n_written: usize,
    /// Not written yet; empty only at the end.
    page: Option<Page>,
}

/// Answers with at most `limit` entries.
pub(super) async fn answer(
    http: &Http,
    path: &FullPath,
    query: &Query,
    limit: usize,
) -> Result<Reply, Refusal> {
    let mut filter = Filter::of(query);
    // Only a compact listing is written piece by piece.
    let n_first = if query.is_pretty() {
        limit
    } else {
        limit.min(PART_ROWS)
    };
    let page = filter.next(http, path, n_first).await?;
    if n_first == limit || !page.has_more {
        return whole(path, page, limit, query);
    }
    let listing = Listing {
        http: http.clone(),
        path: path.clone(),
        filter,
        limit,
        n_written: 0,
        page: Some(page),
    };
    let parts = stream::try_unfold(listing, |mut listing| async move {
        let part = listing.part().await;
        let part = part.inspect_err(|e| tracing::warn!(error = e.text, "a listing broke off"))?;
        Ok::<_, Refusal>(part.map(|part| (part, listing)))
    });
    let mut reply = bare(StatusCode::OK);
    mark_json(&mut reply);
    *reply.body_mut() = Body::from_stream(parts);
    Ok(reply)
}

fn base(path: &FullPath) -> &str {
    if path.is_root() { "" } else { path.as_str() }
}

fn entry(path: &FullPath, row: &Listed) -> Result<EntryJson, Refusal> {
    let fields = row.entry.fields().map_err(super::write::damaged)?;
    Ok(EntryJson::of(
        &format!("{}/{}", base(path), row.name),
        fields,
    ))
}

fn whole(path: &FullPath, page: Page, limit: usize, query: &Query) -> Result<Reply, Refusal> {
    let last = page.rows.last().map(|row| row.name.as_str());
    let entries = page.rows.iter().map(|row| entry(path, row));
    let entries: Vec<EntryJson> = entries.collect::<Result<_, _>>()?;
    let is_empty = entries.is_empty();
    let list = ListJson {
        version: super::VERSION,
        path: base(path),
        entries: (!is_empty || page.has_more).then_some(entries),
        limit,
        last_file_name: last.unwrap_or(query.text("lastFileName")),
        should_display_load_more: page.has_more,
        empty_folder: is_empty,
    };
    Ok(json(StatusCode::OK, &list, query.is_pretty()))
}

impl Listing {
    /// The next piece of text: the head and a page, a page, the last page and the tail.
    async fn part(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Some(page) = self.page.take() else {
            return Ok(None);
        };
        let mut text = Vec::with_capacity(64 << 10);
        if self.n_written == 0 {
            text.extend_from_slice(b"{\"Version\":");
            push(&mut text, &super::VERSION)?;
            text.extend_from_slice(b",\"Path\":");
            push(&mut text, &base(&self.path))?;
            text.extend_from_slice(b",\"Entries\":[");
        }
        for row in &page.rows {
            if self.n_written > 0 {
                text.push(b',');
            }
            self.n_written += 1;
            push(&mut text, &entry(&self.path, row)?)?;
        }
        let n_left = self.limit - self.n_written;
        if page.has_more && n_left > 0 {
            let next = self
                .filter
                .next(&self.http, &self.path, n_left.min(PART_ROWS));
            let next = next.await?;
            if !next.rows.is_empty() {
                self.page = Some(next);
                return Ok(Some(text.into()));
            }
        }
        text.extend_from_slice(b"],\"Limit\":");
        push(&mut text, &self.limit)?;
        text.extend_from_slice(b",\"LastFileName\":");
        push(&mut text, &self.filter.last_shown)?;
        text.extend_from_slice(b",\"ShouldDisplayLoadMore\":");
        push(&mut text, &(page.has_more && n_left == 0))?;
        text.extend_from_slice(b",\"EmptyFolder\":false}");
        Ok(Some(text.into()))
    }
}

fn push(text: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Refusal> {
    serde_json::to_writer(text, value).map_err(|e| {
        let text = format!("write the listing: {e}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })
}
