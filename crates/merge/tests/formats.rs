// SPDX-License-Identifier: Apache-2.0
//! Formats: what was written once stays readable, and damaged bytes are errors.
//!
//! The golden files hold one line per sample, a name and its bytes in hex. With
//! `DULSE_GOLDEN=write` they are written anew; that is for new samples only, since
//! a changed line breaks every store and every peer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use dulse_merge::apply::DroppedRow;
use dulse_merge::codec::DecodeError;
use dulse_merge::digest::Sum;
use dulse_merge::holders::Held;
use dulse_merge::keys;
use dulse_merge::{
    AttributesWrite, Change, ConflictRow, ConflictStep, Content, DataWrite, InodeRow, Kills, KvRow,
    KvStep, MemberRow, MemberStep, MovedRow, NameRow, NameStep, Place, Step, TreeIntent, TreeWork,
};
use dulse_types::entry::DataPart;
use dulse_types::{FileId, Identity, Origin, Stamp, Vector, Version};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

const A: Origin = Origin(0x0a0a_0a0a_0000_0001);
const B: Origin = Origin(0x0b0b_0b0b_0000_0002);

fn version(stamp: i64, origin: Origin) -> Version {
    let stamp = Stamp(stamp);
    Version { stamp, origin }
}

fn identity(stamp: i64, origin: Origin, index: u32) -> Identity {
    let stamp = Stamp(stamp);
    Identity {
        stamp,
        origin,
        index,
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn chunk() -> FileId {
    FileId {
        volume_id: 3,
        key: 0x0163_7037,
        cookie: 0xd6aa_bbcc,
    }
}

fn vector() -> Vector {
    Vector::from_iter([(A, Stamp(7)), (B, Stamp(9))])
}

fn change(steps: Vec<Step>) -> Change {
    Change {
        origin: A,
        first: Stamp(1_700_000_000_000_000_001),
        stamp: Stamp(1_700_000_000_000_000_004),
        prev: Stamp(1_600_000_000_000_000_000),
        signatures: vec![1, -2],
        is_from_other_cluster: true,
        steps,
    }
}

/// A step that writes every register.
fn whole_step() -> NameStep {
    NameStep {
        offset: 3,
        has_event: true,
        name: identity(5, A, 1),
        inode: identity(4, B, 0),
        is_birth: true,
        place: Some(Place {
            rank: 2,
            path: bytes("/a/b"),
        }),
        is_touch: true,
        kills: Some(Kills {
            touch: version(6, B),
            seen: vector(),
        }),
        data: Some(DataWrite {
            replaces: version(5, A),
            seen: vector(),
            value: DataPart(bytes("data")),
        }),
        attributes: Some(AttributesWrite {
            replaces: version(4, B),
            value: bytes("attributes"),
        }),
        atime_ns: Some(-1),
        hints: vec![bytes("/a/b"), bytes("/c")],
        old_entry: Some(bytes("old")),
        delete_chunks: true,
        moved_chunks: vec![chunk()],
    }
}

fn change_samples() -> BTreeMap<&'static str, Change> {
    let (member, cut, id) = (B, Stamp(77), identity(8, B, 0));
    let name = |step: NameStep| Step::Name(Box::new(step));
    let kv = |value| {
        let (offset, key) = (1, bytes("key"));
        Step::Kv(KvStep { offset, key, value })
    };
    let steps = [
        ("name-all", name(whole_step())),
        (
            "name-delete",
            name(NameStep {
                name: identity(5, A, 0),
                inode: identity(5, A, 0),
                kills: Some(Kills {
                    touch: version(6, B),
                    seen: Vector::new(),
                }),
                hints: vec![bytes("/a")],
                ..NameStep::default()
            }),
        ),
        ("kv-put", kv(Some(bytes("value")))),
        ("kv-delete", kv(None)),
        (
            "join",
            Step::Member(MemberStep::Join {
                member,
                address: "filer-1:8888".to_owned(),
            }),
        ),
        ("leave", Step::Member(MemberStep::Leave { member })),
        ("fence", Step::Member(MemberStep::Fence { member, cut })),
        ("remove", Step::Member(MemberStep::Remove { member, cut })),
        (
            "conflict-record",
            Step::Conflict(ConflictStep::Record {
                id,
                kind: 1,
                name: identity(5, A, 0),
                path: bytes("/a"),
                loser: bytes("entry"),
                winner: version(9, B),
            }),
        ),
        (
            "conflict-withdraw",
            Step::Conflict(ConflictStep::Withdraw { id }),
        ),
        (
            "conflict-expire",
            Step::Conflict(ConflictStep::Expire { id }),
        ),
        (
            "tree-part",
            Step::TreePart {
                intent: id,
                part: 300,
                is_last: true,
            },
        ),
    ];
    let samples = steps.map(|(name, step)| (name, change(vec![step])));
    samples.into_iter().collect()
}

fn content() -> Content {
    Content {
        data_version: version(6, B),
        seen: vector(),
        data: DataPart(bytes("data")),
        attributes_version: version(7, A),
        attributes: bytes("attributes"),
        atime_ns: 12,
    }
}

fn name_row() -> NameRow {
    NameRow {
        is_born: true,
        has_shadows: true,
        place: version(6, A),
        rank: 300,
        path: bytes("/a/b"),
        touch: version(9, B),
        kills: version(8, B),
        keeps_chunks: true,
        kills_seen: vector(),
        content: content(),
        ..NameRow::new(identity(5, A, 1), identity(5, A, 1))
    }
}

/// A file as it is after its creation, the most common row by far.
fn fresh_row() -> NameRow {
    let name = identity(5, A, 0);
    let mut row = NameRow::new(name, name);
    row.is_born = true;
    row.path = bytes("/a/b");
    (row.place, row.touch) = (name.birth(), name.birth());
    row.content.data_version = name.birth();
    row.content.data = DataPart(bytes("data"));
    row.content.attributes_version = name.birth();
    row.content.attributes = bytes("attributes");
    row
}

fn name_rows() -> Vec<(&'static str, NameRow, bool)> {
    let linked = NameRow {
        is_linked: true,
        inode: identity(4, B, 0),
        content: NameRow::implied().content,
        ..name_row()
    };
    let implied = NameRow {
        path: bytes("/a/b"),
        has_shadows: true,
        ..NameRow::implied()
    };
    let grave = NameRow {
        has_shadows: false,
        merged: vector(),
        kills_seen: Vector::new(),
        ..name_row()
    };
    vec![
        ("name-grave", grave, true),
        ("name-fresh", fresh_row(), false),
        ("name-all", name_row(), false),
        ("name-with-path", name_row(), true),
        ("name-linked", linked, false),
        ("name-implied", implied, false),
    ]
}

fn inode_row() -> InodeRow {
    InodeRow {
        inode: identity(4, B, 0),
        is_born: true,
        content: content(),
    }
}

fn kv_row(value: Option<Bytes>) -> KvRow {
    let version = version(6, B);
    KvRow { version, value }
}

fn member_row() -> MemberRow {
    MemberRow {
        state: MemberRow::FENCED,
        version: version(6, B),
        cut: Stamp(5),
        address: "filer-1:8888".to_owned(),
    }
}

fn check_golden(file: &str, samples: &BTreeMap<String, Vec<u8>>) {
    let path = Path::new("tests/golden").join(file);
    let mut text = String::new();
    for (name, bytes) in samples {
        write!(text, "{name} ").unwrap();
        for byte in bytes {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    if std::env::var_os("DULSE_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(golden, text, "{} differs", path.display());
}

#[test]
fn changes_equal_the_golden_file_and_are_read_back() {
    let mut samples = BTreeMap::new();
    for (name, change) in change_samples() {
        let bytes = change.encode();
        assert_eq!(Change::decode(&bytes).unwrap(), change, "{name}");
        samples.insert(name.to_owned(), bytes.to_vec());
    }
    check_golden("changes.txt", &samples);
}

#[test]
fn intents_equal_the_golden_file_and_are_read_back() {
    let mut samples = BTreeMap::new();
    let to = bytes("/c/d");
    for (name, work) in [
        ("intent-move", TreeWork::Move { to }),
        (
            "intent-delete",
            TreeWork::Delete {
                delete_chunks: true,
            },
        ),
    ] {
        let intent = TreeIntent {
            id: identity(8, B, 0),
            path: bytes("/a/b"),
            work,
            seen: [(A, Stamp(3)), (B, Stamp(8))].into_iter().collect(),
            signatures: vec![1, -2],
            is_from_other_cluster: true,
        };
        let encoded = intent.encode();
        assert_eq!(TreeIntent::decode(&encoded).unwrap(), intent, "{name}");
        samples.insert(name.to_owned(), encoded.to_vec());
    }
    check_golden("intents.txt", &samples);
}

#[test]
fn rows_equal_the_golden_file_and_are_read_back() {
    let mut samples = BTreeMap::new();
    for (name, row, with_path) in name_rows() {
        let bytes = row.encode(with_path);
        let read = NameRow::decode(&Bytes::from(bytes.clone()), b"/a/b").unwrap();
        assert_eq!(read, row, "{name}");
        samples.insert(name.to_owned(), bytes);
    }
    let bytes = inode_row().encode();
    assert_eq!(
        InodeRow::decode(&Bytes::from(bytes.clone())).unwrap(),
        inode_row()
    );
    samples.insert("inode".to_owned(), bytes);
    for (name, value) in [("kv", Some(bytes_value())), ("kv-grave", None)] {
        let row = kv_row(value);
        let bytes = row.encode();
        assert_eq!(KvRow::decode(&Bytes::from(bytes.clone())).unwrap(), row);
        samples.insert(name.to_owned(), bytes);
    }
    let moved = MovedRow {
        places: vec![
            (version(6, A), Bytes::from_static(b"/a/b")),
            (version(5, B), Bytes::from_static(b"/c")),
        ],
    };
    assert_eq!(MovedRow::decode(&moved.encode().into()).unwrap(), moved);
    samples.insert("moved".to_owned(), moved.encode());
    for (name, recorded, settled, cause) in [
        ("conflict", version(6, A), Version::ZERO, None),
        ("conflict-settled", version(6, A), version(7, B), None),
        (
            "conflict-pending",
            Version::ZERO,
            Version::ZERO,
            Some((B, Stamp(8))),
        ),
    ] {
        let record = change_samples()["conflict-record"].encode();
        let row = ConflictRow {
            recorded,
            settled,
            cause: cause.into_iter().collect(),
            record,
        };
        assert_eq!(ConflictRow::decode(&row.encode().into()).unwrap(), row);
        samples.insert(name.to_owned(), row.encode());
    }
    for (name, manifest) in [("dropped", None), ("dropped-manifest", Some(manifest()))] {
        let (cause, winner) = (version(7, B), version(6, A));
        let row = DroppedRow {
            cause,
            winner,
            manifest,
        };
        assert_eq!(DroppedRow::decode(&row.encode().into()).unwrap(), row);
        samples.insert(name.to_owned(), row.encode());
    }
    for (name, is_forgotten) in [("held", false), ("held-forgotten", true)] {
        let held = Held {
            is_forgotten,
            manifests: vec![manifest()],
            chunks: vec![chunk(), chunk()],
        };
        assert_eq!(Held::decode(&held.encode()).unwrap(), held);
        samples.insert(name.to_owned(), held.encode());
    }
    let bytes = member_row().encode();
    assert_eq!(MemberRow::decode(&bytes).unwrap(), member_row());
    samples.insert("member".to_owned(), bytes);
    let sum = Sum { sum: 1, count: -2 };
    assert_eq!(Sum::decode(&sum.encode()).unwrap(), sum);
    samples.insert("digest".to_owned(), sum.encode());
    check_golden("rows.txt", &samples);
}

/// An encoded chunk.
fn manifest() -> Bytes {
    bytes("\x0a\x043,01\x58\x01")
}

fn bytes_value() -> Bytes {
    bytes("value")
}

#[test]
fn keys_equal_the_golden_file() {
    let id = identity(5, A, 1);
    let samples = [
        ("entry", keys::entry(b"/a/b")),
        ("entry-in-root", keys::entry(b"/a")),
        ("shadow", keys::shadow(b"/a/b", id)),
        ("grave", keys::by_identity(keys::Space::Graves, id)),
        ("link", keys::link(identity(4, B, 0), id)),
        ("hard-link-id", keys::hard_link_id(b"id")),
        ("first-path", keys::first_path(id)),
        ("garbage", keys::garbage(id, chunk())),
        ("chunk-owner", keys::chunk_owner(chunk())),
        ("held", keys::held(id)),
        ("pin", keys::pin(chunk(), id)),
        ("digest", keys::digest(b"/a")),
        ("member", keys::member(B)),
    ];
    let samples = samples.map(|(name, key)| (name.to_owned(), key));
    check_golden("keys.txt", &samples.into_iter().collect());
}

#[test]
fn an_unknown_kind_or_version_is_told_apart_from_damage() {
    let plain = change(vec![Step::Member(MemberStep::Leave { member: B })]);
    let mut bytes = plain.encode().to_vec();
    let tag = bytes.len() - 9;
    bytes[tag] = 200;
    assert_eq!(Change::decode(&bytes), Err(DecodeError::UnknownKind(200)));
    bytes[0] = 2;
    assert_eq!(Change::decode(&bytes), Err(DecodeError::UnknownVersion(2)));
}

#[test]
fn an_offset_behind_the_reserved_stamps_is_refused() {
    // A version above its change's position would be covered by no vector.
    let mut late = change(vec![Step::Name(Box::new(whole_step()))]);
    late.stamp = late.first.plus(2);
    let read = Change::decode(&late.encode());
    assert!(matches!(read, Err(DecodeError::Malformed(_))), "{read:?}");
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn any_version() -> impl Strategy<Value = Version> {
    any::<(i64, u64)>().prop_map(|(stamp, origin)| version(stamp, Origin(origin)))
}

fn any_identity() -> impl Strategy<Value = Identity> {
    (any_version(), any::<u32>()).prop_map(|(v, index)| identity(v.stamp.0, v.origin, index))
}

fn any_vector() -> impl Strategy<Value = Vector> {
    vec((any::<u64>(), 1..i64::MAX), 0..3).prop_map(|pairs| {
        let pairs = pairs.into_iter().map(|(o, s)| (Origin(o), Stamp(s)));
        pairs.collect()
    })
}

fn any_name_step() -> impl Strategy<Value = Step> {
    let registers = (
        option::of((any::<u32>(), any_bytes())),
        option::of((any_version(), any_vector())),
        option::of((any_version(), any_vector(), any_bytes())),
        option::of((any_version(), any_bytes())),
        option::of(any::<i64>()),
    );
    let rest = (
        vec(any_bytes(), 0..3),
        option::of(any_bytes()),
        vec(any::<(u32, u64, u32)>(), 0..3),
    );
    let names = (any_identity(), option::of(any_identity()));
    let flags = any::<(bool, bool, bool, bool)>();
    (0..=3u32, names, flags, registers, rest).prop_map(
        |(offset, (name, inode), flags, registers, rest)| {
            let (place, kills, data, attributes, atime_ns) = registers;
            let (hints, old_entry, moved) = rest;
            Step::Name(Box::new(NameStep {
                offset,
                has_event: flags.0,
                name,
                inode: inode.unwrap_or(name),
                is_birth: flags.1,
                place: place.map(|(rank, path)| Place { rank, path }),
                is_touch: flags.2,
                kills: kills.map(|(touch, seen)| Kills { touch, seen }),
                data: data.map(|(replaces, seen, value)| DataWrite {
                    replaces,
                    seen,
                    value: DataPart(value),
                }),
                attributes: attributes.map(|(replaces, value)| AttributesWrite { replaces, value }),
                atime_ns,
                hints,
                old_entry,
                delete_chunks: flags.3,
                moved_chunks: moved
                    .into_iter()
                    .map(|(volume_id, key, cookie)| FileId {
                        volume_id,
                        key,
                        cookie,
                    })
                    .collect(),
            }))
        },
    )
}

fn any_change() -> impl Strategy<Value = Change> {
    let samples: Vec<Step> = change_samples()
        .into_values()
        .flat_map(|change| change.steps)
        .collect();
    let sample = (0..samples.len()).prop_map(move |at| samples[at].clone());
    let step = prop_oneof![3 => any_name_step(), 1 => sample];
    let head = (
        any::<u64>(),
        0..i64::MAX - 1000,
        any::<i64>(),
        any::<bool>(),
    );
    let rest = (vec(any::<i32>(), 0..3), vec(step, 0..4));
    (head, Just(()), rest).prop_map(|((origin, first, prev, other), (), rest)| Change {
        origin: Origin(origin),
        first: Stamp(first),
        stamp: Stamp(first + 3),
        prev: Stamp(prev),
        signatures: rest.0,
        is_from_other_cluster: other,
        steps: rest.1,
    })
}

/// Reads bytes as everything there is; what reads as a change reads the same again.
fn read_all(input: &[u8]) {
    if let Ok(change) = Change::decode(input) {
        assert_eq!(Change::decode(&change.encode()), Ok(change.clone()));
        drop(dulse_merge::events(&change));
    }
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(row) = NameRow::decode(&bytes, b"/a") {
        drop((
            row.content.entry(),
            row.content.data.file_ids(),
            row.canonical(),
        ));
    }
    drop(InodeRow::decode(&bytes));
    drop(KvRow::decode(&bytes));
    drop((TreeIntent::decode(input), MovedRow::decode(&bytes)));
    drop(ConflictRow::decode(&bytes));
    drop((DroppedRow::decode(&bytes), Held::decode(input)));
    drop(MemberRow::decode(input));
    drop(Sum::decode(input));
    drop((keys::path_of(input), keys::parse_garbage(input)));
}

proptest! {
    #[test]
    fn any_change_is_read_back(change in any_change()) {
        prop_assert_eq!(Change::decode(&change.encode()), Ok(change));
    }

    #[test]
    fn fuzz_random_bytes_never_panic(input in vec(any::<u8>(), 0..200)) {
        read_all(&input);
        // Past the version byte, where most of the code is.
        read_all(&[&[1], &*input].concat());
    }

    #[test]
    fn fuzz_damaged_changes_never_panic(
        change in any_change(),
        at in any::<usize>(),
        byte in any::<u8>(),
        cut in any::<usize>(),
    ) {
        let mut input = change.encode().to_vec();
        let at = at % input.len();
        input[at] = byte;
        read_all(&input);
        input.truncate(cut % (input.len() + 1));
        read_all(&input);
    }

    #[test]
    fn fuzz_damaged_rows_never_panic(at in any::<usize>(), byte in any::<u8>()) {
        let mut rows: Vec<Vec<u8>> = name_rows()
            .into_iter()
            .map(|(_, row, with_path)| row.encode(with_path))
            .collect();
        rows.push(inode_row().encode());
        rows.push(kv_row(None).encode());
        rows.push(member_row().encode());
        for mut row in rows {
            let at = at % row.len();
            row[at] = byte;
            read_all(&row);
        }
    }

    #[test]
    fn a_cut_change_is_an_error(change in any_change(), cut in any::<usize>()) {
        let input = change.encode();
        prop_assert!(Change::decode(&input[..cut % input.len()]).is_err());
    }
}
