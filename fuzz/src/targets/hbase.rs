// SPDX-License-Identifier: Apache-2.0
//! What HBase's servers and ZooKeeper send, and what is made of it.

use bytes::Bytes;
use dulse_hbase_client::zookeeper::{decode_data, decode_server, parse_quorum};
use dulse_hbase_client::{decode_rows, frame, region_of_row};
use dulse_store::ListRange;
use dulse_store_hbase::{Found, inside};
use dulse_types::FullPath;

/// A frame is a response or is refused; its message is rows or is refused.
pub(crate) fn frame(input: &[u8]) {
    let Ok(response) = frame::decode_response(Bytes::copy_from_slice(input)) else {
        return;
    };
    if let Ok(message) = response.outcome {
        rows(&message);
    }
}

/// Rows of a listing are names of the directory, or lead behind themselves.
pub(crate) fn rows(input: &[u8]) {
    let Ok(rows) = decode_rows(Bytes::copy_from_slice(input)) else {
        return;
    };
    let range = ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: false,
        limit: 10,
    };
    let inside = inside(&FullPath::root(), &range);
    for row in rows {
        match inside.find(&row.row) {
            Found::Name(name) => assert_eq!(format!("/{name}").as_bytes(), &row.row[..]),
            Found::Below(behind) => assert!(behind > row.row && row.row.starts_with(b"/")),
            Found::Foreign => {}
        }
    }
}

/// Nodes of ZooKeeper, rows of `hbase:meta`, and what a person types as the quorum.
pub(crate) fn nodes(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    if let Ok(data) = decode_data(bytes.clone()) {
        let _ = decode_server(data);
    }
    if let Ok(server) = decode_server(bytes.clone()) {
        assert!(!server.host.is_empty());
    }
    let half = bytes.len() / 2;
    for (info, server) in [
        (bytes.clone(), &b"host:16020"[..]),
        (bytes.slice(half..), &input[..half]),
    ] {
        if let Ok(region) = region_of_row(Bytes::from_static(b"t,,1."), info, server) {
            assert!(region.holds(&region.start), "a region has its first row");
            assert!(region.end.is_empty() || !region.holds(&region.end));
        }
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(quorum) = parse_quorum(text)
    {
        let shown: Vec<String> = quorum
            .iter()
            .map(|at| format!("[{}]:{}", at.host, at.port))
            .collect();
        assert_eq!(parse_quorum(&shown.join(",")), Ok(quorum));
    }
}
