// SPDX-License-Identifier: Apache-2.0
//! How the body of a request is stored: what its query says, over the path's rule, over the
//! defaults.

use dulse_blobs::{Placement, Sync};
use dulse_types::FullPath;
use http::{HeaderMap, StatusCode};

use super::Http;
use super::answer::Refusal;
use super::names::NameError;
use super::target::Query;

/// Upper bound of `maxMB`: one block of it is held in memory several times.
const BLOCK_MB_MAX: usize = 64;

/// Mode of a file when the request gives none.
const MODE_DEFAULT: u32 = 0o660;

/// Header naming a path whose rule holds instead of that of the request's path.
const RULE_OF: &str = "seaweedstoragedestination";

/// How a body is stored.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) placement: Placement,
    pub(super) block_len: usize,
    /// A body of fewer bytes is kept in the entry.
    pub(super) inline_below: usize,
    pub(super) sync: Sync,
}

/// The plan for a body at `path`: the query first, then the rule of `filer.conf`, then the
/// bucket's collection, then the filer's default.
///
/// # Errors
///
/// When a rule forbids writes there: before the body is read, so that none of it is stored.
pub(super) fn plan_of(
    http: &Http,
    path: &FullPath,
    query: &Query,
    headers: &HeaderMap,
    inline_below: usize,
) -> Result<Plan, Refusal> {
    let options = &http.options;
    let instead = headers.get(RULE_OF).and_then(|v| v.to_str().ok());
    let rule = http.names.rule_of(instead.unwrap_or(path.as_str()));
    let rule = rule.unwrap_or_default();
    if rule.read_only {
        return Err(NameError::ReadOnly(rule.location_prefix).into());
    }
    let or = |name: &str, ruled: &str, default: &str| {
        let given = [query.text(name), ruled, default];
        let first = given.into_iter().find(|text| !text.is_empty());
        first.unwrap_or_default().to_owned()
    };
    let block_mb = query.text("maxMB").parse().unwrap_or(0);
    let block_mb: usize = match block_mb {
        0 => options.block_mb,
        given => given,
    };
    if block_mb > BLOCK_MB_MAX {
        let text = format!("maxMB {block_mb} is above {BLOCK_MB_MAX}");
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    }
    Ok(Plan {
        placement: Placement {
            collection: or(
                "collection",
                &rule.collection,
                collection_of(path, &options.buckets_folder, &options.collection),
            ),
            replication: or("replication", &rule.replication, &options.replication),
            ttl: match (ttl_seconds(query.text("ttl")), rule.ttl_sec()) {
                (0, 0) => String::new(),
                (0, _) => rule.ttl.clone(),
                _ => query.text("ttl").to_owned(),
            },
            disk_type: or("disk", &rule.disk_type, &options.disk_type),
            data_center: or("dataCenter", &rule.data_center, &options.data_center),
            rack: or("rack", &rule.rack, &options.rack),
            data_node: or("dataNode", &rule.data_node, ""),
        },
        block_len: block_mb << 20,
        inline_below,
        sync: match query.is_true("fsync") || (rule.fsync && query.text("fsync").is_empty()) {
            true => Sync::Fsync,
            false => Sync::Default,
        },
    })
}

/// The bucket's name for paths in a bucket, else the default.
fn collection_of<'a>(path: &'a FullPath, buckets: &str, default: &'a str) -> &'a str {
    let below = path.as_str().strip_prefix(buckets);
    let below = below.and_then(|rest| rest.strip_prefix('/'));
    let bucket = below.and_then(|rest| rest.split_once('/'));
    bucket.map_or(default, |(bucket, _)| bucket)
}

/// Permissions of a new file.
pub(super) fn mode_of(query: &Query) -> u32 {
    let given = u32::from_str_radix(query.text("mode"), 8).ok();
    given.map_or(MODE_DEFAULT, |mode| mode & 0o777)
}

/// Seconds of upstream's form `3m`; 0 for none and for what cannot be read.
pub(super) fn ttl_seconds(text: &str) -> i32 {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, unit)) if !unit.is_ascii_digit() => (&text[..at], unit),
        _ => (text, 'm'),
    };
    let seconds = match unit {
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        'M' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => 0,
    };
    digits
        .parse::<i32>()
        .ok()
        .and_then(|n| n.checked_mul(seconds))
        .unwrap_or(0)
        .max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_have_upstreams_units() {
        for (text, seconds) in [
            ("", 0),
            ("3m", 180),
            ("3", 180),
            ("4h", 14_400),
            ("5d", 432_000),
            ("1w", 604_800),
            ("1M", 2_592_000),
            ("1y", 31_536_000),
            ("x", 0),
            ("3q", 0),
            ("-3m", 0),
            ("999999999y", 0),
            ("3é", 0),
        ] {
            assert_eq!(ttl_seconds(text), seconds, "{text}");
        }
    }

    #[test]
    fn files_in_a_bucket_lie_in_its_collection() {
        for (path, expect) in [
            ("/a/b", "default"),
            ("/buckets/b1/x", "b1"),
            ("/buckets/b1", "default"),
        ] {
            assert_eq!(
                collection_of(&FullPath::parse(path).unwrap(), "/buckets", "default"),
                expect
            );
        }
    }
}
