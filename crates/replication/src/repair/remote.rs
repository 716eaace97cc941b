// SPDX-License-Identifier: Apache-2.0
//! A peer over gRPC, and the own store, for rounds that run on a thread that may block.

use std::sync::Arc;
use std::time::Duration;

use dulse_proto::repair::repair_client::RepairClient;
use dulse_proto::repair::{
    BucketsReply, BucketsRequest, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest,
    KnownRequest, RowsReply, RowsRequest,
};
use dulse_replica::{Repair, Repaired, ReplicaStore, Shared};
use dulse_transport::{Dial, MESSAGE_BYTES_MAX};
use dulse_types::ServerAddress;
use tokio::runtime::Handle;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::round::{Local, Peer};
use crate::Inner;

/// How long a peer may take to answer: it may have to count a directory of millions.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// How long connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// Pause after each step that took rows in: others write meanwhile.
const STEP_PAUSE: Duration = Duration::from_millis(5);

/// A peer that was met.
pub(super) struct Remote {
    client: RepairClient<Channel>,
    group: String,
    handle: Handle,
}

impl Remote {
    pub(super) async fn connect(inner: &Inner, address: &ServerAddress) -> Result<Self, String> {
        let dial = Dial::within(CONNECT_TIME_MAX);
        let channel = inner.options.transport.connect(&address.grpc(), dial).await;
        let channel = channel.map_err(|e| format!("cannot reach {address}: {e}"))?;
        let client = RepairClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self {
            client,
            group: inner.options.group.clone(),
            handle: Handle::current(),
        })
    }

    fn wait<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, String> {
        let answer = self
            .handle
            .block_on(async { tokio::time::timeout(ANSWER_TIME_MAX, call).await });
        match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer within {} s", ANSWER_TIME_MAX.as_secs())),
        }
    }
}

impl Peer for Remote {
    fn buckets(&mut self) -> Result<BucketsReply, String> {
        let group = self.group.clone();
        let mut client = self.client.clone();
        self.wait(client.buckets(BucketsRequest { group }))
    }

    fn directories(&mut self, request: DirectoriesRequest) -> Result<DirectoriesReply, String> {
        let group = self.group.clone();
        let mut client = self.client.clone();
        self.wait(client.directories(DirectoriesRequest { group, ..request }))
    }

    fn items(&mut self, request: ItemsRequest) -> Result<ItemsReply, String> {
        let group = self.group.clone();
        let mut client = self.client.clone();
        self.wait(client.items(ItemsRequest { group, ..request }))
    }

    fn rows(&mut self, request: RowsRequest) -> Result<RowsReply, String> {
        let group = self.group.clone();
        let mut client = self.client.clone();
        self.wait(client.rows(RowsRequest { group, ..request }))
    }

    fn known(&mut self, request: KnownRequest) -> Result<RowsReply, String> {
        let group = self.group.clone();
        let mut client = self.client.clone();
        self.wait(client.known(KnownRequest { group, ..request }))
    }
}

/// The own store.
pub(super) struct Own {
    store: Arc<ReplicaStore>,
    handle: Handle,
}

impl Own {
    pub(super) fn new(inner: &Inner) -> Self {
        Self {
            store: Arc::clone(&inner.store),
            handle: Handle::current(),
        }
    }
}

impl Local for Own {
    fn shared(&self) -> Arc<Shared> {
        Arc::clone(self.store.shared())
    }

    fn repair(&mut self, repair: Repair) -> Result<Repaired, dulse_store::Error> {
        let done = self.handle.block_on(self.store.repair(repair));
        std::thread::sleep(STEP_PAUSE);
        done
    }
}
