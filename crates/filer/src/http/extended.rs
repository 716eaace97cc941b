// SPDX-License-Identifier: Apache-2.0
//! Extended attributes as headers, and headers as extended attributes.

use std::collections::HashMap;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// Headers kept beside `Seaweed-*`, as attributes spell them.
const KEPT: [&str; 3] = ["Cache-Control", "Expires", "Content-Disposition"];

/// Prefix of the headers that clients choose freely.
pub(super) const PREFIX: &str = "Seaweed-";

/// The attributes that a write's headers ask for.
pub(super) fn of_headers(headers: &HeaderMap) -> HashMap<String, Bytes> {
    let mut out = tags_of(headers);
    for name in KEPT {
        if let Some(value) = headers.get(name) {
            out.insert(name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        }
    }
    if let Some(value) = headers.get("response-content-disposition") {
        let value = Bytes::copy_from_slice(value.as_bytes());
        out.insert("Content-Disposition".to_owned(), value);
    }
    out
}

/// The `Seaweed-*` headers only.
pub(super) fn tags_of(headers: &HeaderMap) -> HashMap<String, Bytes> {
    let mut out = HashMap::new();
    for (name, value) in headers {
        let name = canonical(name.as_str());
        if name.len() > PREFIX.len() && name.starts_with(PREFIX) {
            out.insert(name, Bytes::copy_from_slice(value.as_bytes()));
        }
    }
    out
}

/// Adds the attributes of an entry to a response; returns the tags' names for browsers.
pub(super) fn to_headers(
    extended: &HashMap<String, Bytes>,
    headers: &mut HeaderMap,
) -> Vec<String> {
    let mut tags = Vec::new();
    for (key, value) in extended {
        if is_internal(key) {
            continue;
        }
        let name = HeaderName::try_from(key.as_str());
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) else {
            continue;
        };
        // The file's length and kind are not for its attributes to say.
        if headers.contains_key(&name) || is_framing(&name) {
            continue;
        }
        if key.starts_with(PREFIX) {
            tags.push(key.clone());
        }
        headers.insert(name, value);
    }
    tags.sort_unstable();
    tags
}

fn is_internal(key: &str) -> bool {
    key.starts_with("xattr-") || starts_with_ignore_case(key, "x-seaweedfs-")
}

fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    let head = text.as_bytes().get(..prefix.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn is_framing(name: &HeaderName) -> bool {
    use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
    [
        CONNECTION,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        CONTENT_ENCODING,
    ]
    .contains(name)
}

/// `seaweed-some-name` as `Seaweed-Some-Name`.
pub(super) fn canonical(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_start = true;
    for c in name.chars() {
        out.push(match is_start {
            true => c.to_ascii_uppercase(),
            false => c.to_ascii_lowercase(),
        });
        is_start = c == '-';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_the_headers_they_were() {
        let sent = HeaderMap::from_iter([
            ("seaweed-color".parse().unwrap(), "red".parse().unwrap()),
            (
                "cache-control".parse().unwrap(),
                "max-age=5".parse().unwrap(),
            ),
            ("x-other".parse().unwrap(), "no".parse().unwrap()),
        ]);
        let mut kept = of_headers(&sent);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept["Seaweed-Color"], "red");
        kept.insert("xattr-user.a".to_owned(), Bytes::from_static(b"x"));
        kept.insert("X-SeaweedFS-Secret".to_owned(), Bytes::from_static(b"x"));
        kept.insert("Content-Length".to_owned(), Bytes::from_static(b"1"));
        kept.insert("Seaweed-Evil".to_owned(), Bytes::from_static(b"a\r\nb: c"));
        let mut back = HeaderMap::new();
        assert_eq!(to_headers(&kept, &mut back), ["Seaweed-Color"]);
        assert_eq!(back.len(), 2);
    }
}
