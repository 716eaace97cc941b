// SPDX-License-Identifier: Apache-2.0
//! Answers of HBase and ZooKeeper, written out by their field numbers.

/// A field of bytes: number, length, content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8][..], content].concat()
}

/// Answers to scans: two rows of one cell each, and the scanner.
pub(crate) fn hbase_rows() -> Vec<Vec<u8>> {
    let row = |row: &[u8]| {
        let cell = [
            field(1, row),
            field(2, b"meta"),
            field(3, b"a"),
            vec![0x20, 0x07],
            field(6, b"value"),
        ];
        field(5, &field(1, &cell.concat()))
    };
    let scanner = vec![0x10, 0x05, 0x18, 0x01, 0x40, 0x01];
    vec![
        [scanner, row(b"/a"), row(b"/a/b/c")].concat(),
        row(b"/"),
        Vec::new(),
    ]
}

/// Responses with those, and one with what was thrown.
pub(crate) fn hbase_frames() -> Vec<Vec<u8>> {
    let thrown = field(
        2,
        &[field(1, b"a.NotServingRegionException"), field(2, b"why")].concat(),
    );
    let header = [vec![0x08, 0x03], thrown].concat();
    let mut out = vec![[vec![header.len() as u8], header].concat()];
    let framed = |message: Vec<u8>| [vec![2, 0x08, 0x02, message.len() as u8], message].concat();
    out.extend(hbase_rows().into_iter().map(framed));
    out
}

/// Nodes, alone and in an answer; a region; a quorum.
pub(crate) fn hbase_nodes() -> Vec<Vec<u8>> {
    let server = field(1, &[field(1, b"host"), vec![0x10, 0x94, 0x7d]].concat());
    let node = [&b"\xff\x00\x00\x00\x03me!PBUF"[..], &server].concat();
    let length = (node.len() as u32).to_be_bytes();
    let answer = [&[0; 16][..], &length, &node].concat();
    let table = field(2, &[field(1, b"default"), field(2, b"t")].concat());
    let region = [
        &b"PBUF\x08\x01"[..],
        &table,
        &field(3, b"/a"),
        &field(4, b"/b"),
    ]
    .concat();
    vec![node, answer, region, b"zk1,zk2:2182,[::1]:2181".to_vec()]
}
