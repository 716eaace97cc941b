// SPDX-License-Identifier: Apache-2.0
//! The network: connections whose messages arrive late, in order, and while a link is cut
//! not at all; whoever dies resets its connections, if that can still be heard.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use dulse_proto::replication::{FreedReply, FreedRequest, Heartbeat};
use dulse_replica::{Export, ExportPart, ImportCursor};
use dulse_replication::core::{Greeting, LinkId, StreamId};
use dulse_replication::feed::{Cursor, KeptCursor};
use dulse_types::{Origin, ServerAddress, Vector};

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Greet(LinkId),
    Pull(StreamId),
    Join(StreamId),
    /// A question about dropped chunks, by its number.
    Freed(u64),
}

/// To the one who called.
pub(crate) enum Reply {
    Hello(Box<Greeting>),
    Batch(Vec<Bytes>, Box<Heartbeat>),
    Part {
        begins: Option<Begins>,
        part: ExportPart,
        kept: Vec<Bytes>,
        is_last: bool,
    },
    Freed(FreedReply),
    /// The stream ended by itself.
    End,
    /// The connection broke, or the other side refused.
    Broken(String),
    /// What was asked for is in the log no more.
    Cut(String),
}

/// To the one who is called.
pub(crate) enum Request {
    Hello {
        origin: Origin,
        address: ServerAddress,
    },
    Pull {
        instance: u64,
        is_once: bool,
    },
    Join {
        joiner: Origin,
        address: ServerAddress,
        resume: Option<ImportCursor>,
    },
    Freed(FreedRequest),
}

/// The first part of a transfer: of which state it is, and whether it goes on.
pub(crate) struct Begins {
    pub(crate) vector: Vector,
    pub(crate) is_resumed: bool,
}

/// One call.
pub(crate) struct Connection {
    pub(crate) kind: Kind,
    pub(crate) client: usize,
    pub(crate) client_life: u64,
    pub(crate) server: usize,
    pub(crate) server_life: u64,
    pub(crate) requests: VecDeque<Request>,
    pub(crate) replies: VecDeque<Reply>,
    pub(crate) cursor: Cursor,
    pub(crate) is_once: bool,
    /// A message was lost: nothing arrives any more, and neither side knows.
    pub(crate) is_stalled: bool,
    pub(crate) export: Option<(Export, KeptCursor)>,
}

/// All connections and cuts.
pub(crate) struct Net {
    /// `is_cut[a][b]`: nothing goes from a to b; one-way cuts happen.
    pub(crate) is_cut: Vec<Vec<bool>>,
    /// `loss[a][b]`: how probable it is that a message from a to b is lost.
    pub(crate) loss: Vec<Vec<f64>>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    next_id: u64,
}

impl Net {
    pub(crate) fn new(filers: usize) -> Self {
        Self {
            is_cut: vec![vec![false; filers]; filers],
            loss: vec![vec![0.0; filers]; filers],
            connections: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Room for one more filer.
    #[cfg(test)]
    pub(crate) fn grow(&mut self) {
        let n_filers = self.is_cut.len() + 1;
        self.is_cut = vec![vec![false; n_filers]; n_filers];
        self.loss = vec![vec![0.0; n_filers]; n_filers];
    }

    pub(crate) fn heal(&mut self) {
        for row in &mut self.is_cut {
            row.fill(false);
        }
        for row in &mut self.loss {
            row.fill(0.0);
        }
    }

    pub(crate) fn add(&mut self, connection: Connection) -> u64 {
        self.next_id += 1;
        self.connections.insert(self.next_id, connection);
        self.next_id
    }

    /// Drops the call of a stream or greeting, as its caller wants.
    pub(crate) fn cancel(&mut self, client: usize, kind: Kind) {
        self.connections
            .retain(|_, c| c.client != client || c.kind != kind);
    }
}
