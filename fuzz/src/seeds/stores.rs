// SPDX-License-Identifier: Apache-2.0
//! Small replicas, their rows, and what is to be made anew.

use bytes::Bytes;
use dulse_kv::{MemoryEngine, ReadExt};
use dulse_merge::keys::Space;
use dulse_merge::{InodeRow, KvRow, NameRow};
use dulse_replica::reissue::item::{Item, NameItem};
use dulse_store::{Step, Transaction};
use dulse_types::{FullPath, Origin, Stamp};

use super::{ORIGIN, intents, joined, keys, rows, whole_entry};
use crate::targets::{filled_on, reopened};

/// What a small replica is made of: 1 is another state than 0, and 2 is what is done at last.
pub(crate) fn transactions(more: u32) -> Vec<Transaction> {
    let path = |text: &str| FullPath::parse(text).expect("a path");
    let entry = |uid: u32| {
        let mut fields = whole_entry();
        fields.attrs_mut().uid = uid;
        fields.to_entry(&Default::default())
    };
    let create = |text: &str, uid: u32| Step::Create {
        path: path(text),
        entry: entry(uid),
    };
    let mut steps = match more {
        2 => vec![create("/a/b", 9), create("/new/x", 9)],
        _ => vec![
            create("/a/b", 1),
            create("/a/c", 2),
            create("/d/e/f", 3 + more),
            create("/gone", 4),
            Step::Link {
                from: path("/a/b"),
                to: path("/link"),
            },
            Step::KvPut {
                key: Bytes::from_static(b"key"),
                value: Bytes::from_static(b"value"),
            },
        ],
    };
    steps.extend([
        Step::Rename {
            from: path("/a/c"),
            to: path("/d/c"),
        },
        Step::Rename {
            from: path("/a"),
            to: path("/moved"),
        },
        Step::Delete {
            path: path("/gone"),
            delete_chunks: true,
        },
        Step::KvDelete {
            key: Bytes::from_static(b"other"),
        },
    ]);
    if more == 1 {
        steps.push(create("/only-here", 5));
    }
    let alone = |step| Transaction {
        steps: vec![step],
        ..Transaction::default()
    };
    steps.into_iter().map(alone).collect()
}

/// The rows of small stores, the golden rows under golden keys, and open tree changes.
pub(crate) fn stores() -> Vec<Vec<u8>> {
    let pairs = |rows: Vec<(Vec<u8>, Vec<u8>)>| {
        let parts = rows.iter().flat_map(|(key, value)| [&key[..], &value[..]]);
        joined(parts)
    };
    let mut seeds = Vec::new();
    for more in 0..2 {
        let engine = MemoryEngine::new();
        drop(filled_on(engine.clone(), more));
        let all = engine.scan(&[], &[0xff], usize::MAX).expect("read memory");
        // The meta rows last: with another origin there is less to see.
        let (meta, rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .partition(|(key, _)| key.first() == Some(&(Space::Meta as u8)));
        seeds.push(pairs(rest.clone()));
        seeds.push(pairs(rest.into_iter().chain(meta).collect()));
    }
    // Else nothing of what is behind the opening would be tried.
    for seed in &seeds {
        assert!(reopened(seed).is_some(), "a good store does not open");
    }
    for intent in intents() {
        let key = [&Space::Meta.key(b"tree/")[..], &[7; 20]].concat();
        let row = [&[1, 2, 3][..], &intent].concat();
        seeds.push(pairs(vec![(key, row)]));
    }
    let silence = Space::Acknowledgements.key(&7_u64.to_be_bytes());
    seeds.push(pairs(vec![(silence, vec![2, 0, 0, 0, 0, 0, 0, 0, 9])]));
    for key in keys() {
        let under = rows().into_iter().map(|row| (key.clone(), row));
        seeds.extend(under.map(|row| pairs(vec![row])));
    }
    seeds
}

/// Items made of golden rows.
pub(crate) fn items() -> Vec<Vec<u8>> {
    let rows: Vec<Bytes> = rows().into_iter().map(Bytes::from).collect();
    let inode = rows.iter().find_map(|row| InodeRow::decode(row).ok());
    let known: dulse_replica::Known = [(Origin(7), Stamp(1)), (ORIGIN, Stamp::ZERO)]
        .into_iter()
        .collect();
    let mut items = vec![Item::Change(Bytes::from_static(b"change"))];
    for bytes in &rows {
        if let Ok(row) = KvRow::decode(bytes) {
            let key = Bytes::from_static(b"key");
            items.push(Item::Key { key, row });
        }
        if let Ok(row) = NameRow::decode(bytes, b"/a/b") {
            for inode in [None, inode.clone()] {
                items.push(Item::Name(Box::new(NameItem {
                    row: row.clone(),
                    inode,
                    paths: vec![Bytes::from_static(b"/a/c")],
                    known: known.clone(),
                    links: vec![Bytes::from_static(b"/a/d")],
                    chunks: row.content.data.file_ids(),
                })));
            }
        }
    }
    items.iter().map(|item| item.encode().to_vec()).collect()
}
