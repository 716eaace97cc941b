// SPDX-License-Identifier: Apache-2.0
//! What of two answers must be equal.

use std::fmt;

use dulse_tests::raw::Answer;
use serde_json::Value;

use super::requests::Ask;

/// Headers whose values must be equal.
const HEADERS: [&str; 22] = [
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-range",
    "content-type",
    "etag",
    "expires",
    "location",
    "retry-after",
    "seaweed-color",
    "seaweed-old",
    "seaweed-owner",
    "x-content-type-options",
    "x-seaweedfs-copy-committed",
];

/// Headers that must be in both or in none.
const PRESENT: [&str; 2] = ["last-modified", "x-amz-request-id"];

/// Members of JSON answers that are what they are.
const VOLATILE: [&str; 10] = [
    "Mtime",
    "Crtime",
    "Ctime",
    "Atime",
    "Inode",
    "Version",
    "file_id",
    "fid",
    "modified_ts_ns",
    "is_compressed",
];

/// Something that is not equal.
pub(crate) struct Difference {
    pub(crate) field: String,
    pub(crate) upstream: String,
    pub(crate) ours: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            upstream,
            ours,
        } = self;
        write!(f, "{field}: upstream `{upstream}`, ours `{ours}`")
    }
}

/// All differences of two answers to one request.
pub(crate) fn differences(ask: &Ask, upstream: &Answer, ours: &Answer) -> Vec<Difference> {
    let mut out = Vec::new();
    let mut compare = |field: &str, upstream: String, ours: String| {
        if upstream != ours {
            out.push(Difference {
                field: field.to_owned(),
                upstream,
                ours,
            });
        }
    };
    let (theirs, own) = (upstream.status, ours.status);
    compare("status", theirs.to_string(), own.to_string());
    for name in HEADERS {
        let value = |answer: &Answer| mask(name, answer.header(name).unwrap_or_default());
        compare(name, value(upstream), value(ours));
    }
    for name in PRESENT {
        let is_there = |answer: &Answer| answer.header(name).is_some().to_string();
        compare(name, is_there(upstream), is_there(ours));
    }
    match (json_of(upstream), json_of(ours)) {
        (Some(theirs), Some(own)) => walk("body", &theirs, &own, &mut compare),
        _ => compare("body", body(upstream), body(ours)),
    }
    let length = |answer: &Answer| answer.header("content-length").unwrap_or_default();
    if ask.method == "HEAD" && upstream.status == 200 && !length(upstream).is_empty() {
        compare("content-length", length(upstream), length(ours));
    }
    out
}

/// A multipart boundary is random, and so is the order of upstream's exposed headers.
fn mask(name: &str, value: String) -> String {
    if name == "access-control-expose-headers" {
        let mut names: Vec<&str> = value.split(',').collect();
        names.sort_unstable();
        return names.join(",");
    }
    match value.split_once("boundary=") {
        Some((kind, _)) if name == "content-type" => format!("{kind}boundary=*"),
        _ => value,
    }
}

/// The body, what is random and what is a page left out.
fn body(answer: &Answer) -> String {
    let kind = answer.header("content-type").unwrap_or_default();
    if kind.starts_with("text/html") && answer.header("etag").is_none() {
        return "a page".to_owned();
    }
    if let Some((_, boundary)) = kind.split_once("boundary=") {
        return answer.text().replace(boundary, "*");
    }
    if answer.body.len() > 1000 {
        let sum = answer.body.iter().fold(7_u64, |sum, b| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*b))
        });
        return format!("{} bytes, sum {sum:x}", answer.body.len());
    }
    answer.text()
}

fn json_of(answer: &Answer) -> Option<Value> {
    let mut value = serde_json::from_slice(&answer.body).ok()?;
    hide(&mut value);
    Some(value)
}

/// Compares two JSON values member by member.
fn walk(at: &str, upstream: &Value, ours: &Value, compare: &mut impl FnMut(&str, String, String)) {
    match (upstream, ours) {
        (Value::Object(theirs), Value::Object(own)) => {
            let more = own.keys().filter(|n| !theirs.contains_key(*n));
            for name in theirs.keys().chain(more) {
                let at = format!("{at}.{name}");
                match (theirs.get(name), own.get(name)) {
                    (Some(theirs), Some(own)) => walk(&at, theirs, own, compare),
                    (theirs, own) => compare(&at, text_of(theirs), text_of(own)),
                }
            }
        }
        (Value::Array(theirs), Value::Array(own)) if theirs.len() == own.len() => {
            for (i, (theirs, own)) in theirs.iter().zip(own).enumerate() {
                walk(&format!("{at}[{i}]"), theirs, own, compare);
            }
        }
        _ => compare(at, upstream.to_string(), ours.to_string()),
    }
}

fn text_of(value: Option<&Value>) -> String {
    value.map_or("absent".to_owned(), Value::to_string)
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                if VOLATILE.contains(&name.as_str()) {
                    *member = Value::from("*");
                } else {
                    hide(member);
                }
            }
            members.remove("is_compressed");
        }
        Value::Array(values) => values.iter_mut().for_each(hide),
        _ => {}
    }
}
