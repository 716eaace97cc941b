// SPDX-License-Identifier: Apache-2.0
//! Doors to the parsers of this module for the fuzz targets; not for anybody else.

use std::ops::Range;

use axum::body::Body;
use axum::extract::{FromRequest, Multipart};
use futures::FutureExt;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use super::condition::{Current, judge, range_holds};
use super::extended;
use super::glob;
use super::plan::{mode_of, ttl_seconds};
use super::range::{Wanted, parse};
use super::target::{Query, Target, percent_encode_path};

/// The parts that a `Range` header asks for.
#[must_use]
pub fn range(header: &str, size: u64) -> Vec<Range<u64>> {
    match parse(Some(header), size) {
        Wanted::Parts(parts) => parts,
        Wanted::Whole | Wanted::Unsatisfiable | Wanted::Malformed => Vec::new(),
    }
}

/// A path with its query.
pub fn request(text: &str) {
    let raw = text.split('?').next().unwrap_or(text);
    if let Ok(target) = Target::of(raw) {
        let encoded = percent_encode_path(target.path.as_str());
        let again = Target::of(&encoded).map(|again| again.path).ok();
        assert_eq!(
            again.as_ref(),
            Some(&target.path),
            "a path changes when encoded"
        );
    }
    if let Ok(uri) = text.parse::<Uri>() {
        let query = Query::of(&uri);
        let _ = (mode_of(&query), query.is_pretty(), query.is_true("op"));
        assert!(ttl_seconds(query.text("ttl")) >= 0);
    }
    assert!(ttl_seconds(text) >= 0);
}

/// A pattern of names and a name.
pub fn pattern(pattern: &str, name: &str) {
    let is_match = glob::matches(pattern, name);
    assert!(!is_match || name.starts_with(glob::literal_prefix(pattern)));
    assert!(glob::is_pattern(pattern) || is_match == (pattern == name));
}

/// Conditional and other headers, one a line, for a file with this tag.
pub fn condition(lines: &[u8], etag: &str) {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(64) {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    for mtime in [0, 1_445_412_480, i64::MIN, i64::MAX] {
        let current = Current { etag, mtime };
        let _ = (judge(&headers, &current), range_holds(&headers, &current));
    }
    let _ = (extended::of_headers(&headers), extended::tags_of(&headers));
}

/// A form: its content type and its body, read to the end as uploads are.
pub fn form(content_type: &[u8], body: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(content_type) else {
        return;
    };
    let mut request = Request::new(Body::from(body.to_vec()));
    request.headers_mut().insert(CONTENT_TYPE, value);
    let read = async {
        let mut form = Multipart::from_request(request, &()).await.ok()?;
        while let Ok(Some(mut part)) = form.next_field().await {
            let _ = (
                part.file_name().map(str::len),
                part.content_type().map(str::len),
            );
            while let Ok(Some(_)) = part.chunk().await {}
        }
        Some(())
    };
    // A body that is all there is never waited for.
    let _ = read.now_or_never();
}
