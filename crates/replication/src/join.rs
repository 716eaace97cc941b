// SPDX-License-Identifier: Apache-2.0
//! Taking in the whole state of another filer. ⚠ Nothing counts before all is here.

use std::sync::Arc;
use std::time::Instant;

use dulse_proto::replication::{SnapshotPart, SnapshotRequest};

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
    let cursor = inner.store.shared().import_cursor().map_err(fail)?;
    let request = SnapshotRequest {
        joiner: inner.origin().0,
        address: inner.options.address.to_string(),
        group: inner.options.group.clone(),
        resume: cursor.as_ref().map(convert::resume),
    };
    tracing::info!(is_resumed = cursor.is_some(), "fetching the whole state");
    let mut parts = client.snapshot(request).await.map_err(said)?.into_inner();
    let mut progress = Transfer::default();
    let mut has_begun = false;
    loop {
        let part = parts.message().await.map_err(said)?;
        let Some(mut part) = part else {
            return Err("the transfer was cut short".to_owned());
        };
        if !has_begun {
            begin(inner, &part).await?;
            progress.rows_total = part.rows_total;
            has_begun = true;
        }
        progress.rows += part.rows.len() as u64;
        let bytes = part
            .rows
            .iter()
            .map(|row| (row.key.len() + row.value.len()) as u64);
        progress.bytes += bytes.sum::<u64>();
        progress.seconds = began.elapsed().as_secs_f64();
        let rows = convert::import_part(&mut part);
        if !rows.is_empty() {
            inner.store.import(rows).await.map_err(fail)?;
        }
        if !part.kept.is_empty() {
            inner.store.import_kept(part.kept).await.map_err(fail)?;
        }
        *inner.transfer.lock() = Some(progress);
        inner.core.lock().progressed(inner.now(), stream);
        if part.is_last {
            break;
        }
    }
    inner.store.finish_import().await.map_err(fail)
}

/// The first part says of which state the rows are, and whether they go on those that are here.
async fn begin(inner: &Inner, first: &SnapshotPart) -> Result<(), String> {
    let vector = convert::vector(&first.vector);
    if vector.is_empty() {
        return Err("the transfer came without a vector".to_owned());
    }
    let begun = if first.is_resumed {
        inner.store.resume_import(vector).await
    } else {
        inner.store.begin_import(vector).await
    };
    begun.map_err(|error| error.to_string())
}
