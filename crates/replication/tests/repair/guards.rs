// SPDX-License-Identifier: Apache-2.0
//! The guards of repair: each fails when its sentence is taken out of the code.

use std::sync::Arc;

use bytes::Bytes;
use dulse_kv::ReadExt;
use dulse_merge::digest::KV_DIR;
use dulse_merge::keys::{self, Space};
use dulse_merge::repair::Tie;
use dulse_merge::{KvRow, NameRow};
use dulse_proto::repair::{
    BucketsReply, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest, KnownRequest,
    RowsReply, RowsRequest,
};
use dulse_replica::{Foreign, Repair, Replacement, Restored};
use dulse_replication::repair::round::{Peer, Target, run};
use dulse_store::Step;
use dulse_types::{EntryFields, FileChunk, FileId, Stamp};

use crate::world::{
    self, Filer, Near, Own, cluster, create, entry, exchange, heal, is_healed, one, path, round,
};

fn name_at(filer: &Filer, path: &[u8]) -> Option<NameRow> {
    let (from, to) = (keys::entry(path), [&keys::entry(path)[..], &[0]].concat());
    let rows = filer.engine.scan(&from, &to, 1).unwrap();
    rows.first()
        .map(|(_, value)| NameRow::decode(value, path).unwrap())
}

/// What makes a directory differ, and so be looked at: its digest row.
fn unwitness(filer: &mut Filer, dir: &[u8]) {
    filer.damage(vec![(keys::digest(dir), None)]);
    filer.replica.recount(0, u16::MAX).unwrap();
}

fn all_of(dir: &'static str) -> Target {
    Target::Directories(vec![dir.into()])
}

#[test]
fn a_row_that_says_more_than_is_applied_is_left_to_its_change() {
    let mut filers = cluster(2);
    assert!(filers[0].commit(create("/d/known", 1)));
    exchange(&mut filers);
    // The second change is on its way when the first filer is compared with.
    assert!(filers[0].commit(create("/d/new", 2)));
    let report = round(&mut filers, 1, 0, &Target::All);
    assert!(report.n_items > 0, "{report:?}");
    assert_eq!(report.repaired.n_changed, 0, "{report:?}");
    assert!(name_at(&filers[1], b"/d/new").is_none());
    exchange(&mut filers);
    assert!(is_healed(&filers));
}

#[test]
fn a_row_from_the_future_is_damage() {
    let mut filers = cluster(2);
    let put = |value: &'static str| {
        one(Step::KvPut {
            key: "key".into(),
            value: value.into(),
        })
    };
    assert!(filers[0].commit(put("right")));
    exchange(&mut filers);
    let (key, value) = filers[1].rows(Space::Kv)[0].clone();
    let mut row = KvRow::decode(&value).unwrap();
    row.version.stamp = Stamp(i64::MAX / 2);
    row.value = Some("wrong".into());
    filers[1].damage(vec![(key.to_vec(), Some(row.encode().into()))]);
    // Without its witness the greater version would win everywhere.
    unwitness(&mut filers[1], dulse_merge::digest::KV_DIR);
    heal(&mut filers);
    for filer in &filers {
        let value = filer.shared().kv_get(b"key").unwrap();
        assert_eq!(value.as_deref(), Some(&b"right"[..]));
    }
}

#[test]
fn a_name_that_one_side_lacks_is_dead_if_any_member_has_its_grave_and_kept_else() {
    for has_grave in [true, false] {
        let mut filers = cluster(3);
        assert!(filers[0].commit(create("/d/kept", 1)));
        assert!(filers[0].commit(create("/d/name", 2)));
        exchange(&mut filers);
        let alive = filers[0].rows(Space::Entries);
        assert!(filers[2].commit(one(Step::Delete {
            path: path("/d/name"),
            delete_chunks: true,
        })));
        exchange(&mut filers);
        let is_name = |(key, _): &&(Bytes, Bytes)| key[..] == keys::entry(b"/d/name");
        let row = alive.iter().find(is_name).cloned().unwrap();
        let grave = filers[0].rows(Space::Graves)[0].0.to_vec();
        // Filer 0 brought it back, and filer 1 lost its grave; filer 2 has it, or not.
        filers[0].damage(vec![
            (row.0.to_vec(), Some(row.1)),
            (grave.clone(), None),
            (keys::digest(b"/d"), None),
        ]);
        filers[1].damage(vec![(grave.clone(), None)]);
        if !has_grave {
            filers[2].damage(vec![(grave, None)]);
        }
        filers[0].replica.recount(0, u16::MAX).unwrap();
        let report = round(&mut filers, 0, 1, &Target::All);
        assert!(report.n_items == 1, "{report:?}");
        assert_eq!(name_at(&filers[0], b"/d/name").is_none(), has_grave);
        heal(&mut filers);
        for filer in &filers {
            assert_eq!(name_at(filer, b"/d/name").is_none(), has_grave);
        }
    }
}

#[test]
fn a_name_at_another_path_is_moved_and_not_doubled() {
    let mut filers = cluster(2);
    assert!(filers[0].commit(create("/d/name", 1)));
    assert!(filers[0].commit(create("/e/other", 2)));
    exchange(&mut filers);
    let name = name_at(&filers[0], b"/d/name").unwrap().name;
    // At filer 1 it lies elsewhere; neither directory's digest row tells what was there.
    let row = name_at(&filers[1], b"/d/name").unwrap().encode(false);
    filers[1].damage(vec![
        (keys::entry(b"/d/name"), None),
        (keys::entry(b"/e/name"), Some(row.into())),
        (keys::digest(b"/d"), None),
        (keys::digest(b"/e"), None),
    ]);
    // Only one of the two directories is looked at.
    round(&mut filers, 1, 0, &all_of("/d"));
    let places = |filer: &Filer| {
        let paths = [&b"/d/name"[..], b"/e/name"];
        let is_there = |path: &&&[u8]| name_at(filer, path).is_some_and(|row| row.name == name);
        paths.iter().filter(is_there).count()
    };
    assert_eq!(places(&filers[1]), 1);
    heal(&mut filers);
    assert_eq!(filers[0].dump(), filers[1].dump());
    assert_eq!((places(&filers[0]), places(&filers[1])), (1, 1));
}

#[test]
fn a_stray_of_a_damaged_peer_is_not_taken() {
    let mut filers = cluster(2);
    assert!(filers[0].commit(create("/d/name", 1)));
    exchange(&mut filers);
    // Whose name it is, nobody knows: one that is known stays where it is anyway.
    let mut row = name_at(&filers[1], b"/d/name").unwrap();
    row.name.index += 1;
    row.inode = row.name;
    let row = row.encode(false);
    filers[1].damage(vec![(keys::entry(b"/d/stray"), Some(row.into()))]);
    let report = round(&mut filers, 0, 1, &all_of("/d"));
    assert_eq!((report.n_items, report.repaired.n_changed), (1, 0));
    assert!(name_at(&filers[0], b"/d/stray").is_none());
    heal(&mut filers);
    assert!(name_at(&filers[1], b"/d/stray").is_none());
}

#[test]
fn a_damaged_copy_frees_no_chunk() {
    let mut filers = cluster(2);
    let mut fields = EntryFields::default();
    fields.attrs_mut().file_mode = 0o644;
    let chunk = |key| FileChunk {
        file_id: FileId {
            volume_id: 3,
            key,
            cookie: 7,
        }
        .to_string(),
        size: 10,
        ..FileChunk::default()
    };
    fields.chunks = vec![chunk(1)];
    let file = fields.to_entry(&Default::default());
    assert!(filers[0].commit(one(Step::Create {
        path: path("/d/file"),
        entry: file,
    })));
    exchange(&mut filers);
    fields.chunks = vec![chunk(2)];
    let damaged = fields.to_entry(&Default::default());
    let mut row = name_at(&filers[1], b"/d/file").unwrap();
    let data = dulse_types::entry::split(&damaged).data;
    row.content.data = data;
    filers[1].damage(vec![(
        keys::entry(b"/d/file"),
        Some(row.encode(false).into()),
    )]);
    unwitness(&mut filers[1], b"/d");
    heal(&mut filers);
    assert_eq!(filers[0].dump(), filers[1].dump());
    for filer in &filers {
        assert_eq!(filer.shared().garbage(None, 10).unwrap(), []);
    }
}

#[test]
fn what_was_written_meanwhile_is_not_undone() {
    let mut filers = cluster(2);
    assert!(filers[0].commit(create("/d/name", 1)));
    assert!(filers[0].commit(one(Step::KvPut {
        key: "key".into(),
        value: "old".into(),
    })));
    exchange(&mut filers);
    let theirs = filers[1].shared().census().unwrap();
    let ours = filers[0].shared().census().unwrap();
    let key: Bytes = Space::Kv.key(b"key").into();
    let repair = Repair {
        restored: vec![Restored {
            dir: KV_DIR.into(),
            seen: ours.row(&key).unwrap(),
            value: theirs.row(&key).unwrap(),
            key,
        }],
        replaced: vec![Replacement {
            dir: "/d".into(),
            path: "/d/name".into(),
            seen: ours.print_of(b"/d/name").unwrap(),
            rows: theirs.rows_at(b"/d/name").unwrap(),
        }],
        ..Repair::default()
    };
    assert!(filers[0].commit(one(Step::Update {
        path: path("/d/name"),
        entry: entry(9, false),
        delete_chunks: false,
    })));
    assert!(filers[0].commit(one(Step::KvPut {
        key: "key".into(),
        value: "new".into(),
    })));
    let before = filers[0].dump();
    let done = filers[0].replica.repair(repair).unwrap();
    assert_eq!((done.n_changed, done.n_left), (0, 2));
    assert_eq!(filers[0].dump(), before);
}

/// A peer that deletes what was found to differ, right before its rows are fetched.
struct Deleting<'a>(&'a mut Filer);

impl Peer for Deleting<'_> {
    fn buckets(&mut self) -> Result<BucketsReply, String> {
        Near(self.0.shared()).buckets()
    }

    fn directories(&mut self, request: DirectoriesRequest) -> Result<DirectoriesReply, String> {
        Near(self.0.shared()).directories(request)
    }

    fn items(&mut self, request: ItemsRequest) -> Result<ItemsReply, String> {
        Near(self.0.shared()).items(request)
    }

    fn rows(&mut self, request: RowsRequest) -> Result<RowsReply, String> {
        assert!(self.0.commit(one(Step::Delete {
            path: path("/d/name"),
            delete_chunks: true,
        })));
        Near(self.0.shared()).rows(request)
    }

    fn known(&mut self, request: KnownRequest) -> Result<RowsReply, String> {
        Near(self.0.shared()).known(request)
    }
}

#[test]
fn what_the_peer_deleted_meanwhile_goes_by_its_change() {
    let mut filers = cluster(2);
    assert!(filers[0].commit(create("/d/name", 1)));
    assert!(filers[0].commit(create("/d/other", 1)));
    exchange(&mut filers);
    // Other bytes of the entry: a row that decodes.
    let (key, value) = filers[0].rows(Space::Entries).remove(1);
    let flipped = (0..value.len()).rev().find_map(|at| {
        let mut flipped = value.to_vec();
        flipped[at] ^= 1;
        let row = NameRow::decode(&Bytes::from(flipped.clone()), b"/d/name").ok()?;
        (row.canonical() != name_at(&filers[1], b"/d/name")?.canonical()).then_some(flipped)
    });
    filers[0].damage(vec![(key.to_vec(), flipped.map(Bytes::from))]);
    let target = all_of("/d");
    let (here, there) = filers.split_at_mut(1);
    let mut peer = Deleting(&mut there[0]);
    let report = run(&mut Own(&mut here[0]), &mut peer, &mut [], &target).unwrap();
    let repaired = &report.repaired;
    assert_eq!((repaired.n_changed, repaired.n_left), (0, 1), "{report:?}");
    assert!(name_at(&filers[0], b"/d/name").is_some());
    exchange(&mut filers);
    heal(&mut filers);
    assert_eq!(name_at(&filers[0], b"/d/name"), None);
    assert_eq!(filers[0].dump(), filers[1].dump());
}

/// A peer that always has more directories: the same ones.
struct Endless(Near);

impl Peer for Endless {
    fn buckets(&mut self) -> Result<BucketsReply, String> {
        self.0.buckets()
    }

    fn directories(&mut self, request: DirectoriesRequest) -> Result<DirectoriesReply, String> {
        let after = None;
        let reply = self
            .0
            .directories(DirectoriesRequest { after, ..request })?;
        let is_last = false;
        Ok(DirectoriesReply { is_last, ..reply })
    }

    fn items(&mut self, request: ItemsRequest) -> Result<ItemsReply, String> {
        self.0.items(request)
    }

    fn rows(&mut self, request: RowsRequest) -> Result<RowsReply, String> {
        self.0.rows(request)
    }

    fn known(&mut self, request: KnownRequest) -> Result<RowsReply, String> {
        self.0.known(request)
    }
}

#[test]
fn a_peer_that_tells_the_same_for_ever_is_not_asked_for_ever() {
    let mut filers = cluster(2);
    assert!(filers[0].commit(create("/d/name", 1)));
    exchange(&mut filers);
    unwitness(&mut filers[0], b"/d");
    let (here, there) = filers.split_at_mut(1);
    let mut peer = Endless(Near(there[0].shared()));
    let found = run(&mut Own(&mut here[0]), &mut peer, &mut [], &Target::All);
    assert!(found.unwrap_err().contains("again"));
}

/// A name that is put back as a peer has it, and a row, say more than is applied here: the
/// change that made them so is on its way.
#[test]
fn what_is_put_back_says_no_more_than_is_applied() {
    let mut filers = cluster(2);
    assert!(filers[0].commit(create("/d/name", 1)));
    let put = |value: &'static str| {
        one(Step::KvPut {
            key: "key".into(),
            value: value.into(),
        })
    };
    assert!(filers[0].commit(put("old")));
    exchange(&mut filers);
    let ours = filers[0].shared().census().unwrap();
    assert!(filers[1].commit(put("new")));
    assert!(filers[1].commit(one(Step::Update {
        path: path("/d/name"),
        entry: entry(9, false),
        delete_chunks: false,
    })));
    let theirs = filers[1].shared().census().unwrap();
    let key: Bytes = Space::Kv.key(b"key").into();
    let repair = Repair {
        restored: vec![Restored {
            dir: KV_DIR.into(),
            seen: ours.row(&key).unwrap(),
            value: theirs.row(&key).unwrap(),
            key,
        }],
        replaced: vec![Replacement {
            dir: "/d".into(),
            path: "/d/name".into(),
            seen: ours.print_of(b"/d/name").unwrap(),
            rows: theirs.rows_at(b"/d/name").unwrap(),
        }],
        ..Repair::default()
    };
    let before = filers[0].dump();
    let done = filers[0].replica.repair(repair).unwrap();
    assert_eq!((done.n_changed, done.n_left), (0, 2));
    assert_eq!(filers[0].dump(), before);
    exchange(&mut filers);
    assert!(is_healed(&filers));
}

/// Bytes of a peer never stop a filer: what is no row is refused, and said.
#[test]
fn rows_that_are_none_are_refused() {
    let mut filers = cluster(1);
    assert!(filers[0].commit(create("/d/name", 1)));
    let before = filers[0].dump();
    let foreign = |key: Vec<u8>, value: &'static str| Foreign {
        dir: "/d".into(),
        row: (key.into(), value.into()),
        tie: Tie::Theirs,
        paths: Vec::new(),
    };
    let rows = [
        foreign(keys::entry(b"/d/name"), "bad"),
        foreign(keys::entry(b"d"), "\u{1}\u{1}"),
        foreign(Space::Meta.key(b"origin"), "12345678"),
        foreign(Space::Vector.key(b""), ""),
        foreign(Vec::new(), ""),
    ];
    let n_rows = rows.len() as u64;
    let repair = Repair {
        merged: rows.into(),
        ..Repair::default()
    };
    let done = filers[0].replica.repair(repair).unwrap();
    assert_eq!((done.n_changed, done.n_refused), (0, n_rows));
    assert_eq!(filers[0].dump(), before);
    assert!(Arc::strong_count(&filers[0].shared()) > 0);
    world::vector_of(&filers[0]);
}
