// SPDX-License-Identifier: Apache-2.0
//! Telling the master what is here: full lists, each pulse and at every change.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dulse_proto::master as pb;
use dulse_proto::master::seaweed_client::SeaweedClient;
use dulse_transport::{Dial, within};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::VolumeOptions;
use crate::store::{Store, Volume};

/// Full lists come at least this often.
const PULSE: Duration = Duration::from_secs(5);

/// How long one answer of a master may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause after a failed connection.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Slots where the disk's room is the limit.
const SLOT_BYTES: u64 = 1 << 30;

/// Runs until the server stops.
pub(crate) async fn keep(options: VolumeOptions, store: Arc<Store>, changed: Arc<Notify>) {
    loop {
        for master in &options.masters {
            let mut address = Some(master.grpc());
            while let Some(grpc) = address.take() {
                match follow(&grpc, &options, &store, &changed).await {
                    Ok(leader) => address = leader,
                    Err(error) => tracing::debug!(%grpc, %error, "the master does not answer"),
                }
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

/// Beats until the stream ends; gives the leader's address when it is another.
async fn follow(
    grpc: &str,
    options: &VolumeOptions,
    store: &Store,
    changed: &Notify,
) -> Result<Option<String>, tonic::Status> {
    let channel = options.transport.connect(grpc, Dial::within(PULSE)).await?;
    let mut master = SeaweedClient::new(channel);
    let (send, beats) = mpsc::channel(4);
    let _ = send.send(beat(options, store)).await;
    let began = within(
        ANSWER_TIME_MAX,
        master.send_heartbeat(ReceiverStream::new(beats)),
    );
    let mut answers = began.await?.into_inner();
    loop {
        tokio::select! {
            answer = answers.message() => {
                let Some(answer) = answer? else { return Ok(None) };
                if !answer.leader.is_empty()
                    && let Ok(leader) = answer.leader.parse::<dulse_types::ServerAddress>()
                    && leader.grpc() != grpc
                {
                    return Ok(Some(leader.grpc()));
                }
            }
            () = changed.notified() => {
                if send.send(beat(options, store)).await.is_err() { return Ok(None) }
            }
            () = tokio::time::sleep(PULSE) => {
                if send.send(beat(options, store)).await.is_err() { return Ok(None) }
                // Beats need not be answered. Whether somebody hears them is asked apart: a
                // machine that lost its power resets no connection.
                let asked = master.get_master_configuration(pb::GetMasterConfigurationRequest {});
                within(ANSWER_TIME_MAX, asked).await?;
            }
        }
    }
}

/// How many volumes this server takes: what it was told, or what fits on its disk.
pub(crate) fn max_volumes(options: &VolumeOptions, store: &Store) -> u32 {
    if options.max_volumes > 0 {
        return options.max_volumes;
    }
    let (_, free) = disk(store);
    let room = u32::try_from(free / SLOT_BYTES).unwrap_or(u32::MAX);
    room.saturating_add(store.all().len() as u32).max(8)
}

fn beat(options: &VolumeOptions, store: &Store) -> pb::Heartbeat {
    let (total, free) = disk(store);
    store.tidy(free);
    let volumes: Vec<_> = store.living().iter().map(|volume| report(volume)).collect();
    let max = max_volumes(options, store);
    let max_file_key = store
        .all()
        .iter()
        .map(|v| v.figures().max_key)
        .max()
        .unwrap_or(0);
    pb::Heartbeat {
        ip: options.address.host().to_owned(),
        port: options.address.port().into(),
        grpc_port: options.address.grpc_port().into(),
        public_url: options.address.http(),
        max_file_key,
        has_no_volumes: volumes.is_empty(),
        volumes,
        has_no_ec_shards: true,
        max_volume_counts: HashMap::from([(String::new(), max)]),
        location_uuids: vec![store.uuid.clone()],
        id: options.address.http(),
        disk_total_bytes: HashMap::from([(String::new(), total)]),
        disk_free_bytes: HashMap::from([(String::new(), free)]),
        ..pb::Heartbeat::default()
    }
}

fn disk(store: &Store) -> (u64, u64) {
    rustix::fs::statvfs(store.dir()).map_or((0, 0), |s| {
        (s.f_blocks * s.f_frsize, s.f_bavail * s.f_frsize)
    })
}

fn report(volume: &Volume) -> pb::VolumeInformationMessage {
    let figures = volume.figures();
    let [count, unit] = volume.kind.ttl;
    pb::VolumeInformationMessage {
        id: volume.kind.id,
        size: figures.size,
        collection: volume.kind.collection.clone(),
        file_count: figures.n_files,
        delete_count: figures.n_deleted,
        deleted_byte_count: figures.deleted_bytes,
        read_only: figures.is_read_only,
        replica_placement: volume.kind.replication.into(),
        version: 3,
        ttl: u32::from(count) << 8 | u32::from(unit),
        modified_at_second: i64::try_from(figures.modified_s).unwrap_or(0),
        ..pb::VolumeInformationMessage::default()
    }
}
