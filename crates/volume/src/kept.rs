// SPDX-License-Identifier: Apache-2.0
//! What a needle keeps beside its data: headers to give back, name, type and time.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::needle::Needle;

/// Request headers that begin so are kept, without it.
const KEPT_PREFIX: &str = "seaweed-";

/// Most bytes of kept headers as JSON: the format has two bytes for their length.
const PAIRS_LEN_MAX: usize = u16::MAX as usize;

/// The headers to keep, as a needle stores them; empty without any.
///
/// # Errors
///
/// When they are longer than the format allows.
pub(crate) fn pairs(headers: &HeaderMap) -> Result<Vec<u8>, String> {
    let kept: BTreeMap<String, &str> = headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(KEPT_PREFIX)?;
            Some((capitalize(name), value.to_str().ok()?))
        })
        .collect();
    if kept.is_empty() {
        return Ok(Vec::new());
    }
    let json = serde_json::to_vec(&kept).map_err(|e| e.to_string())?;
    if json.len() > PAIRS_LEN_MAX {
        let len = json.len();
        return Err(format!(
            "Seaweed-* headers of {len} bytes, expected at most {PAIRS_LEN_MAX}"
        ));
    }
    Ok(json)
}

/// A header's name as upstream stores it: each word with a capital letter.
fn capitalize(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

/// Sets what a needle kept: its headers, its type, its name and its time.
pub(crate) fn give_back(needle: &Needle, out: &mut HeaderMap) {
    let pairs: BTreeMap<String, String> = serde_json::from_slice(&needle.pairs).unwrap_or_default();
    for (name, value) in &pairs {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            out.insert(name, value);
        }
    }
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            out.insert(name, value);
        }
    };
    if !needle.mime.is_empty() {
        set(header::CONTENT_TYPE, &String::from_utf8_lossy(&needle.mime));
    }
    if !needle.name.is_empty() {
        let name = String::from_utf8_lossy(&needle.name);
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        set(
            header::CONTENT_DISPOSITION,
            &format!("inline; filename=\"{quoted}\""),
        );
    }
    if let Some(text) = last_modified(needle) {
        set(header::LAST_MODIFIED, &text);
    }
}

/// When it was modified, as a header says it.
fn last_modified(needle: &Needle) -> Option<String> {
    let seconds = i64::try_from(needle.modified_s).ok().filter(|s| *s > 0)?;
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// Whether the reader has it already: `If-None-Match` with exactly its tag or, without one,
/// `If-Modified-Since` at or after its time.
pub(crate) fn is_unmodified(needle: &Needle, etag: &str, headers: &HeaderMap) -> bool {
    if let Some(tags) = headers.get(header::IF_NONE_MATCH) {
        return tags.as_bytes() == etag.as_bytes();
    }
    let since = headers
        .get(header::IF_MODIFIED_SINCE)
        .and_then(|v| v.to_str().ok())
        .and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    let modified = i64::try_from(needle.modified_s).ok().filter(|s| *s > 0);
    matches!((since, modified), (Some(since), Some(at)) if at <= since.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_headers_come_back_without_their_prefix() {
        let mut headers = HeaderMap::new();
        headers.insert("seaweed-key-one", HeaderValue::from_static("v"));
        headers.insert("other", HeaderValue::from_static("v"));
        let pairs = pairs(&headers).unwrap();
        assert_eq!(pairs, br#"{"Key-One":"v"}"#);
        let needle = Needle {
            pairs,
            name: b"a \"b\".txt".to_vec(),
            modified_s: 1_795_350_754,
            ..Needle::default()
        };
        let mut out = HeaderMap::new();
        give_back(&needle, &mut out);
        assert_eq!(out["key-one"], "v");
        assert_eq!(
            out[header::CONTENT_DISPOSITION],
            "inline; filename=\"a \\\"b\\\".txt\""
        );
        assert_eq!(out[header::LAST_MODIFIED], "Sun, 22 Nov 2026 12:32:34 GMT");
        let mut asked = HeaderMap::new();
        asked.insert(
            header::IF_MODIFIED_SINCE,
            out[header::LAST_MODIFIED].clone(),
        );
        assert!(is_unmodified(&needle, "\"x\"", &asked));
        asked.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"y\""));
        assert!(!is_unmodified(&needle, "\"x\"", &asked));
    }
}
