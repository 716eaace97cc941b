// SPDX-License-Identifier: Apache-2.0
//! Names of any bytes, and hard links without what they share.

use std::collections::BTreeMap;

use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{EntryFields, FuseAttributes, UnknownFields};

use super::*;
use crate::leveldb::{Layout, leveldb_row};

/// Directories with their names, of which two are read at a time; and rows, all at once.
#[derive(Default)]
struct Names(BTreeMap<String, BTreeMap<Bytes, Bytes>>, Vec<Row>);

impl Names {
    fn put(&mut self, directory: &str, name: &[u8], value: Bytes) {
        let names = self.0.entry(directory.to_owned()).or_default();
        names.insert(Bytes::copy_from_slice(name), value);
    }
}

impl Tree for Names {
    type Position = ();

    fn children(&self, directory: &str, after: &[u8]) -> Result<Vec<Child>, SourceError> {
        let names = self.0.get(directory).into_iter().flatten();
        let behind = names.filter(|(name, _)| name[..] > *after);
        Ok(behind
            .take(2)
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect())
    }

    fn entry(&self, directory: &str, name: &str) -> Result<Option<Bytes>, SourceError> {
        let names = self.0.get(directory);
        Ok(names.and_then(|names| names.get(name.as_bytes()).cloned()))
    }

    fn kv(&self, _: &[u8]) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }

    fn rows(&self, position: &mut Option<()>) -> Result<Vec<Row>, SourceError> {
        match position.replace(()) {
            None => Ok(self.1.clone()),
            Some(()) => Ok(Vec::new()),
        }
    }
}

fn value(change: impl FnOnce(&mut EntryFields)) -> Bytes {
    let mut fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            ..FuseAttributes::default()
        }),
        ..EntryFields::default()
    };
    change(&mut fields);
    fields.to_entry(&UnknownFields::default()).raw().clone()
}

#[test]
fn a_name_that_is_no_utf8_is_refused_and_all_others_come_once() {
    let mut tree = Names::default();
    let sound = ["a", "caf\u{e9}", "x\u{ef}", "\u{4e2d}", "\u{fffd}", "z"];
    for name in sound {
        tree.put("/", name.as_bytes(), value(|_| {}));
    }
    // The last of the directory among them, which what stands for it would precede.
    for name in [&b"caf\xe9"[..], b"x\x80", b"\xff"] {
        tree.put("/", name, value(|_| {}));
    }
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for item in items(&tree).take(100) {
        match item.unwrap() {
            Item::Entry { path, .. } => taken.push(path.name().to_owned()),
            Item::Refused { what, .. } => refused.push(what),
            other => panic!("{other:?}"),
        }
    }
    let mut expect = sound.map(str::to_owned);
    expect.sort();
    assert_eq!(taken, expect);
    assert_eq!(refused, [r"/caf\xe9", r"/x\x80", r"/\xff"]);
}

/// The bytes of such a directory were replaced by U+FFFD, and what is in it was taken into a
/// directory of that name.
#[test]
fn what_lies_in_a_directory_whose_name_is_no_utf8_is_refused() {
    let mut tree = Names::default();
    let directory = value(|fields| fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755);
    tree.put("/", b"a\xff", directory.clone());
    for (key, value) in [(&b"/\0a\xff"[..], directory), (b"/a\xff\0f", value(|_| {}))] {
        tree.1.push(leveldb_row(Layout::One, "", key, &value));
    }
    let refused: Vec<_> = items(&tree)
        .map(|item| match item.unwrap() {
            Item::Refused { what, .. } => what,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(refused, [r"/a\xff", r"/a\xff/f"]);
}

#[test]
fn names_of_a_hard_link_without_what_they_share_are_files_of_their_own() {
    let mut tree = Names::default();
    let id = Bytes::from_static(&[7; 17]);
    for name in ["a", "b"] {
        let linked = value(|fields| {
            fields.hard_link_id = id.clone();
            fields.hard_link_counter = 2;
            fields.content = Bytes::copy_from_slice(name.as_bytes());
        });
        tree.put("/", name.as_bytes(), linked);
    }
    let mut all = items(&tree);
    for name in ["a", "b"] {
        let Some(Ok(Item::Entry { path, entry })) = all.next() else {
            panic!("an entry");
        };
        let fields = entry.fields().unwrap();
        assert_eq!((path.name(), &fields.content[..]), (name, name.as_bytes()));
        assert!(fields.hard_link_id.is_empty() && fields.hard_link_counter == 0);
    }
    assert!(all.next().is_none());
    assert_eq!(all.n_apart(), 2);
}
