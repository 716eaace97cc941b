// SPDX-License-Identifier: Apache-2.0
//! What an operator asks: served at once, also before the filer is ready.

use std::sync::Arc;

use dulse_proto::status::filer_status_server::FilerStatus;
use dulse_proto::status::{
    Component, DigestsRequest, DirectoryDigest, DirectoryRowsRequest, Peer, RowHash, StatusReply,
    StatusRequest, Transfer,
};
use dulse_types::Vector;
use futures::StreamExt;
use tonic::{Request, Response, Status};

use crate::grpc::{Answers, now_ns};
use crate::state::FilerState;

/// Dropped chunks counted for the status at most; more show as this number.
const GARBAGE_COUNT_MAX: usize = 100_000;

/// The service.
#[derive(Clone)]
pub struct StatusService {
    state: Arc<FilerState>,
}

impl StatusService {
    /// A service over the filer's state.
    #[must_use]
    pub fn new(state: Arc<FilerState>) -> Self {
        Self { state }
    }
}

fn components(vector: &Vector) -> Vec<Component> {
    vector
        .iter()
        .map(|(origin, stamp)| Component {
            origin: origin.0,
            stamp: stamp.0,
        })
        .collect()
}

fn internal(error: dulse_store::Error) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl FilerStatus for StatusService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let state = &self.state;
        let shared = state.store.shared();
        let (vector, sum) = shared.digest();
        let not_ready = state.not_ready();
        let peers = state.replicator.peers().into_iter().map(|peer| Peer {
            origin: peer.origin.0,
            address: peer.address.to_string(),
            state: peer.state.as_str().to_owned(),
            lag_changes: peer.lag_changes,
            lag_seconds: peer.lag_seconds,
            last_error: peer.last_error,
        });
        let garbage = shared.garbage(None, GARBAGE_COUNT_MAX).map_err(internal)?;
        Ok(Response::new(StatusReply {
            address: state.options.address.to_string(),
            origin: shared.origin().0,
            engine: shared.engine_name().to_owned(),
            group: state.options.group.clone(),
            ready: not_ready.is_none(),
            not_ready_reason: not_ready.unwrap_or_default(),
            vector: components(&vector),
            durable_vector: components(&shared.durable_vector()),
            digest: sum.sum.to_be_bytes().to_vec().into(),
            entries: u64::try_from(sum.count).unwrap_or(0),
            peers: peers.collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_ns: now_ns(),
            garbage_chunks: garbage.len() as u64,
            changes_applied: state.store.progress().borrow().n_changes,
            transfer: state.replicator.transfer().map(|t| Transfer {
                rows: t.rows,
                rows_total: t.rows_total,
                bytes: t.bytes,
                eta_seconds: t.eta_seconds(),
            }),
        }))
    }

    type DigestsStream = Answers<DirectoryDigest>;

    async fn digests(
        &self,
        request: Request<DigestsRequest>,
    ) -> Result<Response<Self::DigestsStream>, Status> {
        let r = request.into_inner();
        let from = u16::try_from(r.bucket_from).unwrap_or(u16::MAX);
        let until = match r.bucket_until {
            0 => u16::MAX,
            until => u16::try_from(until).unwrap_or(u16::MAX),
        };
        let rows = self
            .state
            .store
            .shared()
            .directory_digests(from, until)
            .map_err(internal)?;
        let rows = rows.into_iter().map(|(bucket, directory, sum)| {
            Ok(DirectoryDigest {
                bucket: bucket.into(),
                directory,
                sum: sum.sum.to_be_bytes().to_vec().into(),
                count: u64::try_from(sum.count).unwrap_or(0),
            })
        });
        Ok(Response::new(futures::stream::iter(rows).boxed()))
    }

    type DirectoryRowsStream = Answers<RowHash>;

    async fn directory_rows(
        &self,
        request: Request<DirectoryRowsRequest>,
    ) -> Result<Response<Self::DirectoryRowsStream>, Status> {
        let dir = request.into_inner().directory;
        let rows = self
            .state
            .store
            .shared()
            .directory_rows(&dir)
            .map_err(internal)?;
        let rows = rows.into_iter().map(|(name, identity, hash)| {
            Ok(RowHash {
                name,
                identity: identity.to_bytes().to_vec().into(),
                hash: hash.to_be_bytes().to_vec().into(),
            })
        });
        Ok(Response::new(futures::stream::iter(rows).boxed()))
    }
}
