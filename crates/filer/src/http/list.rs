// SPDX-License-Identifier: Apache-2.0
//! Directories as JSON and as a page for people.

use askama::Template;
use axum::body::Body;
use dulse_store::{LIST_MAX, ListRange, Listed};
use dulse_types::FullPath;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use jiff::Timestamp;

use super::Http;
use super::answer::{Refusal, Reply, set};
use super::glob;
use super::list_json;
use super::target::{Query, percent_encode_path};

/// Entries of one page of the HTML listing when the query gives no limit.
const PAGE_ROWS: usize = 500;

/// What part of a directory is shown.
pub(super) struct Page {
    pub(super) rows: Vec<Listed>,
    pub(super) has_more: bool,
}

/// Answers with the entries of a directory.
pub(super) async fn directory(
    http: &Http,
    path: &FullPath,
    query: &Query,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Reply, Refusal> {
    if !http.options.lists_directories {
        return Err(Refusal::bare(StatusCode::FORBIDDEN));
    }
    let accept = headers
        .get(http::header::ACCEPT)
        .and_then(|v| v.to_str().ok());
    let is_json = accept.is_some_and(|a| a.trim() == "application/json");
    let default = if is_json {
        http.options.list_limit
    } else {
        PAGE_ROWS
    };
    let limit = query.text("limit").parse().unwrap_or(default);
    let limit = limit.min(http.options.list_limit);
    if method == Method::HEAD {
        return Ok(html(String::new()));
    }
    if is_json {
        return list_json::answer(http, path, query, limit).await;
    }
    let page = Filter::of(query).next(http, path, limit).await?;
    as_html(http, path, page, query)
}

/// Which names are shown, and how far the listing has come.
pub(super) struct Filter {
    pattern: String,
    exclude: String,
    /// Where reading goes on: behind this name.
    read_to: String,
    /// The last name that was shown, at first the one the query starts behind.
    pub(super) last_shown: String,
}

impl Filter {
    pub(super) fn of(query: &Query) -> Self {
        let pattern = query.text("namePattern");
        let start = query.text("lastFileName").to_owned();
        Self {
            // Upstream ignores a pattern that is none.
            pattern: match glob::is_pattern(pattern) {
                true => pattern.to_owned(),
                false => String::new(),
            },
            exclude: query.text("namePatternExclude").to_owned(),
            read_to: start.clone(),
            last_shown: start,
        }
    }

    /// Reads until `limit` rows that are shown are found, and whether one more is.
    pub(super) async fn next(
        &mut self,
        http: &Http,
        path: &FullPath,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let mut rows: Vec<Listed> = Vec::new();
        self.read_to.clone_from(&self.last_shown);
        loop {
            let n_asked = (limit + 1 - rows.len()).min(LIST_MAX);
            let range = ListRange {
                prefix: glob::literal_prefix(&self.pattern).to_owned(),
                start: self.read_to.clone(),
                inclusive: false,
                limit: n_asked,
            };
            let found = http.names.list(path, range).await?;
            let is_end = found.len() < n_asked;
            if let Some(last) = found.last() {
                last.name.clone_into(&mut self.read_to);
            }
            rows.extend(found.into_iter().filter(|row| self.shows(&row.name)));
            if rows.len() > limit || is_end {
                let has_more = rows.len() > limit;
                rows.truncate(limit);
                if let Some(last) = rows.last() {
                    last.name.clone_into(&mut self.last_shown);
                }
                return Ok(Page { rows, has_more });
            }
        }
    }

    fn shows(&self, name: &str) -> bool {
        (self.pattern.is_empty() || glob::matches(&self.pattern, name))
            && (self.exclude.is_empty() || !glob::matches(&self.exclude, name))
    }
}

#[derive(Template)]
#[template(path = "listing.html")]
struct Listing {
    path: String,
    crumbs: Vec<Crumb>,
    rows: Vec<Row>,
    n_rows: usize,
    next: Option<String>,
    /// Whether nothing comes before this page.
    is_first: bool,
    nonce: String,
    version: &'static str,
    is_read_only: bool,
}

struct Crumb {
    name: String,
    href: String,
}

struct Row {
    name: String,
    href: String,
    is_dir: bool,
    size: String,
    mime: String,
    time: String,
    time_machine: String,
}

fn as_html(http: &Http, path: &FullPath, page: Page, query: &Query) -> Result<Reply, Refusal> {
    let base = if path.is_root() { "" } else { path.as_str() };
    let nonce = format!("{:032x}", rand::random::<u128>());
    let next = page.rows.last().filter(|_| page.has_more).map(|last| {
        let from = percent_encode_path(&last.name).replace('/', "%2F");
        match query.text("limit") {
            "" => format!("?lastFileName={from}"),
            limit => format!("?lastFileName={from}&limit={}", percent_encode_path(limit)),
        }
    });
    let mut rows = Vec::with_capacity(page.rows.len());
    for row in &page.rows {
        rows.push(row_of(base, row)?);
    }
    let listing = Listing {
        path: path.to_string(),
        crumbs: crumbs_of(path),
        n_rows: rows.len(),
        rows,
        next,
        is_first: query.text("lastFileName").is_empty(),
        nonce: nonce.clone(),
        version: super::VERSION,
        is_read_only: http.options.is_read_only,
    };
    let text = listing.render().map_err(|e| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("render the page: {e}"),
        )
    })?;
    let mut reply = html(text);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    set(&mut reply, CONTENT_SECURITY_POLICY, &policy);
    Ok(reply)
}

fn html(text: String) -> Reply {
    let mut reply = Response::new(Body::from(text));
    let mime = HeaderValue::from_static("text/html; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, mime);
    reply
}

fn row_of(base: &str, row: &Listed) -> Result<Row, Refusal> {
    let fields = row.entry.fields().map_err(super::write::damaged)?;
    let attrs = fields.attrs();
    let is_dir = fields.is_dir();
    let slash = if is_dir { "/" } else { "" };
    let time = Timestamp::from_second(attrs.mtime).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Row {
        name: row.name.clone(),
        href: format!(
            "{}{slash}",
            percent_encode_path(&format!("{base}/{}", row.name))
        ),
        is_dir,
        size: if is_dir {
            String::new()
        } else {
            human_size(fields.size())
        },
        mime: attrs.mime,
        time: time.strftime("%Y-%m-%d %H:%M").to_string(),
        time_machine: time.to_string(),
    })
}

fn crumbs_of(path: &FullPath) -> Vec<Crumb> {
    let mut href = String::from("/");
    let parts = path.as_str().split('/').filter(|p| !p.is_empty());
    parts
        .map(|part| {
            href.push_str(&percent_encode_path(part));
            href.push('/');
            Crumb {
                name: part.to_owned(),
                href: href.clone(),
            }
        })
        .collect()
}

fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, expect) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (4 << 20, "4.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human_size(bytes), expect);
        }
    }
}
