// SPDX-License-Identifier: Apache-2.0
//! Taking in the whole state of another filer. ⚠ Nothing counts before all is here.

use std::sync::Arc;
use std::time::Instant;

use dulse_proto::replication::SnapshotRequest;
use dulse_types::Vector;

use crate::core::StreamId;
use crate::driver::Client;
use crate::{Inner, Transfer, convert};

/// Runs one transfer and tells the core how it ended.
pub(crate) async fn join(inner: Arc<Inner>, stream: StreamId, client: Client) {
    let began = Instant::now();
    let result = transfer(&inner, stream, client, began).await;
    let progress = inner.transfer.lock().take().unwrap_or_default();
    match &result {
        Ok(()) => tracing::info!(
            rows = progress.rows,
            bytes = progress.bytes,
            seconds = began.elapsed().as_secs_f64(),
            "have the whole state"
        ),
        Err(error) => tracing::warn!(%error, "joining the cluster failed; trying again"),
    }
    inner.core.lock().joined(inner.now(), stream, result);
    inner.wake.notify_one();
}

async fn transfer(
    inner: &Inner,
    stream: StreamId,
    mut client: Client,
    began: Instant,
) -> Result<(), String> {
    let fail = |error: dulse_store::Error| error.to_string();
    let said = |status: tonic::Status| status.message().to_owned();
    let request = SnapshotRequest {
        joiner: inner.origin().0,
        address: inner.options.address.to_string(),
        group: inner.options.group.clone(),
    };
    tracing::info!("fetching the whole state");
    let mut parts = client.snapshot(request).await.map_err(said)?.into_inner();
    inner.store.begin_import().await.map_err(fail)?;
    let mut progress = Transfer::default();
    let mut vector = Vector::new();
    loop {
        let part = parts.message().await.map_err(said)?;
        let Some(part) = part else {
            return Err("the transfer was cut short".to_owned());
        };
        if !part.vector.is_empty() {
            vector = convert::vector(&part.vector);
            progress.rows_total = part.rows_total;
        }
        progress.rows += part.rows.len() as u64;
        let bytes = part
            .rows
            .iter()
            .map(|row| (row.key.len() + row.value.len()) as u64);
        progress.bytes += bytes.sum::<u64>();
        progress.seconds = began.elapsed().as_secs_f64();
        let rows = part
            .rows
            .into_iter()
            .map(|row| (row.key, row.value))
            .collect();
        inner.store.import(rows).await.map_err(fail)?;
        if !part.kept.is_empty() {
            inner.store.import_kept(part.kept).await.map_err(fail)?;
        }
        *inner.transfer.lock() = Some(progress);
        inner.core.lock().progressed(inner.now(), stream);
        if part.is_last {
            break;
        }
    }
    if vector.is_empty() {
        return Err("the transfer came without a vector".to_owned());
    }
    inner.store.finish_import(vector).await.map_err(fail)
}
