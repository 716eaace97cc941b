// SPDX-License-Identifier: Apache-2.0
//! Asking the filer that frees dropped chunks which of them are freed; and answering.
//!
//! A question rather than an announcement: who asks has rows on its disk, so nothing needs to
//! be remembered of what was said to whom, over restarts of either side, and a lost answer
//! costs a repetition (docs/decisions/0006-freed-chunks-are-asked-for.md).

use std::sync::Arc;
use std::time::Duration;

use dulse_merge::keys;
use dulse_proto::replication::replication_client::ReplicationClient;
use dulse_proto::replication::{FreedReply, FreedRequest};
use dulse_replica::{ASKED_MAX, Garbage};
use dulse_transport::{Dial, MESSAGE_BYTES_MAX};
use dulse_types::{FileId, Identity, Origin, ServerAddress, Vector};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::{Inner, convert, repair};

/// How long connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// How long an answer may take: some thousand reads.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// Answers computed at once.
const ANSWERS_MAX: usize = 2;

/// Bytes of one chunk in a question.
const CHUNK_LEN: usize = Identity::LEN + 16;

/// Answers at once, for all who ask.
pub(crate) fn slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ANSWERS_MAX))
}

/// Dropped chunks as a question carries them.
#[must_use]
pub fn encode(rows: &[Garbage]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * CHUNK_LEN);
    for row in rows {
        // The key without its first byte, which names the space.
        out.extend_from_slice(&keys::garbage(row.inode, row.chunk)[1..]);
    }
    out
}

/// The dropped chunks of a question.
///
/// # Errors
///
/// What is wrong with them, in words.
pub fn decode(chunks: &[u8]) -> Result<Vec<(Identity, FileId)>, String> {
    if !chunks.len().is_multiple_of(CHUNK_LEN) {
        return Err(format!(
            "{} bytes of chunks; expected {CHUNK_LEN} for each",
            chunks.len()
        ));
    }
    let n_chunks = chunks.len() / CHUNK_LEN;
    if n_chunks > ASKED_MAX {
        return Err(format!("{n_chunks} chunks; expected at most {ASKED_MAX}"));
    }
    let parsed = chunks.chunks_exact(CHUNK_LEN).map(|chunk| {
        let mut key = vec![0];
        key.extend_from_slice(chunk);
        keys::parse_garbage(&key).ok_or_else(|| "a chunk that cannot be read".to_owned())
    });
    parsed.collect()
}

/// The rows that an answer says are of no use any more; places that were not asked about are
/// passed over.
#[must_use]
pub fn told(reply: &FreedReply, rows: &[Garbage]) -> Vec<Garbage> {
    let told = reply.freed.iter();
    told.filter_map(|at| rows.get(usize::try_from(*at).ok()?).copied())
        .collect()
}

/// Asks the filer that frees some chunks; gives those that it freed.
pub(crate) async fn ask(
    inner: &Inner,
    asked: Origin,
    covers: &Vector,
    rows: &[Garbage],
) -> Result<Vec<Garbage>, String> {
    let mut peers = repair::driver::reachable(inner).into_iter();
    let Some((_, address)) = peers.find(|(origin, _)| *origin == asked) else {
        return Err(format!("filer {asked} cannot be reached"));
    };
    let request = FreedRequest {
        group: inner.options.group.clone(),
        asked: asked.0,
        covers: convert::positions(covers),
        chunks: encode(rows).into(),
    };
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, call(inner, &address, request)).await;
    let late = || format!("no answer within {} s", ANSWER_TIME_MAX.as_secs());
    Ok(told(&answer.map_err(|_| late())??, rows))
}

async fn call(
    inner: &Inner,
    address: &ServerAddress,
    request: FreedRequest,
) -> Result<FreedReply, String> {
    let dial = Dial::within(CONNECT_TIME_MAX);
    let channel = inner.options.transport.connect(&address.grpc(), dial).await;
    let channel = channel.map_err(|e| format!("cannot reach {address}: {e}"))?;
    let mut client = ReplicationClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let answer = client.freed(request).await;
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| status.message().to_owned())
}

/// Answers one who asks.
pub(crate) async fn answer(
    inner: &Inner,
    slots: &Arc<Semaphore>,
    request: FreedRequest,
) -> Result<FreedReply, Status> {
    if request.group != inner.options.group {
        return Err(Status::failed_precondition("another filer group"));
    }
    if request.asked != inner.origin().0 {
        return Err(Status::failed_precondition("another filer is here"));
    }
    // A store that is to take a new origin, or has no history, knows of no row.
    let why = inner.core.lock().not_ready().map(str::to_owned);
    if let Some(why) = why {
        return Err(Status::unavailable(format!(
            "this filer is not ready: {why}"
        )));
    }
    let chunks = decode(&request.chunks).map_err(Status::invalid_argument)?;
    let covers = convert::vector(&request.covers);
    let slot = Arc::clone(slots).acquire_owned().await;
    let slot = slot.map_err(|_| Status::unavailable("stopping"))?;
    let shared = Arc::clone(inner.store.shared());
    let read = tokio::task::spawn_blocking(move || {
        let freed = shared.freed(&covers, &chunks);
        drop(slot);
        freed
    });
    let freed = read.await.map_err(|e| Status::internal(e.to_string()))?;
    let freed = freed.map_err(|e| Status::internal(e.to_string()))?;
    let freed = freed.into_iter().filter_map(|at| u32::try_from(at).ok());
    Ok(FreedReply {
        freed: freed.collect(),
    })
}

#[cfg(test)]
mod tests {
    use dulse_types::{Stamp, Version};

    use super::*;

    fn row(key: u64) -> Garbage {
        let version = Version {
            stamp: Stamp(5),
            origin: Origin(2),
        };
        Garbage {
            inode: Identity {
                stamp: Stamp(3),
                origin: Origin(2),
                index: 1,
            },
            chunk: FileId {
                volume_id: 4,
                key,
                cookie: 6,
            },
            cause: version,
            end: None,
            winner: version,
            is_moved: false,
            is_pinned: false,
            has_manifests: false,
        }
    }

    #[test]
    fn a_question_is_read_as_it_was_asked_and_nothing_else_passes() {
        let rows = [row(1), row(2)];
        let bytes = encode(&rows);
        let read = decode(&bytes).unwrap();
        assert_eq!(read, rows.map(|row| (row.inode, row.chunk)));
        let hex = "0000000000000003 0000000000000002 00000001 00000004 0000000000000001 00000006";
        let first: String = bytes[..CHUNK_LEN]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(first, hex.replace(' ', ""), "what other versions send");
        assert!(decode(&bytes[1..]).unwrap_err().contains("expected 36"));
        let many = vec![0; CHUNK_LEN * (ASKED_MAX + 1)];
        assert!(decode(&many).unwrap_err().contains("at most 4000"));
    }

    #[test]
    fn an_answer_that_says_nothing_frees_nothing_and_one_out_of_bounds_neither() {
        let rows = [row(1), row(2)];
        assert_eq!(told(&FreedReply::default(), &rows), []);
        let freed = vec![1, 2, u32::MAX];
        assert_eq!(told(&FreedReply { freed }, &rows), [row(2)]);
    }
}
