// SPDX-License-Identifier: Apache-2.0
//! Repair: any requests, any answers, any rows.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dulse_merge::repair::Tie;
use dulse_proto::repair::{
    BucketsReply, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest, KnownRequest,
    RowsReply, RowsRequest,
};
use dulse_replica::{Foreign, Repair, Repaired, Replacement, Replica, Restored, Shared};
use dulse_replication::repair::round::{self, Local, Peer, Target};
use dulse_replication::repair::serve;
use prost::Message;

use super::merge::parts;
use super::replica::{filled, look_through};

/// Answers of one round: a peer that tells something new for ever is given up by the input.
const ANSWERS_MAX: usize = 64;

/// A small replica that is only read.
fn quiet() -> Arc<Shared> {
    static QUIET: OnceLock<Arc<Shared>> = OnceLock::new();
    Arc::clone(QUIET.get_or_init(|| filled(0).shared()))
}

/// Bytes as each request, answered.
pub(crate) fn requests(input: &[u8]) {
    let shared = quiet();
    if let Ok(request) = DirectoriesRequest::decode(input) {
        let _ = serve::directories(&shared, &request);
    }
    if let Ok(request) = ItemsRequest::decode(input)
        && let Ok(reply) = serve::items(&shared, &request)
    {
        assert!(reply.n_compared as usize <= request.ranges.len());
    }
    if let Ok(request) = RowsRequest::decode(input)
        && let Ok(reply) = serve::rows(&shared, &request)
    {
        assert!(reply.found.len() <= request.keys.len());
    }
    if let Ok(request) = KnownRequest::decode(input)
        && let Ok(reply) = serve::known(&shared, &request)
    {
        assert!(reply.found.len() <= request.wanted.len());
    }
}

/// A peer that answers with what is next in the input, and a true one where that is empty.
struct Scripted<'a> {
    answers: std::iter::Take<Box<dyn Iterator<Item = &'a [u8]> + 'a>>,
    other: Arc<Shared>,
}

impl Scripted<'_> {
    fn answer<M: Message + Default>(
        &mut self,
        otherwise: impl FnOnce(&Shared) -> Result<M, dulse_store::Error>,
    ) -> Result<M, String> {
        let answer = self.answers.next().ok_or("it is silent")?;
        if answer.is_empty() {
            return otherwise(&self.other).map_err(|e| e.to_string());
        }
        M::decode(answer).map_err(|e| e.to_string())
    }
}

impl Peer for Scripted<'_> {
    fn buckets(&mut self) -> Result<BucketsReply, String> {
        self.answer(|other| Ok(serve::buckets(other)))
    }

    fn directories(&mut self, request: DirectoriesRequest) -> Result<DirectoriesReply, String> {
        self.answer(|other| serve::directories(other, &request))
    }

    fn items(&mut self, request: ItemsRequest) -> Result<ItemsReply, String> {
        self.answer(|other| serve::items(other, &request))
    }

    fn rows(&mut self, request: RowsRequest) -> Result<RowsReply, String> {
        self.answer(|other| serve::rows(other, &request))
    }

    fn known(&mut self, request: KnownRequest) -> Result<RowsReply, String> {
        self.answer(|other| serve::known(other, &request))
    }
}

/// The replica that repairs itself.
pub(crate) struct Own(pub(crate) Replica);

impl Local for Own {
    fn shared(&self) -> Arc<Shared> {
        self.0.shared()
    }

    fn repair(&mut self, repair: Repair) -> Result<Repaired, dulse_store::Error> {
        self.0.repair(repair)
    }
}

/// A round against a peer whose answers are in the input, one after the other.
pub(crate) fn answers(input: &[u8]) {
    let mut own = Own(filled(1));
    let answers: Box<dyn Iterator<Item = &[u8]>> = Box::new(parts(input));
    let mut peer = Scripted {
        answers: answers.take(ANSWERS_MAX),
        other: quiet(),
    };
    let _ = round::run(&mut own, &mut peer, &mut [], &Target::All);
    look_through(&mut own.0);
}

/// Keys and values in turn, taken in as rows that are merged, that replace, that are restored.
pub(crate) fn rows(input: &[u8]) {
    let mut replica = filled(1);
    let dir = Bytes::from_static(b"/a");
    let mut repair = Repair::default();
    let all: Vec<Bytes> = parts(input).map(Bytes::copy_from_slice).take(32).collect();
    for pair in all.chunks_exact(2) {
        let row = (pair[0].clone(), pair[1].clone());
        let census = replica.shared().census();
        let Ok(census) = census else { return };
        let path = dulse_merge::keys::path_of(&row.0).unwrap_or_default();
        repair.replaced.push(Replacement {
            dir: dir.clone(),
            seen: census.print_of(&path).unwrap_or_default(),
            path: path.clone().into(),
            rows: vec![row.clone()],
        });
        repair.restored.push(Restored {
            dir: dir.clone(),
            key: row.0.clone(),
            seen: census.row(&row.0).unwrap_or_default(),
            value: Some(row.1.clone()),
        });
        repair.settled.push(path.into());
        for tie in [Tie::Theirs, Tie::Greater] {
            repair.merged.push(Foreign {
                dir: dir.clone(),
                row: row.clone(),
                tie,
                paths: vec![Bytes::from_static(b"/a/b")],
            });
        }
    }
    let _ = replica.repair(repair);
    look_through(&mut replica);
}
