// SPDX-License-Identifier: Apache-2.0
//! Questions to peers; the bytes of both directions are counted.

use dulse_proto::repair::{
    BucketsReply, BucketsRequest, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest,
    KnownRequest, RowsReply, RowsRequest,
};
use prost::Message;

use super::Round;

impl Round<'_, '_> {
    pub(super) fn ask_buckets(&mut self) -> Result<BucketsReply, String> {
        let sent = BucketsRequest::default().encoded_len();
        let reply = self.peer.buckets();
        self.counted(sent, reply)
    }

    pub(super) fn ask_directories(
        &mut self,
        request: DirectoriesRequest,
    ) -> Result<DirectoriesReply, String> {
        let sent = request.encoded_len();
        let reply = self.peer.directories(request);
        self.counted(sent, reply)
    }

    pub(super) fn ask_items(&mut self, request: ItemsRequest) -> Result<ItemsReply, String> {
        let sent = request.encoded_len();
        let reply = self.peer.items(request);
        self.counted(sent, reply)
    }

    pub(super) fn ask_rows(&mut self, request: RowsRequest) -> Result<RowsReply, String> {
        let sent = request.encoded_len();
        let reply = self.peer.rows(request);
        self.counted(sent, reply)
    }

    /// Asks the peer, or one of the others.
    pub(super) fn ask_known(
        &mut self,
        other: Option<usize>,
        request: KnownRequest,
    ) -> Result<RowsReply, String> {
        let sent = request.encoded_len();
        let reply = match other {
            None => self.peer.known(request),
            Some(other) => self.others[other].known(request),
        };
        self.counted(sent, reply)
    }

    fn counted<M: Message>(&mut self, sent: usize, reply: Result<M, String>) -> Result<M, String> {
        let arrived = reply.as_ref().map_or(0, Message::encoded_len);
        self.report.n_messages += 1;
        self.report.n_sent_bytes += sent as u64;
        self.report.n_bytes += arrived as u64;
        reply
    }
}
