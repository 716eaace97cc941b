// SPDX-License-Identifier: Apache-2.0
//! Conditional requests (RFC 9110 §13): lists, `*` and weak tags included.

use http::HeaderMap;
use http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// What the conditions of a request say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Go on.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// State of the file that conditions are compared with.
pub(super) struct Current<'a> {
    /// Without quotes.
    pub(super) etag: &'a str,
    /// Seconds since 1970.
    pub(super) mtime: i64,
}

/// Judges the conditions of a read, in the order that RFC 9110 §13.2.2 gives.
pub(super) fn judge(headers: &HeaderMap, current: &Current<'_>) -> Verdict {
    if let Some(tags) = text_of(headers, IF_MATCH) {
        if !matches_strong(tags, current.etag) {
            return Verdict::Failed;
        }
    } else if let Some(since) = date_of(headers, IF_UNMODIFIED_SINCE)
        && current.mtime > since
    {
        return Verdict::Failed;
    }
    if let Some(tags) = text_of(headers, IF_NONE_MATCH) {
        if matches_weak(tags, current.etag) {
            return Verdict::NotModified;
        }
    } else if let Some(since) = date_of(headers, IF_MODIFIED_SINCE)
        && current.mtime <= since
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether `Range` counts: there is no `If-Range`, or it names the current state.
pub(super) fn range_holds(headers: &HeaderMap, current: &Current<'_>) -> bool {
    match text_of(headers, IF_RANGE) {
        None => true,
        Some(tag) if tag.starts_with('"') => matches_strong(tag, current.etag),
        Some(_) => date_of(headers, IF_RANGE) == Some(current.mtime),
    }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

/// A date that cannot be read is no condition.
fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<i64> {
    let text = text_of(headers, name)?;
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(date.as_second())
}

fn matches_strong(tags: &str, etag: &str) -> bool {
    tags_of(tags).any(|tag| tag == "*" || (!tag.starts_with("W/") && bare(tag) == etag))
}

fn matches_weak(tags: &str, etag: &str) -> bool {
    tags_of(tags).any(|tag| tag == "*" || bare(tag) == etag)
}

/// Our tags hold no comma, so a list may be split at them.
fn tags_of(tags: &str) -> impl Iterator<Item = &str> {
    tags.split(',').map(str::trim)
}

/// The tag without `W/` and quotes; upstream's clients leave the quotes out.
fn bare(tag: &str) -> &str {
    tag.trim_start_matches("W/").trim_matches('"')
}

/// A time as headers carry it.
pub(super) fn http_date(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    let printed = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time);
    printed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_follow_the_standard() {
        use Verdict::{Failed, NotModified, Proceed};
        let at = "Sun, 22 Nov 2026 12:32:34 GMT";
        let before = "Sun, 22 Nov 2026 12:32:33 GMT";
        let current = Current {
            etag: "abc",
            mtime: 1_795_350_754,
        };
        assert_eq!(http_date(current.mtime), at);
        for (name, value, expect) in [
            (IF_MATCH, "\"abc\"", Proceed),
            (IF_MATCH, "*", Proceed),
            (IF_MATCH, "\"x\", \"abc\"", Proceed),
            (IF_MATCH, "W/\"abc\"", Failed),
            (IF_MATCH, "\"x\"", Failed),
            (IF_NONE_MATCH, "*", NotModified),
            (IF_NONE_MATCH, "W/\"abc\"", NotModified),
            (IF_NONE_MATCH, "\"x\"", Proceed),
            (IF_MODIFIED_SINCE, at, NotModified),
            (IF_MODIFIED_SINCE, before, Proceed),
            (IF_MODIFIED_SINCE, "nonsense", Proceed),
            (IF_UNMODIFIED_SINCE, at, Proceed),
            (IF_UNMODIFIED_SINCE, before, Failed),
        ] {
            let headers = HeaderMap::from_iter([(name.clone(), value.parse().unwrap())]);
            assert_eq!(judge(&headers, &current), expect, "{name}: {value}");
        }
    }

    #[test]
    fn a_range_holds_only_for_the_state_it_names() {
        let current = Current {
            etag: "abc",
            mtime: 1_795_350_754,
        };
        for (value, expect) in [
            ("\"abc\"", true),
            ("\"x\"", false),
            ("W/\"abc\"", false),
            ("Sun, 22 Nov 2026 12:32:34 GMT", true),
            ("Sun, 22 Nov 2026 12:32:33 GMT", false),
        ] {
            let headers = HeaderMap::from_iter([(IF_RANGE, value.parse().unwrap())]);
            assert_eq!(range_holds(&headers, &current), expect, "{value}");
        }
        assert!(range_holds(&HeaderMap::new(), &current));
    }
}
