// SPDX-License-Identifier: Apache-2.0
//! What two small replicas ask and answer when one repairs itself from the other.

use std::sync::Arc;

use dulse_kv::{MemoryEngine, ReadExt};
use dulse_merge::keys;
use dulse_proto::repair::{
    BucketsReply, BucketsRequest, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest,
    KnownRequest, RowsReply, RowsRequest,
};
use dulse_replica::Shared;
use dulse_replication::repair::round::{self, Peer, Target};
use dulse_replication::repair::serve;
use prost::Message;

use super::{joined, rows};
use crate::targets::{Own, filled, filled_on};

/// A round between two small replicas, as it is asked and answered.
struct Heard {
    other: Arc<Shared>,
    asked: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

impl Heard {
    fn note<Q: Message, A: Message>(
        &mut self,
        asked: &Q,
        answer: Result<A, dulse_store::Error>,
    ) -> Result<A, String> {
        let answer = answer.map_err(|e| e.to_string())?;
        self.asked.push(asked.encode_to_vec());
        self.answers.push(answer.encode_to_vec());
        Ok(answer)
    }
}

impl Peer for Heard {
    fn buckets(&mut self) -> Result<BucketsReply, String> {
        let answer = Ok(serve::buckets(&self.other));
        self.note(&BucketsRequest::default(), answer)
    }

    fn directories(&mut self, request: DirectoriesRequest) -> Result<DirectoriesReply, String> {
        let answer = serve::directories(&self.other, &request);
        self.note(&request, answer)
    }

    fn items(&mut self, request: ItemsRequest) -> Result<ItemsReply, String> {
        let answer = serve::items(&self.other, &request);
        self.note(&request, answer)
    }

    fn rows(&mut self, request: RowsRequest) -> Result<RowsReply, String> {
        let answer = serve::rows(&self.other, &request);
        self.note(&request, answer)
    }

    fn known(&mut self, request: KnownRequest) -> Result<RowsReply, String> {
        let answer = serve::known(&self.other, &request);
        self.note(&request, answer)
    }
}

fn heard() -> Heard {
    let mut peer = Heard {
        other: filled(0).shared(),
        asked: Vec::new(),
        answers: Vec::new(),
    };
    let mut own = Own(filled(1));
    round::run(&mut own, &mut peer, &mut [], &Target::All).expect("a round of two good replicas");
    assert!(peer.answers.len() > 4, "a round that asks for nothing");
    peer
}

pub(crate) fn repair_requests() -> Vec<Vec<u8>> {
    heard().asked
}

/// All answers of a round, and each beside true ones.
pub(crate) fn repair_answers() -> Vec<Vec<u8>> {
    let answers = heard().answers;
    let mut seeds = vec![joined(answers.iter().map(Vec::as_slice))];
    for (n, answer) in answers.iter().enumerate() {
        let true_ones = std::iter::repeat_n(&[][..], n);
        let behind = std::iter::repeat_n(&[][..], 8);
        seeds.push(joined(true_ones.chain([&answer[..]]).chain(behind)));
    }
    seeds
}

/// Rows that another replica has, and every golden row under some keys.
pub(crate) fn repair_rows() -> Vec<Vec<u8>> {
    let engine = MemoryEngine::new();
    drop(filled_on(engine.clone(), 0));
    let all = engine.scan(&[], &[0xff], usize::MAX).expect("read memory");
    let mut seeds: Vec<_> = all
        .chunks(4)
        .map(|rows| joined(rows.iter().flat_map(|(key, value)| [&key[..], &value[..]])))
        .collect();
    let rows = rows();
    for key in [keys::entry(b"/a/b"), keys::entry(b"/moved/b")]
        .into_iter()
        .chain(super::keys())
    {
        for some in rows.chunks(4) {
            seeds.push(joined(some.iter().flat_map(|row| [&key[..], &row[..]])));
        }
    }
    seeds
}
