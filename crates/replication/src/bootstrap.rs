// SPDX-License-Identifier: Apache-2.0
//! Becoming ready: found the cluster, join it by one transfer, or catch up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dulse_merge::change::MemberStep;
use dulse_proto::replication::SnapshotRequest;
use dulse_types::{ServerAddress, Vector};

use crate::table::Transfer;
use crate::{Inner, SILENT_MAX, convert, peer};

/// How often it is looked whether things have changed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The list of filers must have been the same for this long before one founds a cluster.
const SETTLED_FOR: Duration = Duration::from_millis(1500);

/// A transfer that brings nothing for this long is broken.
const TRANSFER_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Runs until this filer is ready, and says so.
pub(crate) async fn become_ready(inner: Arc<Inner>) {
    while convert::is_fresh(&inner) {
        match begin(&inner).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "joining the cluster failed; trying again");
                inner.table.set_transfer(None);
                inner
                    .ready
                    .send_replace(Some(format!("joining failed: {error}")));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    inner.begun.send_replace(true);
    catch_up(&inner).await;
    inner.ready.send_replace(None);
    tracing::info!("ready");
}

/// Tries to begin; false means there is nothing to begin with yet.
async fn begin(inner: &Arc<Inner>) -> Result<bool, String> {
    if inner.options.is_alone {
        return found(inner).await;
    }
    let answered = inner.table.answered();
    if let Some((address, ..)) = answered.iter().find(|(_, _, is_fresh, _)| !is_fresh) {
        return join(inner, address).await;
    }
    if is_founder(inner).await {
        found(inner).await
    } else {
        Ok(false)
    }
}

/// Whether this is the lowest of the filers that the master lists, all of them fresh.
async fn is_founder(inner: &Inner) -> bool {
    let mut listed = inner.options.listed.clone();
    let Some(list) = listed.borrow_and_update().clone() else {
        return false;
    };
    let own = &inner.options.address;
    let others: Vec<_> = list.iter().filter(|a| !a.is_same_server(own)).collect();
    if !list.iter().any(|address| address.is_same_server(own)) {
        return false;
    }
    // Anyone who joins the list meanwhile may have a history: look again.
    let is_changed = tokio::time::timeout(SETTLED_FOR, async {
        while listed.changed().await.is_ok() {
            if *listed.borrow_and_update() != Some(list.clone()) {
                return;
            }
        }
    });
    if is_changed.await.is_ok() {
        return false;
    }
    let are_fresh = inner
        .table
        .answered()
        .iter()
        .all(|(_, _, is_fresh, _)| *is_fresh);
    let are_settled = others.iter().all(|address| inner.table.is_settled(address));
    let is_lowest = others.iter().all(|address| own < *address);
    are_fresh && are_settled && is_lowest
}

async fn found(inner: &Inner) -> Result<bool, String> {
    let member = inner.origin();
    let address = inner.options.address.to_string();
    let founded = inner
        .store
        .member(MemberStep::Join { member, address })
        .await;
    founded.map_err(|e| e.to_string())?;
    tracing::info!(origin = %member, "founded a cluster");
    Ok(true)
}

/// Takes the whole state from one peer. ⚠ Nothing is written before it is here.
async fn join(inner: &Inner, address: &ServerAddress) -> Result<bool, String> {
    tracing::info!(%address, "fetching the whole state");
    inner
        .ready
        .send_replace(Some(format!("fetching the whole state from {address}")));
    let fail = |error: dulse_store::Error| error.to_string();
    let mut client = peer::connect(address).await?;
    let request = SnapshotRequest {
        joiner: inner.origin().0,
        address: inner.options.address.to_string(),
        group: inner.options.group.clone(),
    };
    let stream = client
        .snapshot(request)
        .await
        .map_err(|s| s.message().to_owned())?;
    let mut stream = stream.into_inner();
    inner.store.begin_import().await.map_err(fail)?;
    let mut progress = Transfer::default();
    let mut vector = Vector::new();
    let began = Instant::now();
    loop {
        let part = tokio::time::timeout(TRANSFER_SILENCE_MAX, stream.message()).await;
        let part = part.map_err(|_| "the transfer went silent".to_owned())?;
        let part = part.map_err(|s| s.message().to_owned())?;
        let Some(part) = part else {
            return Err("the transfer was cut short".to_owned());
        };
        if !part.vector.is_empty() {
            vector = convert::vector(&part.vector);
            progress.rows_total = part.rows_total;
        }
        progress.rows += part.rows.len() as u64;
        progress.bytes += part
            .rows
            .iter()
            .map(|row| (row.key.len() + row.value.len()) as u64)
            .sum::<u64>();
        let rows = part
            .rows
            .into_iter()
            .map(|row| (row.key, row.value))
            .collect();
        inner.store.import(rows).await.map_err(fail)?;
        inner.table.set_transfer(Some(progress));
        if part.is_last {
            break;
        }
    }
    inner.store.finish_import(vector).await.map_err(fail)?;
    inner.table.set_transfer(None);
    tracing::info!(
        rows = progress.rows,
        bytes = progress.bytes,
        seconds = began.elapsed().as_secs_f64(),
        "have the whole state"
    );
    Ok(true)
}

/// Waits until everything is here that the answering peers had; silent ones do not count.
async fn catch_up(inner: &Inner) {
    let began = Instant::now();
    loop {
        let has_all = {
            let applied = inner.store.shared().vector();
            let answered = inner.table.answered();
            let mut members = inner.store.shared().members().unwrap_or_default();
            members.retain(|(origin, row)| {
                *origin != inner.origin() && row.state == dulse_merge::MemberRow::MEMBER
            });
            let all_answered = members
                .iter()
                .all(|(origin, _)| answered.iter().any(|(_, other, ..)| other == origin));
            let is_level = answered
                .iter()
                .all(|(_, _, _, vector)| applied.includes(vector));
            let is_waited = inner.options.is_alone || began.elapsed() >= SILENT_MAX;
            (is_waited || all_answered) && is_level
        };
        if has_all || began.elapsed() >= SILENT_MAX * 6 {
            return;
        }
        inner
            .ready
            .send_replace(Some("catching up with the other filers".to_owned()));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
