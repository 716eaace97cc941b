// SPDX-License-Identifier: Apache-2.0
//! The volume server over gRPC: what filer, master and deletion need.

use std::pin::Pin;
use std::sync::Arc;

use dulse_proto::volume as pb;
use dulse_proto::volume::volume_server_server::VolumeServer;
use dulse_types::FileId;
use futures::Stream;
use tokio::sync::Notify;
use tonic::{Request, Response, Status, Streaming};

use crate::store::{Kind, Store, VolumeError};

/// A boxed answer stream.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct VolumeService {
    pub(crate) store: Arc<Store>,
    /// Told when volumes came or went, so that the master hears at once.
    pub(crate) changed: Arc<Notify>,
}

fn unserved<T>(name: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!(
        "{name} is not served by this version"
    )))
}

fn refused(error: VolumeError) -> Status {
    match error {
        VolumeError::NoVolume(id) => Status::unknown(format!("not found volume id {id}")),
        other => Status::unknown(other.to_string()),
    }
}

pub(crate) fn replication(text: &str) -> Result<u8, Status> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| Status::unknown(format!("unexpected replication type: {text}")))
}

pub(crate) fn ttl(text: &str) -> Result<[u8; 2], Status> {
    if text.is_empty() {
        return Ok([0, 0]);
    }
    let bad = || Status::unknown(format!("unexpected ttl: {text}"));
    let (digits, unit) = match text.strip_suffix(|c: char| c.is_ascii_alphabetic()) {
        Some(digits) => (digits, text.as_bytes()[text.len() - 1]),
        None => (text, b'm'),
    };
    let unit = b"mhdwMy".iter().position(|u| *u == unit).ok_or_else(bad)?;
    Ok([digits.parse().map_err(|_| bad())?, unit as u8 + 1])
}

impl VolumeService {
    fn delete_one(&self, file_id: &str, skip_cookie: bool) -> (i32, String, u32) {
        let Ok(id) = file_id.parse::<FileId>() else {
            return (400, format!("`{file_id}` is no file id"), 0);
        };
        let cookie = (!skip_cookie).then_some(id.cookie);
        let deleted = self
            .store
            .volume(id.volume_id)
            .and_then(|v| v.delete(id.key, cookie));
        match deleted {
            Ok(size) => (202, String::new(), size),
            Err(VolumeError::NotFound) => (304, String::new(), 0),
            Err(error @ VolumeError::NoVolume(_)) => (404, error.to_string(), 0),
            Err(VolumeError::Cookie) => (400, "File Random Cookie does not match.".to_owned(), 0),
            Err(error) => (500, error.to_string(), 0),
        }
    }
}

#[tonic::async_trait]
impl VolumeServer for VolumeService {
    async fn batch_delete(
        &self,
        request: Request<pb::BatchDeleteRequest>,
    ) -> Result<Response<pb::BatchDeleteResponse>, Status> {
        let r = request.into_inner();
        let service = self.clone();
        let delete = move || {
            let results = r.file_ids.into_iter().map(|file_id| {
                let (status, error, size) = service.delete_one(&file_id, r.skip_cookie_check);
                pb::DeleteResult {
                    file_id,
                    status,
                    error,
                    size,
                    version: 3,
                }
            });
            results.collect()
        };
        let results = tokio::task::spawn_blocking(delete).await;
        let results = results.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(pb::BatchDeleteResponse { results }))
    }

    async fn allocate_volume(
        &self,
        request: Request<pb::AllocateVolumeRequest>,
    ) -> Result<Response<pb::AllocateVolumeResponse>, Status> {
        let r = request.into_inner();
        let kind = Kind {
            id: r.volume_id,
            collection: r.collection,
            replication: replication(&r.replication)?,
            ttl: ttl(&r.ttl)?,
        };
        self.store.allocate(kind).map_err(refused)?;
        self.changed.notify_one();
        Ok(Response::new(pb::AllocateVolumeResponse {}))
    }

    async fn volume_delete(
        &self,
        request: Request<pb::VolumeDeleteRequest>,
    ) -> Result<Response<pb::VolumeDeleteResponse>, Status> {
        let r = request.into_inner();
        if r.only_empty
            && self
                .store
                .volume(r.volume_id)
                .is_ok_and(|v| v.figures().n_files > 0)
        {
            return Err(Status::unknown("volume not empty"));
        }
        self.store.remove(r.volume_id);
        self.changed.notify_one();
        Ok(Response::new(pb::VolumeDeleteResponse {}))
    }

    async fn delete_collection(
        &self,
        request: Request<pb::DeleteCollectionRequest>,
    ) -> Result<Response<pb::DeleteCollectionResponse>, Status> {
        let name = request.into_inner().collection;
        for volume in self
            .store
            .all()
            .iter()
            .filter(|v| v.kind.collection == name)
        {
            self.store.remove(volume.kind.id);
        }
        self.changed.notify_one();
        Ok(Response::new(pb::DeleteCollectionResponse {}))
    }

    async fn volume_mark_readonly(
        &self,
        request: Request<pb::VolumeMarkReadonlyRequest>,
    ) -> Result<Response<pb::VolumeMarkReadonlyResponse>, Status> {
        let volume = self
            .store
            .volume(request.into_inner().volume_id)
            .map_err(refused)?;
        volume.set_read_only(Some("marked by an operator".to_owned()));
        self.changed.notify_one();
        Ok(Response::new(pb::VolumeMarkReadonlyResponse {}))
    }

    async fn volume_mark_writable(
        &self,
        request: Request<pb::VolumeMarkWritableRequest>,
    ) -> Result<Response<pb::VolumeMarkWritableResponse>, Status> {
        let volume = self
            .store
            .volume(request.into_inner().volume_id)
            .map_err(refused)?;
        volume.set_read_only(None);
        self.changed.notify_one();
        Ok(Response::new(pb::VolumeMarkWritableResponse {}))
    }

    async fn volume_status(
        &self,
        request: Request<pb::VolumeStatusRequest>,
    ) -> Result<Response<pb::VolumeStatusResponse>, Status> {
        let volume = self
            .store
            .volume(request.into_inner().volume_id)
            .map_err(refused)?;
        let figures = volume.figures();
        Ok(Response::new(pb::VolumeStatusResponse {
            is_read_only: figures.is_read_only,
            volume_size: figures.size,
            file_count: figures.n_files,
            file_deleted_count: figures.n_deleted,
        }))
    }

    async fn vacuum_volume_check(
        &self,
        request: Request<pb::VacuumVolumeCheckRequest>,
    ) -> Result<Response<pb::VacuumVolumeCheckResponse>, Status> {
        let volume = self
            .store
            .volume(request.into_inner().volume_id)
            .map_err(refused)?;
        let figures = volume.figures();
        let garbage_ratio = figures.deleted_bytes as f64 / figures.size.max(1) as f64;
        Ok(Response::new(pb::VacuumVolumeCheckResponse {
            garbage_ratio,
        }))
    }

    async fn ping(
        &self,
        request: Request<pb::PingRequest>,
    ) -> Result<Response<pb::PingResponse>, Status> {
        let target = request.into_inner().target;
        if !target.is_empty() {
            return Err(Status::invalid_argument(format!(
                "unknown ping target {target}"
            )));
        }
        let now = crate::now_ns();
        Ok(Response::new(pb::PingResponse {
            start_time_ns: now,
            remote_time_ns: now,
            stop_time_ns: crate::now_ns(),
        }))
    }

    type VacuumVolumeCompactStream = Answers<pb::VacuumVolumeCompactResponse>;

    async fn vacuum_volume_compact(
        &self,
        _: Request<pb::VacuumVolumeCompactRequest>,
    ) -> Result<Response<Self::VacuumVolumeCompactStream>, Status> {
        unserved("VacuumVolumeCompact")
    }

    async fn vacuum_volume_commit(
        &self,
        _: Request<pb::VacuumVolumeCommitRequest>,
    ) -> Result<Response<pb::VacuumVolumeCommitResponse>, Status> {
        unserved("VacuumVolumeCommit")
    }

    async fn vacuum_volume_cleanup(
        &self,
        _: Request<pb::VacuumVolumeCleanupRequest>,
    ) -> Result<Response<pb::VacuumVolumeCleanupResponse>, Status> {
        unserved("VacuumVolumeCleanup")
    }

    async fn volume_sync_status(
        &self,
        _: Request<pb::VolumeSyncStatusRequest>,
    ) -> Result<Response<pb::VolumeSyncStatusResponse>, Status> {
        unserved("VolumeSyncStatus")
    }

    type VolumeIncrementalCopyStream = Answers<pb::VolumeIncrementalCopyResponse>;

    async fn volume_incremental_copy(
        &self,
        _: Request<pb::VolumeIncrementalCopyRequest>,
    ) -> Result<Response<Self::VolumeIncrementalCopyStream>, Status> {
        unserved("VolumeIncrementalCopy")
    }

    async fn volume_mount(
        &self,
        _: Request<pb::VolumeMountRequest>,
    ) -> Result<Response<pb::VolumeMountResponse>, Status> {
        unserved("VolumeMount")
    }

    async fn volume_unmount(
        &self,
        _: Request<pb::VolumeUnmountRequest>,
    ) -> Result<Response<pb::VolumeUnmountResponse>, Status> {
        unserved("VolumeUnmount")
    }

    async fn volume_consolidate_index(
        &self,
        _: Request<pb::VolumeConsolidateIndexRequest>,
    ) -> Result<Response<pb::VolumeConsolidateIndexResponse>, Status> {
        unserved("VolumeConsolidateIndex")
    }

    async fn volume_configure(
        &self,
        _: Request<pb::VolumeConfigureRequest>,
    ) -> Result<Response<pb::VolumeConfigureResponse>, Status> {
        unserved("VolumeConfigure")
    }

    async fn get_state(
        &self,
        _: Request<pb::GetStateRequest>,
    ) -> Result<Response<pb::GetStateResponse>, Status> {
        unserved("GetState")
    }

    async fn set_state(
        &self,
        _: Request<pb::SetStateRequest>,
    ) -> Result<Response<pb::SetStateResponse>, Status> {
        unserved("SetState")
    }

    type VolumeCopyStream = Answers<pb::VolumeCopyResponse>;

    async fn volume_copy(
        &self,
        _: Request<pb::VolumeCopyRequest>,
    ) -> Result<Response<Self::VolumeCopyStream>, Status> {
        unserved("VolumeCopy")
    }

    async fn read_volume_file_status(
        &self,
        _: Request<pb::ReadVolumeFileStatusRequest>,
    ) -> Result<Response<pb::ReadVolumeFileStatusResponse>, Status> {
        unserved("ReadVolumeFileStatus")
    }

    type CopyFileStream = Answers<pb::CopyFileResponse>;

    async fn copy_file(
        &self,
        _: Request<pb::CopyFileRequest>,
    ) -> Result<Response<Self::CopyFileStream>, Status> {
        unserved("CopyFile")
    }

    async fn receive_file(
        &self,
        _: Request<Streaming<pb::ReceiveFileRequest>>,
    ) -> Result<Response<pb::ReceiveFileResponse>, Status> {
        unserved("ReceiveFile")
    }

    async fn read_needle_blob(
        &self,
        _: Request<pb::ReadNeedleBlobRequest>,
    ) -> Result<Response<pb::ReadNeedleBlobResponse>, Status> {
        unserved("ReadNeedleBlob")
    }

    async fn read_needle_meta(
        &self,
        _: Request<pb::ReadNeedleMetaRequest>,
    ) -> Result<Response<pb::ReadNeedleMetaResponse>, Status> {
        unserved("ReadNeedleMeta")
    }

    async fn write_needle_blob(
        &self,
        _: Request<pb::WriteNeedleBlobRequest>,
    ) -> Result<Response<pb::WriteNeedleBlobResponse>, Status> {
        unserved("WriteNeedleBlob")
    }

    type ReadAllNeedlesStream = Answers<pb::ReadAllNeedlesResponse>;

    async fn read_all_needles(
        &self,
        _: Request<pb::ReadAllNeedlesRequest>,
    ) -> Result<Response<Self::ReadAllNeedlesStream>, Status> {
        unserved("ReadAllNeedles")
    }

    type VolumeTailSenderStream = Answers<pb::VolumeTailSenderResponse>;

    async fn volume_tail_sender(
        &self,
        _: Request<pb::VolumeTailSenderRequest>,
    ) -> Result<Response<Self::VolumeTailSenderStream>, Status> {
        unserved("VolumeTailSender")
    }

    async fn volume_tail_receiver(
        &self,
        _: Request<pb::VolumeTailReceiverRequest>,
    ) -> Result<Response<pb::VolumeTailReceiverResponse>, Status> {
        unserved("VolumeTailReceiver")
    }

    async fn volume_ec_shards_generate(
        &self,
        _: Request<pb::VolumeEcShardsGenerateRequest>,
    ) -> Result<Response<pb::VolumeEcShardsGenerateResponse>, Status> {
        unserved("VolumeEcShardsGenerate")
    }

    async fn volume_ec_shards_rebuild(
        &self,
        _: Request<pb::VolumeEcShardsRebuildRequest>,
    ) -> Result<Response<pb::VolumeEcShardsRebuildResponse>, Status> {
        unserved("VolumeEcShardsRebuild")
    }

    async fn volume_ec_shards_copy(
        &self,
        _: Request<pb::VolumeEcShardsCopyRequest>,
    ) -> Result<Response<pb::VolumeEcShardsCopyResponse>, Status> {
        unserved("VolumeEcShardsCopy")
    }

    async fn volume_ec_shards_delete(
        &self,
        _: Request<pb::VolumeEcShardsDeleteRequest>,
    ) -> Result<Response<pb::VolumeEcShardsDeleteResponse>, Status> {
        unserved("VolumeEcShardsDelete")
    }

    async fn volume_ec_shards_mount(
        &self,
        _: Request<pb::VolumeEcShardsMountRequest>,
    ) -> Result<Response<pb::VolumeEcShardsMountResponse>, Status> {
        unserved("VolumeEcShardsMount")
    }

    async fn volume_ec_shards_unmount(
        &self,
        _: Request<pb::VolumeEcShardsUnmountRequest>,
    ) -> Result<Response<pb::VolumeEcShardsUnmountResponse>, Status> {
        unserved("VolumeEcShardsUnmount")
    }

    type VolumeEcShardReadStream = Answers<pb::VolumeEcShardReadResponse>;

    async fn volume_ec_shard_read(
        &self,
        _: Request<pb::VolumeEcShardReadRequest>,
    ) -> Result<Response<Self::VolumeEcShardReadStream>, Status> {
        unserved("VolumeEcShardRead")
    }

    async fn volume_ec_blob_delete(
        &self,
        _: Request<pb::VolumeEcBlobDeleteRequest>,
    ) -> Result<Response<pb::VolumeEcBlobDeleteResponse>, Status> {
        unserved("VolumeEcBlobDelete")
    }

    async fn volume_ec_shards_to_volume(
        &self,
        _: Request<pb::VolumeEcShardsToVolumeRequest>,
    ) -> Result<Response<pb::VolumeEcShardsToVolumeResponse>, Status> {
        unserved("VolumeEcShardsToVolume")
    }

    async fn volume_ec_shards_info(
        &self,
        _: Request<pb::VolumeEcShardsInfoRequest>,
    ) -> Result<Response<pb::VolumeEcShardsInfoResponse>, Status> {
        unserved("VolumeEcShardsInfo")
    }

    type VolumeTierMoveDatToRemoteStream = Answers<pb::VolumeTierMoveDatToRemoteResponse>;

    async fn volume_tier_move_dat_to_remote(
        &self,
        _: Request<pb::VolumeTierMoveDatToRemoteRequest>,
    ) -> Result<Response<Self::VolumeTierMoveDatToRemoteStream>, Status> {
        unserved("VolumeTierMoveDatToRemote")
    }

    type VolumeTierMoveDatFromRemoteStream = Answers<pb::VolumeTierMoveDatFromRemoteResponse>;

    async fn volume_tier_move_dat_from_remote(
        &self,
        _: Request<pb::VolumeTierMoveDatFromRemoteRequest>,
    ) -> Result<Response<Self::VolumeTierMoveDatFromRemoteStream>, Status> {
        unserved("VolumeTierMoveDatFromRemote")
    }

    async fn volume_server_status(
        &self,
        _: Request<pb::VolumeServerStatusRequest>,
    ) -> Result<Response<pb::VolumeServerStatusResponse>, Status> {
        unserved("VolumeServerStatus")
    }

    async fn volume_server_leave(
        &self,
        _: Request<pb::VolumeServerLeaveRequest>,
    ) -> Result<Response<pb::VolumeServerLeaveResponse>, Status> {
        unserved("VolumeServerLeave")
    }

    async fn fetch_and_write_needle(
        &self,
        _: Request<pb::FetchAndWriteNeedleRequest>,
    ) -> Result<Response<pb::FetchAndWriteNeedleResponse>, Status> {
        unserved("FetchAndWriteNeedle")
    }

    async fn scrub_volume(
        &self,
        _: Request<pb::ScrubVolumeRequest>,
    ) -> Result<Response<pb::ScrubVolumeResponse>, Status> {
        unserved("ScrubVolume")
    }

    async fn scrub_ec_volume(
        &self,
        _: Request<pb::ScrubEcVolumeRequest>,
    ) -> Result<Response<pb::ScrubEcVolumeResponse>, Status> {
        unserved("ScrubEcVolume")
    }

    type QueryStream = Answers<pb::QueriedStripe>;

    async fn query(
        &self,
        _: Request<pb::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        unserved("Query")
    }

    async fn volume_needle_status(
        &self,
        _: Request<pb::VolumeNeedleStatusRequest>,
    ) -> Result<Response<pb::VolumeNeedleStatusResponse>, Status> {
        unserved("VolumeNeedleStatus")
    }
}
