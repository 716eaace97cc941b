// SPDX-License-Identifier: Apache-2.0
//! Texts of clients and operators, and lists of chunks.

use dulse_transport::Guarded;
use dulse_types::FileChunk;
use dulse_types::wire::Writer;
use prost::Message;

use super::{halves, texts, whole_entry};

pub(crate) fn sessions() -> Vec<Vec<u8>> {
    texts(&[
        "0000000b00000002:1700000000000000000",
        "0000000b00000002:1,0a0a0a0a00000001:9223372036854775807\n7:-1",
        "0000000b00000002",
        "1700000000000000000@0000000b00000002.3",
    ])
}

pub(crate) fn settings() -> Vec<Vec<u8>> {
    texts(&[
        "os",
        "fsync",
        "peers(1)",
        "/bank=peers(2)",
        "/a=b/=os",
        "/=fsync",
        "127.0.0.1\n10.0.0.0/8\nfd00::/8\n::/0\n0.0.0.0/0",
    ])
}

pub(crate) fn rules() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"locations":[{"locationPrefix":"/a","collection":"c","replication":"001","ttl":"3h",
            "diskType":"ssd","fsync":true,"readOnly":false,"maxFileNameLength":100},
            {"locationPrefix":"/a/b","ttl":"99999999999y","dataCenter":"d","rack":"r"}]}"#,
        "{}",
        " \n",
    ])
}

/// Leave for a file, for paths, and what is none.
pub(crate) fn leaves() -> Vec<Vec<u8>> {
    let tokens = crate::targets::texts::tokens();
    let file = tokens.sign_file(Guarded::VolumeWrite, "3,01637037d6aabbcc");
    vec![
        file.clone().into_bytes(),
        format!("Bearer {file}").into_bytes(),
        format!("x=y; AT={file}").into_bytes(),
        b"eyJhbGciOiJub25lIn0.eyJmaWQiOiIzLDAxIn0.".to_vec(),
    ]
}

/// A list of chunks that overlap, one of them at the end of all offsets.
pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let mut entry = whole_entry();
    let first = entry.chunks[0].clone();
    for (offset, size, at) in [
        (2_048, 4_096, 2),
        (0, 100, 3),
        (i64::MAX, u64::MAX, 4),
        (-5, 9, 5),
    ] {
        entry.chunks.push(FileChunk {
            offset,
            size,
            modified_ts_ns: at,
            ..first.clone()
        });
    }
    // A message of chunks in its first field, as in an entry in its third.
    let list = |chunks: &[FileChunk]| {
        let mut out = Writer::new();
        for chunk in chunks {
            out.u8(0x0a);
            out.bytes(&chunk.encode_to_vec());
        }
        out.into_vec()
    };
    vec![
        list(&entry.chunks),
        list(&entry.chunks[..1]),
        list(&entry.chunks[2..]),
    ]
}

/// A key with a needle of zeros, and a gzip member.
pub(crate) fn sealed() -> Vec<Vec<u8>> {
    // "hello", stored.
    let gzip = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 5, 0, 0xfa, 0xff, b'h', b'e', b'l', b'l', b'o',
        0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0,
    ];
    vec![
        halves(&[7; 32], &[0; 64]),
        halves(&[7; 32], &gzip),
        halves(b"", &gzip),
        halves(&[7; 31], b"short"),
    ]
}
