// SPDX-License-Identifier: Apache-2.0
//! What a server is told of the time that a call has.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::frame::PREAMBLE;

#[tokio::test]
async fn a_server_drops_a_write_that_it_has_not_begun_within_one_attempt() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(Options {
        quorum: Vec::new(),
        root: "/hbase".to_owned(),
        table: "t".to_owned(),
        user: "u".to_owned(),
        n_connections: 1,
        time_max: 10 * ATTEMPT_TIME_MAX,
    });
    client.regions.put(Arc::new(Region {
        name: Bytes::from_static(b"t,,1"),
        start: Bytes::new(),
        end: Bytes::new(),
        server: Address {
            host: "127.0.0.1".to_owned(),
            port: server.local_addr().unwrap().port(),
        },
    }));
    let put = Mutation::Put(Put {
        value: Bytes::from_static(b"v"),
        ttl_ms: None,
    });
    let header = async {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut preamble = [0; PREAMBLE.len()];
        stream.read_exact(&mut preamble).await.unwrap();
        let mut frames = Vec::new();
        // What the connection is, and the call.
        for _ in 0..2 {
            let len = stream.read_u32().await.unwrap();
            let mut frame = vec![0; len as usize];
            stream.read_exact(&mut frame).await.unwrap();
            frames.push(frame);
        }
        pb::RequestHeader::decode_length_delimited(&frames[1][..]).unwrap()
    };
    let header = tokio::select! {
        header = header => header,
        made = client.mutate(b"r", b"f", b"q", &put, None) => panic!("{made:?}"),
    };
    assert_eq!(header.method_name(), "Mutate");
    let limit = Duration::from_millis(u64::from(header.timeout()));
    assert!(limit <= ATTEMPT_TIME_MAX, "{limit:?}");
}
