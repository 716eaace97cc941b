// SPDX-License-Identifier: Apache-2.0
//! Golden payloads of the journal: what this version wrote once, every later one reads.
//!
//! `DULSE_WRITE_GOLDEN=1` writes the file anew, for a format that was never released.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use dulse_shared::{Announced, At, Event, Guard, Payload, RowWrite};
use dulse_types::entry::UnknownFields;
use dulse_types::{Entry, EntryFields, FullPath};

const FILE: &str = "tests/golden/payloads.txt";

fn entry(content: &'static str) -> Entry {
    let fields = EntryFields {
        content: Bytes::from_static(content.as_bytes()),
        ..EntryFields::default()
    };
    fields.to_entry(&UnknownFields::default())
}

fn at(path: &str, content: &'static str) -> Option<(FullPath, Entry)> {
    Some((FullPath::parse(path).unwrap(), entry(content)))
}

fn event(
    old: Option<(FullPath, Entry)>,
    new: Option<(FullPath, Entry)>,
    delete_chunks: bool,
) -> Event {
    Event {
        old,
        new,
        delete_chunks,
    }
}

fn payloads() -> BTreeMap<&'static str, Payload> {
    let announced = Announced {
        signatures: vec![1, -2],
        is_from_other_cluster: true,
        events: vec![
            event(None, at("/a", "new"), true),
            event(at("/a", "old"), at("/a", "new"), false),
            event(at("/a", "moved"), at("/ä/b", "moved"), false),
            event(at("/a", "gone"), None, true),
        ],
    };
    let position = 0x0102_0304_0506;
    BTreeMap::from([
        ("applied", Payload::Applied { position }),
        (
            "intent",
            Payload::Intent {
                ticket: -7,
                announced: announced.clone(),
            },
        ),
        (
            "seen",
            Payload::Seen {
                position,
                announced,
            },
        ),
        (
            "seen_nothing",
            Payload::Seen {
                position,
                announced: Announced::default(),
            },
        ),
        ("steps", steps()),
        ("void", Payload::Void { position }),
    ])
}

/// A move of `/a` to `/d/b`, and a key.
fn steps() -> Payload {
    let path = |text| FullPath::parse(text).unwrap();
    let value = entry("moved").raw().clone();
    let key = Bytes::from_static(b"k\0ey");
    let row = |at, before, after| RowWrite { at, before, after };
    Payload::Steps {
        announced: Announced {
            signatures: vec![3],
            is_from_other_cluster: false,
            events: vec![
                event(at("/a", "moved"), at("/d/b", "moved"), false),
                event(at("/c", "gone"), None, true),
            ],
        },
        checks: vec![
            Guard::Absent(path("/none")),
            Guard::Same(path("/same"), value.clone()),
            Guard::Directory(path("/d")),
            Guard::Names(path("/e"), 300),
            Guard::Key(key.clone(), None),
            Guard::Key(key.clone(), Some(value.clone())),
        ],
        rows: vec![
            row(At::Key(key), None, Some(Bytes::from_static(b"v"))),
            row(At::Path(path("/d/b")), None, Some(value.clone())),
            row(At::Path(path("/a")), Some(value), None),
        ],
    }
}

#[test]
fn payloads_are_written_and_read_as_ever() {
    let mut text = String::new();
    for (name, payload) in payloads() {
        let hex: String = payload
            .encode()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        writeln!(text, "{name} {hex}").unwrap();
        assert_eq!(Payload::decode(&payload.encode()).unwrap(), payload);
    }
    if std::env::var_os("DULSE_WRITE_GOLDEN").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(FILE).unwrap(), text);
}

#[test]
fn a_later_version_and_torn_payloads_are_refused() {
    for name in ["intent", "steps"] {
        let bytes = payloads()[name].encode();
        for length in 0..bytes.len() {
            assert!(
                Payload::decode(&bytes[..length]).is_err(),
                "{name}, {length} bytes"
            );
        }
        let mut later = bytes.to_vec();
        later[0] = 2;
        assert!(Payload::decode(&later).is_err());
    }
}
