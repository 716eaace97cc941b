// SPDX-License-Identifier: Apache-2.0
//! What a request is about: the path, cleaned, and its parameters.

use std::collections::HashMap;

use dulse_types::{FullPath, PathError};
use http::{StatusCode, Uri};

use super::answer::Refusal;

/// Most parameters read of a query.
const PARAMETERS_MAX: usize = 64;

/// A path and whether the request spelled it with a trailing slash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) path: FullPath,
    pub(super) has_slash: bool,
}

impl Target {
    /// Cleans a path as it was sent.
    pub(super) fn of(raw: &str) -> Result<Self, Refusal> {
        let text = replace_invalid(&percent_decode(raw, false));
        let has_slash = text.ends_with('/');
        Ok(Self {
            path: clean(&text)?,
            has_slash,
        })
    }
}

/// The path without `.`, `..` and repeated slashes; `..` stops at the root.
pub(super) fn clean(text: &str) -> Result<FullPath, Refusal> {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    FullPath::parse(&format!("/{}", parts.join("/"))).map_err(|error| match error {
        PathError::TooLong(_) => Refusal::bare(StatusCode::URI_TOO_LONG),
        error => Refusal::new(StatusCode::BAD_REQUEST, error.to_string()),
    })
}

/// Invalid UTF-8 becomes `_`, one for each run of bytes that is none.
fn replace_invalid(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut is_in_run = false;
    for chunk in bytes.utf8_chunks() {
        is_in_run &= chunk.valid().is_empty();
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() && !is_in_run {
            out.push('_');
            is_in_run = true;
        }
    }
    out
}

/// Undoes `%xx`, and `+` where it means a space; a `%` without digits stays.
fn percent_decode(text: &str, plus_is_space: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let value = digits
            .and_then(|d| std::str::from_utf8(d).ok())
            .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|d| u8::from_str_radix(d, 16).ok());
        match (value, bytes[at]) {
            (Some(value), _) => {
                out.push(value);
                at += 3;
            }
            (None, b'+') if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            (None, byte) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Percent-encodes a path for a link.
pub(super) fn percent_encode_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The parameters of a query; the first of a name counts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Self {
        let Some(text) = uri.query() else {
            return Self::default();
        };
        let mut out = HashMap::new();
        for pair in text
            .split('&')
            .filter(|p| !p.is_empty())
            .take(PARAMETERS_MAX)
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |t| replace_invalid(&percent_decode(t, true));
            out.entry(decode(name)).or_insert_with(|| decode(value));
        }
        Self(out)
    }

    /// The value of a parameter; empty when it is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether a parameter is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether a parameter says `true`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// Whether answers are indented.
    pub(super) fn is_pretty(&self) -> bool {
        !self.text("pretty").is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_in_place() {
        for (raw, path, has_slash) in [
            ("/", "/", true),
            ("//a//b", "/a/b", false),
            ("/a/./b/", "/a/b", true),
            ("/a/../../b", "/b", false),
            ("/a%2Fb%20c", "/a/b c", false),
            ("/x%ff", "/x_", false),
            ("/x%ff%fe%c3y%ff", "/x_y_", false),
            ("/%EF%BF%BD", "/\u{fffd}", false),
            ("/100%", "/100%", false),
            ("/a+b", "/a+b", false),
        ] {
            let target = Target::of(raw).unwrap();
            assert_eq!((target.path.as_str(), target.has_slash), (path, has_slash));
        }
    }

    #[test]
    fn nul_and_endless_paths_are_refused() {
        assert_eq!(Target::of("/a%00").unwrap_err().status, 400);
        let long = format!("/{}", "a/".repeat(5000));
        assert_eq!(Target::of(&long).unwrap_err().status, 414);
    }

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        let uri: Uri = "/d?a=1&a=2&b=x%20y+z&tagging&empty=".parse().unwrap();
        let query = Query::of(&uri);
        assert_eq!((query.text("a"), query.text("b")), ("1", "x y z"));
        assert!(query.has("tagging") && query.has("empty") && !query.has("none"));
    }
}
