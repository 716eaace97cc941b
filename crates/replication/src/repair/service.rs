// SPDX-License-Identifier: Apache-2.0
//! What peers call to repair themselves; see [`super::serve`].

use std::sync::Arc;

use dulse_proto::repair::repair_server::Repair;
use dulse_proto::repair::{
    BucketsReply, BucketsRequest, DirectoriesReply, DirectoriesRequest, ItemsReply, ItemsRequest,
    KnownRequest, RowsReply, RowsRequest,
};
use dulse_replica::Shared;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::serve;
use crate::Inner;

/// Answers computed at once: each reads a directory, perhaps a large one.
const ANSWERS_MAX: usize = 2;

/// The service, to be served on the filer's gRPC port.
#[derive(Clone)]
pub struct RepairService {
    inner: Arc<Inner>,
    slots: Arc<Semaphore>,
}

impl RepairService {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            slots: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    /// Answers on a thread that may block, a few at a time.
    async fn answer<T: Send + 'static>(
        &self,
        group: &str,
        answer: impl FnOnce(&Shared) -> Result<T, dulse_store::Error> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        if group != self.inner.options.group {
            return Err(Status::failed_precondition("another filer group"));
        }
        let shared = Arc::clone(self.inner.store.shared());
        // A fresh filer would say that all of its peers' entries are strays.
        if shared.is_fresh() {
            return Err(Status::unavailable("this filer is fresh itself"));
        }
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| Status::unavailable("stopping"))?;
        let answered = tokio::task::spawn_blocking(move || {
            let answered = answer(&shared);
            drop(slot);
            answered
        });
        let answered = answered
            .await
            .map_err(|e| Status::internal(e.to_string()))?;
        answered
            .map(Response::new)
            .map_err(|e| Status::internal(e.to_string()))
    }
}

#[tonic::async_trait]
impl Repair for RepairService {
    async fn buckets(
        &self,
        request: Request<BucketsRequest>,
    ) -> Result<Response<BucketsReply>, Status> {
        let request = request.into_inner();
        self.answer(&request.group, |shared| Ok(serve::buckets(shared)))
            .await
    }

    async fn directories(
        &self,
        request: Request<DirectoriesRequest>,
    ) -> Result<Response<DirectoriesReply>, Status> {
        let request = request.into_inner();
        let group = request.group.clone();
        self.answer(&group, move |shared| serve::directories(shared, &request))
            .await
    }

    async fn items(&self, request: Request<ItemsRequest>) -> Result<Response<ItemsReply>, Status> {
        let request = request.into_inner();
        let group = request.group.clone();
        self.answer(&group, move |shared| serve::items(shared, &request))
            .await
    }

    async fn rows(&self, request: Request<RowsRequest>) -> Result<Response<RowsReply>, Status> {
        let request = request.into_inner();
        let group = request.group.clone();
        self.answer(&group, move |shared| serve::rows(shared, &request))
            .await
    }

    async fn known(&self, request: Request<KnownRequest>) -> Result<Response<RowsReply>, Status> {
        let request = request.into_inner();
        let group = request.group.clone();
        self.answer(&group, move |shared| serve::known(shared, &request))
            .await
    }
}
