// SPDX-License-Identifier: Apache-2.0
//! What parses bytes of requests, with anything thrown at it.

use http::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE};
use proptest::prelude::*;

use super::condition::{Current, judge, range_holds};
use super::glob;
use super::plan::ttl_seconds;
use super::range::{Wanted, parse};
use super::target::{Query, Target, percent_encode_path};

/// Texts that come near to what is meant.
fn near(of: &'static str) -> impl Strategy<Value = String> {
    proptest::string::string_regex(of).unwrap_or_else(|e| panic!("{of}: {e}"))
}

/// The slow and obvious way.
fn matches_slowly(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|n| matches_slowly(rest, &name[n..])),
        Some((c, rest)) => name
            .split_first()
            .is_some_and(|(first, names)| (*c == '?' || c == first) && matches_slowly(rest, names)),
    }
}

proptest! {
    #[test]
    fn ranges_lie_within_the_file(
        header in near("(bytes=)?[0-9,\\- =a]{0,20}"),
        size in prop_oneof![0..30_u64, Just(u64::MAX)],
    ) {
        match parse(Some(&header), size) {
            Wanted::Parts(parts) => {
                prop_assert!(!parts.is_empty());
                for part in &parts {
                    prop_assert!(part.start < part.end && part.end <= size, "{part:?}");
                }
            }
            Wanted::Whole | Wanted::Unsatisfiable | Wanted::Malformed => {}
        }
    }

    #[test]
    fn targets_are_clean_or_refused(raw in near("/?[a-c/.%0-9A-F+\\?]{0,40}")) {
        if let Ok(target) = Target::of(&raw) {
            let path = target.path.as_str();
            prop_assert!(path.starts_with('/') && !path.contains("//"), "{path}");
            prop_assert!(path.split('/').all(|p| p != "." && p != ".."), "{path}");
            // What a link says comes back as the same path.
            let again = Target::of(&percent_encode_path(path));
            prop_assert_eq!(again.map(|t| t.path).ok(), Some(target.path));
        }
    }

    #[test]
    fn queries_keep_the_first_of_a_name(text in near("[ab&=%2+]{0,30}")) {
        if let Ok(uri) = format!("/x?{text}").parse() {
            let query = Query::of(&uri);
            prop_assert!(query.text("a").len() <= text.len());
            prop_assert!(query.has("a") || query.text("a").is_empty());
        }
    }

    #[test]
    fn patterns_match_as_slowly_as_obviously(
        pattern in near("[ab*?]{0,8}"),
        name in near("[abé]{0,8}"),
    ) {
        let chars = |t: &str| t.chars().collect::<Vec<_>>();
        let expect = matches_slowly(&chars(&pattern), &chars(&name));
        prop_assert_eq!(glob::matches(&pattern, &name), expect);
        prop_assert!(!expect || name.starts_with(glob::literal_prefix(&pattern)));
    }

    #[test]
    fn conditions_and_times_never_panic(text in any::<Vec<u8>>(), mtime in any::<i64>()) {
        let current = Current { etag: "abc", mtime };
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            for name in [IF_MATCH, IF_NONE_MATCH, IF_RANGE] {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                judge(&headers, &current);
                range_holds(&headers, &current);
            }
        }
        super::condition::http_date(mtime);
        prop_assert!(ttl_seconds(&String::from_utf8_lossy(&text)) >= 0);
    }
}
