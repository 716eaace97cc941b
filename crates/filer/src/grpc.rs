// SPDX-License-Identifier: Apache-2.0
//! The filer over gRPC: upstream's interface.

pub(crate) mod convert;
mod entries;
mod listing;
mod renaming;
pub mod subscribe;
mod volumes;

pub use subscribe as subscribers;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_server::SeaweedFiler;
use dulse_types::{Origin, Stamp};
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::session::{self, SessionToken};
use crate::state::{FilerState, Kept};

/// A boxed answer stream.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct FilerService {
    pub(crate) state: Arc<FilerState>,
}

impl FilerService {
    /// A service over the filer's state.
    #[must_use]
    pub fn new(state: Arc<FilerState>) -> Self {
        Self { state }
    }

    /// Namespace calls are refused until the filer is ready, and wait, bounded, for the
    /// writes whose tokens they present.
    pub(crate) async fn ready<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if let Some(why) = self.state.not_ready() {
            return Err(Status::unavailable(format!("filer is not ready: {why}")));
        }
        let progress = match &self.state.kept {
            Kept::Embedded(own) => Some(own.store.progress()),
            // Every read sees every write that was acknowledged anywhere.
            Kept::Shared(_) => None,
        };
        session::wait_for_all(request.metadata(), progress).await
    }

    /// An answer with the session token of the write; where there was nothing to do, with those
    /// of all that was seen.
    pub(crate) fn with_token<T>(
        &self,
        message: T,
        position: Option<(Origin, Stamp)>,
    ) -> Response<T> {
        let mut response = Response::new(message);
        let own = self.state.namespace.origin();
        let tokens = match position {
            Some((origin, stamp)) if origin == own => vec![SessionToken { origin, stamp }],
            // It had nothing to do, and must not be asked behind what says so; or it is in a
            // directory's own store, where every read sees it, and what led to it is not.
            _ => match &self.state.kept {
                Kept::Embedded(own) => session::seen(&own.store.progress().borrow().applied),
                Kept::Shared(on) => session::seen(&on.readable()),
            },
        };
        for token in tokens {
            let mut token = token.to_metadata();
            // No two answers have the same: it must not fill the header compression's table,
            // which costs both sides more than the bytes it saves.
            token.set_sensitive(true);
            response.metadata_mut().append(session::METADATA_KEY, token);
        }
        response
    }
}

/// A call that this version does not serve.
fn unserved<T>(name: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!(
        "{name} is not served by this version"
    )))
}

pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl SeaweedFiler for FilerService {
    async fn lookup_directory_entry(
        &self,
        request: Request<pb::LookupDirectoryEntryRequest>,
    ) -> Result<Response<pb::LookupDirectoryEntryResponse>, Status> {
        self.ready(&request).await?;
        self.lookup(request.get_ref()).map(Response::new)
    }

    async fn lookup_directory_entries(
        &self,
        request: Request<pb::LookupDirectoryEntriesRequest>,
    ) -> Result<Response<pb::LookupDirectoryEntriesResponse>, Status> {
        self.ready(&request).await?;
        self.lookup_many(request.get_ref()).map(Response::new)
    }

    type ListEntriesStream = Answers<pb::ListEntriesResponse>;

    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<Self::ListEntriesStream>, Status> {
        self.ready(&request).await?;
        Ok(Response::new(self.list(request.into_inner())))
    }

    async fn create_entry(
        &self,
        request: Request<pb::CreateEntryRequest>,
    ) -> Result<Response<pb::CreateEntryResponse>, Status> {
        self.ready(&request).await?;
        self.create(request.into_inner()).await
    }

    async fn update_entry(
        &self,
        request: Request<pb::UpdateEntryRequest>,
    ) -> Result<Response<pb::UpdateEntryResponse>, Status> {
        self.ready(&request).await?;
        self.update(request.into_inner()).await
    }

    async fn touch_access_time(
        &self,
        _: Request<pb::TouchAccessTimeRequest>,
    ) -> Result<Response<pb::TouchAccessTimeResponse>, Status> {
        unserved("TouchAccessTime")
    }

    async fn append_to_entry(
        &self,
        request: Request<pb::AppendToEntryRequest>,
    ) -> Result<Response<pb::AppendToEntryResponse>, Status> {
        self.ready(&request).await?;
        self.append(request.into_inner()).await
    }

    async fn delete_entry(
        &self,
        request: Request<pb::DeleteEntryRequest>,
    ) -> Result<Response<pb::DeleteEntryResponse>, Status> {
        self.ready(&request).await?;
        self.delete(request.into_inner()).await
    }

    async fn object_transaction(
        &self,
        _: Request<pb::ObjectTransactionRequest>,
    ) -> Result<Response<pb::ObjectTransactionResponse>, Status> {
        unserved("ObjectTransaction")
    }

    async fn object_transaction_batch(
        &self,
        _: Request<pb::ObjectTransactionBatchRequest>,
    ) -> Result<Response<pb::ObjectTransactionBatchResponse>, Status> {
        unserved("ObjectTransactionBatch")
    }

    async fn posix_lock(
        &self,
        _: Request<pb::PosixLockRequest>,
    ) -> Result<Response<pb::PosixLockResponse>, Status> {
        unserved("PosixLock")
    }

    async fn atomic_rename_entry(
        &self,
        request: Request<pb::AtomicRenameEntryRequest>,
    ) -> Result<Response<pb::AtomicRenameEntryResponse>, Status> {
        self.ready(&request).await?;
        let r = request.into_inner();
        let (from, to) = ((r.old_directory, r.old_name), (r.new_directory, r.new_name));
        let change = self.rename(from, to, r.signatures).await?;
        Ok(self.with_token(pb::AtomicRenameEntryResponse {}, change.position))
    }

    type StreamRenameEntryStream = Answers<pb::StreamRenameEntryResponse>;

    async fn stream_rename_entry(
        &self,
        request: Request<pb::StreamRenameEntryRequest>,
    ) -> Result<Response<Self::StreamRenameEntryStream>, Status> {
        self.ready(&request).await?;
        self.stream_rename(request.into_inner()).await
    }

    type StreamMutateEntryStream = Answers<pb::StreamMutateEntryResponse>;

    async fn stream_mutate_entry(
        &self,
        _: Request<Streaming<pb::StreamMutateEntryRequest>>,
    ) -> Result<Response<Self::StreamMutateEntryStream>, Status> {
        unserved("StreamMutateEntry")
    }

    async fn assign_volume(
        &self,
        request: Request<pb::AssignVolumeRequest>,
    ) -> Result<Response<pb::AssignVolumeResponse>, Status> {
        self.ready(&request).await?;
        Ok(Response::new(self.assign(request.into_inner()).await))
    }

    async fn lookup_volume(
        &self,
        request: Request<pb::LookupVolumeRequest>,
    ) -> Result<Response<pb::LookupVolumeResponse>, Status> {
        let volume_ids = request.into_inner().volume_ids;
        Ok(Response::new(self.locate(volume_ids).await))
    }

    async fn collection_list(
        &self,
        request: Request<pb::CollectionListRequest>,
    ) -> Result<Response<pb::CollectionListResponse>, Status> {
        self.collections(request.into_inner()).await
    }

    async fn delete_collection(
        &self,
        request: Request<pb::DeleteCollectionRequest>,
    ) -> Result<Response<pb::DeleteCollectionResponse>, Status> {
        let name = request.into_inner().collection;
        let asked = dulse_proto::master::CollectionDeleteRequest { name };
        self.state.master().await?.collection_delete(asked).await?;
        Ok(Response::new(pb::DeleteCollectionResponse {}))
    }

    async fn statistics(
        &self,
        request: Request<pb::StatisticsRequest>,
    ) -> Result<Response<pb::StatisticsResponse>, Status> {
        self.total(request.into_inner()).await
    }

    async fn ping(
        &self,
        request: Request<pb::PingRequest>,
    ) -> Result<Response<pb::PingResponse>, Status> {
        self.pong(request.into_inner()).await.map(Response::new)
    }

    async fn get_filer_configuration(
        &self,
        _: Request<pb::GetFilerConfigurationRequest>,
    ) -> Result<Response<pb::GetFilerConfigurationResponse>, Status> {
        Ok(Response::new(self.state.configuration()))
    }

    type TraverseBfsMetadataStream = Answers<pb::TraverseBfsMetadataResponse>;

    async fn traverse_bfs_metadata(
        &self,
        request: Request<pb::TraverseBfsMetadataRequest>,
    ) -> Result<Response<Self::TraverseBfsMetadataStream>, Status> {
        self.ready(&request).await?;
        self.traverse(request.into_inner())
    }

    type SubscribeMetadataStream = Answers<pb::SubscribeMetadataResponse>;

    async fn subscribe_metadata(
        &self,
        request: Request<pb::SubscribeMetadataRequest>,
    ) -> Result<Response<Self::SubscribeMetadataStream>, Status> {
        self.ready(&request).await?;
        self.subscribe(request, false)
    }

    type SubscribeLocalMetadataStream = Answers<pb::SubscribeMetadataResponse>;

    async fn subscribe_local_metadata(
        &self,
        request: Request<pb::SubscribeMetadataRequest>,
    ) -> Result<Response<Self::SubscribeLocalMetadataStream>, Status> {
        self.ready(&request).await?;
        self.subscribe(request, true)
    }

    async fn list_metadata_subscribers(
        &self,
        request: Request<pb::ListMetadataSubscribersRequest>,
    ) -> Result<Response<pb::ListMetadataSubscribersResponse>, Status> {
        let types = request.into_inner().client_types;
        let subscribers = self.state.subscribers.list(&types);
        Ok(Response::new(pb::ListMetadataSubscribersResponse {
            subscribers,
        }))
    }

    async fn kv_get(
        &self,
        request: Request<pb::KvGetRequest>,
    ) -> Result<Response<pb::KvGetResponse>, Status> {
        self.ready(&request).await?;
        let (value, error) = match self.state.namespace.kv_get(&request.into_inner().key) {
            Ok(value) => (value.unwrap_or_default(), String::new()),
            Err(error) => (bytes::Bytes::new(), error.to_string()),
        };
        Ok(Response::new(pb::KvGetResponse { value, error }))
    }

    async fn kv_put(
        &self,
        request: Request<pb::KvPutRequest>,
    ) -> Result<Response<pb::KvPutResponse>, Status> {
        self.ready(&request).await?;
        let r = request.into_inner();
        match self.state.namespace.kv_put(r.key, r.value).await {
            Ok(change) => Ok(self.with_token(pb::KvPutResponse::default(), change.position)),
            Err(error) => Ok(Response::new(pb::KvPutResponse {
                error: error.to_string(),
            })),
        }
    }

    async fn cache_remote_object_to_local_cluster(
        &self,
        _: Request<pb::CacheRemoteObjectToLocalClusterRequest>,
    ) -> Result<Response<pb::CacheRemoteObjectToLocalClusterResponse>, Status> {
        unserved("CacheRemoteObjectToLocalCluster")
    }

    async fn distributed_lock(
        &self,
        _: Request<pb::LockRequest>,
    ) -> Result<Response<pb::LockResponse>, Status> {
        unserved("DistributedLock")
    }

    async fn distributed_unlock(
        &self,
        _: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        unserved("DistributedUnlock")
    }

    async fn find_lock_owner(
        &self,
        _: Request<pb::FindLockOwnerRequest>,
    ) -> Result<Response<pb::FindLockOwnerResponse>, Status> {
        unserved("FindLockOwner")
    }

    async fn transfer_locks(
        &self,
        _: Request<pb::TransferLocksRequest>,
    ) -> Result<Response<pb::TransferLocksResponse>, Status> {
        unserved("TransferLocks")
    }

    async fn replicate_lock(
        &self,
        _: Request<pb::ReplicateLockRequest>,
    ) -> Result<Response<pb::ReplicateLockResponse>, Status> {
        unserved("ReplicateLock")
    }

    async fn mount_register(
        &self,
        _: Request<pb::MountRegisterRequest>,
    ) -> Result<Response<pb::MountRegisterResponse>, Status> {
        unserved("MountRegister")
    }

    async fn mount_list(
        &self,
        _: Request<pb::MountListRequest>,
    ) -> Result<Response<pb::MountListResponse>, Status> {
        unserved("MountList")
    }
}
