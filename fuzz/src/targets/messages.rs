// SPDX-License-Identifier: Apache-2.0
//! Messages between filers: handshakes, heartbeats, parts of a transfer.

use dulse_proto::replication::{FreedReply, FreedRequest, Heartbeat, Hello, Resume, SnapshotPart};
use dulse_replication::{convert, freed};
use prost::Message;

/// Bytes as each message, and what is made of it.
pub(crate) fn messages(input: &[u8]) {
    if let Ok(hello) = Hello::decode(input) {
        let _ = convert::greeting(&hello);
        for (_, address) in convert::addresses(&hello.known) {
            assert!(address.to_string().parse().as_ref() == Ok(&address));
        }
    }
    if let Ok(beat) = Heartbeat::decode(input) {
        let statement = convert::statement(&beat);
        let durable = convert::vector(&convert::positions(&statement.durable));
        assert_eq!(durable, statement.durable);
    }
    if let Ok(resume) = Resume::decode(input) {
        let cursor = convert::cursor(&resume);
        assert_eq!(convert::cursor(&convert::resume(&cursor)), cursor);
    }
    if let Ok(asked) = FreedRequest::decode(input)
        && let Ok(chunks) = freed::decode(&asked.chunks)
    {
        assert_eq!(chunks.len() * 36, asked.chunks.len());
    }
    if let Ok(reply) = FreedReply::decode(input) {
        assert!(freed::told(&reply, &[]).is_empty());
    }
    if let Ok(mut part) = SnapshotPart::decode(input) {
        let part = convert::import_part(&mut part);
        let again = convert::import_part(&mut convert::part(part.clone()));
        assert_eq!(again, part);
    }
}
