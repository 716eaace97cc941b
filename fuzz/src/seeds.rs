// SPDX-License-Identifier: Apache-2.0
//! What mutations start from: golden files, and good inputs made here.

mod hbase;
mod repair;
mod shared;
mod stores;
mod texts;

use bytes::Bytes;
use dulse_journal::{Checkpoint, Disk, Journal, MemDisk, Record, RecordKind};
use dulse_merge::keys::{self, Space};
use dulse_proto::replication::{
    FreedReply, FreedRequest, Heartbeat, Hello, Known, Position, Resume, Row, SnapshotPart,
};
use dulse_types::entry::split;
use dulse_types::wire::Writer;
use dulse_types::{EntryFields, FileChunk, FileId, Identity, Origin, Stamp, Vector, Version};
use dulse_volume::needle::Needle;
use prost::Message;

use crate::targets::OPTIONS;

pub(crate) use hbase::{hbase_frames, hbase_nodes, hbase_rows};
pub(crate) use repair::{repair_answers, repair_requests, repair_rows};
pub(crate) use shared::{notes, payloads, skip_lists, stored};
pub(crate) use stores::{items, stores, transactions};
pub(crate) use texts::{leaves, manifests, rules, sealed, sessions, settings};

const CHANGES: &str = include_str!("../../crates/merge/tests/golden/changes.txt");
const INTENTS: &str = include_str!("../../crates/merge/tests/golden/intents.txt");
const KEYS: &str = include_str!("../../crates/merge/tests/golden/keys.txt");
const ROWS: &str = include_str!("../../crates/merge/tests/golden/rows.txt");

/// What a segment has before its first record, in bytes.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 32;

const ORIGIN: Origin = Origin(0x0b0b_0b0b_0000_0002);

/// The bytes of each line of a golden file: a name and hex digits.
fn golden(text: &str) -> Vec<Vec<u8>> {
    let digits = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    let bytes = |digits: &str| {
        let pair = |at| u8::from_str_radix(digits.get(at..at + 2).unwrap_or("00"), 16);
        let pairs = (0..digits.len()).step_by(2).map(pair);
        pairs
            .collect::<Result<Vec<u8>, _>>()
            .expect("golden files hold hex digits")
    };
    digits.map(bytes).collect()
}

/// Parts with two bytes of length in front of each.
fn joined<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Writer::new();
    for part in parts {
        out.u16_be(u16::try_from(part.len()).expect("seeds are short"));
        out.raw(part);
    }
    out.into_vec()
}

/// A part with one byte of length in front, and the rest.
fn halves(first: &[u8], rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(first.len()).expect("the first part is short");
    [&[length], first, rest].concat()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn none() -> Vec<Vec<u8>> {
    vec![(0..=u8::MAX).collect()]
}

fn whole_entry() -> EntryFields {
    let mut fields = EntryFields::default();
    let attributes = fields.attrs_mut();
    attributes.file_mode = 0o644;
    attributes.mtime = 1_700_000_000;
    attributes.user_name = "user".to_owned();
    attributes.group_name = vec!["one".to_owned(), "two".to_owned()];
    attributes.mime = "text/plain".to_owned();
    attributes.ttl_sec = 60;
    attributes.md5 = Bytes::from_static(&[7; 16]);
    fields
        .extended
        .insert("key".to_owned(), Bytes::from_static(b"value"));
    let id = FileId {
        volume_id: 3,
        key: 0x0163_7037,
        cookie: 0xd6aa_bbcc,
    };
    let mut chunk = FileChunk {
        size: 4096,
        ..FileChunk::default()
    };
    chunk.set_id(id);
    fields.chunks.push(chunk.clone());
    chunk.fill_ids();
    fields.chunks.push(chunk);
    fields
}

pub(crate) fn entries() -> Vec<Vec<u8>> {
    let whole = whole_entry().to_entry(&Default::default());
    let mut unknown = whole.raw().to_vec();
    unknown.extend_from_slice(&[0xfa, 0x3e, 3, 1, 2, 3]);
    vec![
        whole.raw().to_vec(),
        whole.with_name("name").raw().to_vec(),
        unknown,
    ]
}

pub(crate) fn entry_parts() -> Vec<Vec<u8>> {
    let parts = split(&whole_entry().to_entry(&Default::default()));
    vec![
        halves(&parts.attributes, &parts.data.0),
        halves(&parts.attributes, b""),
    ]
}

fn vector() -> Vector {
    Vector::from_iter([(Origin(7), Stamp(9)), (ORIGIN, Stamp(i64::MAX))])
}

pub(crate) fn positions() -> Vec<Vec<u8>> {
    let stamp = Stamp(1_700_000_000_000_000_000);
    let version = Version {
        stamp,
        origin: ORIGIN,
    };
    let identity = Identity {
        stamp,
        origin: ORIGIN,
        index: 3,
    };
    let (mut versions, mut vectors) = (Writer::new(), Writer::new());
    version.write(&mut versions);
    vector().write(&mut vectors);
    vec![
        versions.into_vec(),
        identity.to_bytes().to_vec(),
        vectors.into_vec(),
    ]
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    texts(&[
        "/",
        "/a/b",
        "/a/b\n/a",
        "/ä/ö.txt",
        "3,01637037d6aabbcc",
        "3/01637037d6aabbcc.jpg",
        "3,01637037d6aabbcc_2",
        "127.0.0.1:8888",
        "filer-1:8888.18888",
        "[::1]:8888",
    ])
}

pub(crate) fn changes() -> Vec<Vec<u8>> {
    golden(CHANGES)
}

pub(crate) fn rows() -> Vec<Vec<u8>> {
    golden(ROWS)
}

pub(crate) fn intents() -> Vec<Vec<u8>> {
    golden(INTENTS)
}

pub(crate) fn keys() -> Vec<Vec<u8>> {
    golden(KEYS)
}

pub(crate) fn change_lists() -> Vec<Vec<u8>> {
    let changes = changes();
    let mut lists: Vec<_> = changes.iter().map(|change| joined([&change[..]])).collect();
    lists.push(joined(changes.iter().map(Vec::as_slice)));
    lists.push(joined(changes.iter().rev().map(Vec::as_slice)));
    lists
}

/// The `n`-th change of an origin.
pub(crate) fn record(n: i64, payload: Vec<u8>) -> Record {
    Record {
        kind: RecordKind::Change,
        origin: ORIGIN,
        stamp: Stamp(n),
        prev: Stamp(n - 1),
        payload: payload.into(),
    }
}

/// A log and a manifest that LevelDB wrote.
pub(crate) fn leveldb_files() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../crates/engines/leveldb/tests/golden/000003.log").to_vec(),
        include_bytes!("../../crates/engines/leveldb/tests/golden/MANIFEST-000002").to_vec(),
    ]
}

pub(crate) fn journals() -> Vec<Vec<u8>> {
    let disk = MemDisk::new();
    let opened = Journal::open(std::sync::Arc::new(disk.clone()), OPTIONS);
    let (journal, _) = opened.expect("open an empty journal");
    for n in 1..20_u8 {
        let record = record(n.into(), vec![n; 3 * usize::from(n)]);
        journal
            .append(&[record])
            .expect("append to an open journal");
        journal.sync().expect("sync an open journal");
    }
    journal
        .write_checkpoint(&Checkpoint {
            position: journal.end(),
            content: b"some content".to_vec(),
        })
        .expect("write a checkpoint");
    let mut names = disk.list().expect("list a disk in memory");
    // The checkpoint comes first.
    names.sort_by_key(|name| name != "checkpoint");
    let contents: Vec<_> = names
        .iter()
        .map(|name| {
            disk.read_at(name, 0, 1 << 16)
                .expect("read a disk in memory")
        })
        .collect();
    let contents: Vec<_> = contents.iter().map(Vec::as_slice).collect();
    (1..=contents.len())
        .map(|n| joined(contents[..n].iter().copied()))
        .collect()
}

fn checkpoint() -> Vec<u8> {
    let mut out = Writer::new();
    out.u64_be(0);
    out.i64_be(0);
    vector().write(&mut out);
    out.into_vec()
}

pub(crate) fn recoveries() -> Vec<Vec<u8>> {
    let changes = changes();
    let (none, checkpoint) = (&[][..], checkpoint());
    let records = || changes.iter().map(Vec::as_slice).take(14);
    let mut seeds = vec![
        joined([none].into_iter().chain(records())),
        joined([&checkpoint[..]].into_iter().chain(records())),
    ];
    seeds.extend(changes.iter().map(|change| joined([none, change])));
    seeds
}

/// Every golden row under every golden key.
pub(crate) fn transfers() -> Vec<Vec<u8>> {
    let rows = rows();
    let mut all: Vec<_> = keys();
    all.push(keys::entry(b"/a"));
    all.push(keys::entry(b"/a/b"));
    all.push(Space::Kv.key(b"key"));
    let transfer = |key: &Vec<u8>| {
        let (from, to) = Space::Entries.range();
        let mut parts = vec![from, to];
        for row in &rows {
            parts.extend([key.clone(), row.clone()]);
        }
        joined(parts.iter().map(Vec::as_slice))
    };
    all.iter().map(transfer).collect()
}

pub(crate) fn messages() -> Vec<Vec<u8>> {
    let positions = vec![Position {
        origin: 7,
        stamp: 9,
    }];
    let hello = Hello {
        origin: 7,
        group: "group".to_owned(),
        store_kind: "embedded".to_owned(),
        address: "127.0.0.1:8888".to_owned(),
        vector: positions.clone(),
        joins: positions.clone(),
        known: vec![Known {
            origin: 8,
            address: "filer-1:8888.18888".to_owned(),
        }],
        ..Hello::default()
    };
    let beat = Heartbeat {
        position: 9,
        durable: positions.clone(),
        applied: positions.clone(),
        promise: 10,
        ..Heartbeat::default()
    };
    let part = SnapshotPart {
        rows: vec![Row {
            key: keys::entry(b"/a").into(),
            value: rows().pop().unwrap_or_default().into(),
        }],
        ..SnapshotPart::default()
    };
    let resume = Resume {
        vector: positions.clone(),
        newest: positions.clone(),
        ..Resume::default()
    };
    let asked = FreedRequest {
        asked: 7,
        covers: positions,
        chunks: vec![1; 72].into(),
        ..FreedRequest::default()
    };
    let freed = FreedReply { freed: vec![0, 1] };
    vec![
        hello.encode_to_vec(),
        beat.encode_to_vec(),
        part.encode_to_vec(),
        resume.encode_to_vec(),
        asked.encode_to_vec(),
        freed.encode_to_vec(),
    ]
}

pub(crate) fn http_ranges() -> Vec<Vec<u8>> {
    let headers = [
        "bytes=0-1",
        "bytes=5-",
        "bytes=-3",
        "bytes=0-0,2-3, -1",
        "bytes=18446744073709551615-18446744073709551615",
        "lines=1-2",
    ];
    let sizes = [0, 1, 1000, u64::MAX];
    let header = |header: &str| sizes.map(|size| [&size.to_be_bytes(), header.as_bytes()].concat());
    headers.iter().flat_map(|text| header(text)).collect()
}

pub(crate) fn http_requests() -> Vec<Vec<u8>> {
    texts(&[
        "/a/b%20c?limit=10&lastFileName=x&pretty=y",
        "/a/../b/./?namePattern=*.txt&ttl=5m",
        "/%00%ff?mode=0644&op=append&=&&a=%zz",
        "/a?ttl=3h&mode=777\n",
        "*a?b*\nxaxbx",
    ])
}

pub(crate) fn http_conditions() -> Vec<Vec<u8>> {
    vec![
        halves(b"abc", b"if-none-match: W/\"abc\", \"def\"\nif-match: *"),
        halves(
            b"abc",
            b"if-range: \"abc\"\nif-modified-since: Wed, 21 Oct 2015 07:28:00 GMT",
        ),
        halves(
            b"",
            b"if-unmodified-since: Wed, 21 Oct 2015 07:28:00 GMT\nif-range: x",
        ),
    ]
}

pub(crate) fn http_forms() -> Vec<Vec<u8>> {
    let body = concat!(
        "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\\\"b/c.txt\"\r\n",
        "content-type: text/plain\r\ncontent-encoding: gzip\r\n\r\nhello\r\n--x--\r\n",
    );
    vec![
        halves(b"multipart/form-data; boundary=x", body.as_bytes()),
        halves(b"multipart/form-data; boundary=\"x\"", b"--x--\r\n"),
        halves(b"multipart/form-data", body.as_bytes()),
    ]
}

fn whole_needle(key: u64) -> Needle {
    Needle {
        key,
        cookie: 0x0a0b_0c0d,
        data: Bytes::from_static(b"some data"),
        name: b"name.txt".to_vec(),
        mime: b"text/plain".to_vec(),
        pairs: b"{\"a\":\"b\"}".to_vec(),
        modified_s: 1_700_000_000,
        ttl: [3, 2],
        append_at_ns: 1_700_000_000_000_000_000,
        ..Needle::default()
    }
}

pub(crate) fn needles() -> Vec<Vec<u8>> {
    let plain = Needle {
        data: Bytes::from_static(b"x"),
        ..Needle::default()
    };
    vec![
        whole_needle(1).encode(),
        plain.encode(),
        Needle::default().encode(),
    ]
}

pub(crate) fn volume_files() -> Vec<Vec<u8>> {
    let mut data = vec![3, 0, 0, 0, 0, 0, 0, 0];
    let mut index = Vec::new();
    for key in 1..4_u64 {
        let needle = whole_needle(key);
        let units = u32::try_from(data.len() / 8).expect("seeds are short");
        index.extend_from_slice(&key.to_be_bytes());
        index.extend_from_slice(&units.to_be_bytes());
        index.push(0);
        index.extend_from_slice(&needle.body_len().to_be_bytes());
        data.extend_from_slice(&needle.encode());
    }
    let description = br#"{"version":3,"replication":"000"}"#;
    // A find: the greatest time there is, after which no later one comes.
    let last = Needle {
        append_at_ns: u64::MAX,
        ..whole_needle(9)
    };
    let late = [&data[..], &last.encode()].concat();
    let torn = &data[..data.len() - 5];
    // A find: a row that tells of more bytes than the data has.
    let mut damaged = index.clone();
    damaged[13] = 0x7f;
    vec![
        joined([&data[..], &index, description]),
        joined([&data[..], &index[..20], description]),
        joined([torn, &index[..34], b""]),
        joined([&data[..]]),
        joined([&late[..], &index, description]),
        joined([&data[..], &damaged, description]),
    ]
}

pub(crate) fn volume_requests() -> Vec<Vec<u8>> {
    texts(&[
        "/3,01637037d6aabbcc",
        "/3/01637037d6aabbcc/name.jpg",
        "/3,01637037d6aabbcc_1",
        "bytes=0-1",
        "bytes=5-",
        "bytes=-3",
    ])
}

pub(crate) fn master_states() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"version":1,"max_volume_id":7,"topology_id":"0123","key_ceiling":1000000,
            "members":{"group":{"000000000000002a":"127.0.0.1:8888"}}}"#,
        r#"{"version":1,"max_volume_id":7,"topology_id":"x","crc32c":5}"#,
        "010",
        "3m",
    ])
}

pub(crate) fn config_files() -> Vec<Vec<u8>> {
    texts(&[
        "[filer]\ntext = \"x\"\none = \"a\"\nnumber = 8888\nflag = true\nlist = [\"a\", \"b\"]\n\
         size = \"64MiB\"\nspan = \"1h30m\"\n",
        "64MiB",
        "300ms",
        "[filer]\nnumber = 99999999999999999999\n",
    ])
}

/// Entries, and one that is compressed.
pub(crate) fn upstream_values() -> Vec<Vec<u8>> {
    let mut values = entries();
    let gzip = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x93, 0x62, 0xa8, 0, 0, 0x9a, 0x1c, 0xd6, 0x93, 3, 0,
        0, 0,
    ];
    values.push(gzip.to_vec());
    values
}

/// Files with one record each: a directory, and an entry.
pub(crate) fn upstream_metas() -> Vec<Vec<u8>> {
    let record = |entry: Vec<u8>| {
        let len = entry.len().min(100) as u8;
        let mut file = vec![0, 0, 0, len + 6, 10, 2, b'/', b'd', 18, len];
        file.extend(entry.into_iter().take(100));
        file
    };
    entries().into_iter().map(record).collect()
}

pub(crate) fn dsns() -> Vec<Vec<u8>> {
    texts(&[
        "root@tcp(localhost:3306)/seaweedfs?collation=utf8mb4_bin",
        "u:p@ss/w@tcp([::1]:3307)/a%2Fb?tls=skip-verify&parseTime=true&loc=US%2FPacific",
        "unix(/run/mysqld/mysqld.sock)/",
    ])
}

pub(crate) fn store_files() -> Vec<Vec<u8>> {
    texts(&[
        "[filer.options]\nrecursive_delete = false\ns3.empty_folder_cleanup_delay = \"2m\"\n\
         [leveldb2]\nenabled = true\ndir = \"./filerldb2\"\n[mysql]\nport = 3306\n",
        "[redis2.tmp]\nenabled = true\nlocation = \"/tmp/\"\nsuperLargeDirectories = [\"/a\"]\n\
         [elastic7]\nindex.max_result_window = 10000\n",
    ])
}

pub(crate) fn security_files() -> Vec<Vec<u8>> {
    texts(&[
        "[jwt.signing]\nkey = \"secret\"\nexpires_after_seconds = 10\n\
         [access]\nui = false\n[grpc]\nca = \"ca.pem\"\n[grpc.filer]\ncert = \"a\"\nkey = \"b\"\n\
         allowed_commonNames = \"x,*.y\"\n[cors.allowed_origins]\nvalues = \"*\"\n\
         [guard]\nwhite_list = \"127.0.0.1,10.0.0.0/8\"\n",
        "[JWT.filer_signing]\nKEY = \"\"\n",
    ])
}
