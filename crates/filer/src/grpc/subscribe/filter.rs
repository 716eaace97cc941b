// SPDX-License-Identifier: Apache-2.0
//! Which events a subscriber asked for.

use dulse_proto::filer::{SubscribeMetadataRequest, SubscribeMetadataResponse};
use dulse_types::Entry;

/// Where upstream's filers keep their log as files: never told, or logs of logs grow.
const LOG_DIRECTORY: &str = "/topics/.system/log";

/// Whether the event is sent: not one of the subscriber's own, and at its paths.
pub(super) fn matches(r: &SubscribeMetadataRequest, event: &SubscribeMetadataResponse) -> bool {
    let Some(notification) = &event.event_notification else {
        return false;
    };
    if r.signature != 0 && notification.signatures.contains(&r.signature) {
        return false;
    }
    if event.directory.starts_with(LOG_DIRECTORY) {
        return false;
    }
    if r.path_prefix.is_empty() {
        return true;
    }
    let old = notification.old_entry.as_ref();
    let new = notification.new_entry.as_ref();
    let is_at = |dir: &str, entry: &Entry| {
        r.directories.iter().any(|wanted| wanted == dir) || {
            let path = path(dir, &entry.name());
            let mut prefixes = r.path_prefixes.iter();
            path.starts_with(&r.path_prefix) || prefixes.any(|prefix| path.starts_with(prefix))
        }
    };
    old.or(new).is_some_and(|e| is_at(&event.directory, e))
        || new.is_some_and(|e| is_at(&notification.new_parent_path, e))
}

fn path(dir: &str, name: &str) -> String {
    let slash = if dir.ends_with('/') { "" } else { "/" };
    format!("{dir}{slash}{name}")
}

#[cfg(test)]
mod tests {
    use dulse_proto::filer::EventNotification;

    use super::*;

    fn rename(from: (&str, &str), to: (&str, &str)) -> SubscribeMetadataResponse {
        let entry = |name: &str| Some(Entry::default().with_name(name));
        SubscribeMetadataResponse {
            directory: from.0.to_owned(),
            event_notification: Some(EventNotification {
                old_entry: entry(from.1),
                new_entry: entry(to.1),
                new_parent_path: to.0.to_owned(),
                signatures: vec![5],
                ..EventNotification::default()
            }),
            ..SubscribeMetadataResponse::default()
        }
    }

    fn request(prefix: &str, prefixes: &[&str], directories: &[&str]) -> SubscribeMetadataRequest {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        SubscribeMetadataRequest {
            path_prefix: prefix.to_owned(),
            path_prefixes: owned(prefixes),
            directories: owned(directories),
            ..SubscribeMetadataRequest::default()
        }
    }

    #[test]
    fn either_end_of_a_rename_may_match() {
        let event = rename(("/a", "x"), ("/b", "y"));
        for (wanted, expect) in [
            (request("", &["/zzz"], &[]), true),
            (request("/a/", &[], &[]), true),
            (request("/b/", &[], &[]), true),
            (request("/b/x", &[], &[]), false),
            (request("/c/", &["/d/", "/b/y"], &[]), true),
            (request("/c/", &[], &["/b"]), true),
            (request("/c/", &[], &["/"]), false),
        ] {
            assert_eq!(matches(&wanted, &event), expect, "{wanted:?}");
        }
    }

    #[test]
    fn own_events_and_logs_of_upstream_are_not_sent() {
        let event = rename(("/a", "x"), ("/b", "y"));
        let mut own = request("/", &[], &[]);
        own.signature = 5;
        assert!(!matches(&own, &event));
        let log = rename(("/topics/.system/log/2026-01-01", "x"), ("/b", "y"));
        assert!(!matches(&request("/", &[], &[]), &log));
    }
}
