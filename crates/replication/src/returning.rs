// SPDX-License-Identifier: Apache-2.0
//! Taking a new origin, and making anew what only this store had.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dulse_merge::Change;
use dulse_proto::replication::PullRequest;
use dulse_replica::Renewal;
use dulse_types::Stamp;

use crate::driver::Client;
use crate::{Inner, metrics};

/// How often it is looked whether the state has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Pause after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// How long a peer may take to tell where the logs parted.
const ASK_TIME_MAX: Duration = Duration::from_secs(10);

/// Prepares the store for a new origin and has the process start again.
pub(crate) async fn renew(
    inner: Arc<Inner>,
    mut renewal: Renewal,
    behind: Option<(Stamp, Option<Client>)>,
    why: &'static str,
) {
    let own = inner.origin();
    let known = &mut renewal.known;
    tracing::error!(%own, %known, %why, "this store takes a new origin");
    if let Some((behind, Some(client))) = behind
        && let Some(common) = parted(&inner, client, behind).await
    {
        known.set(
            own,
            known.get(own).map_or(common, |known| common.min(known)),
        );
    }
    let result = inner.store.renew(renewal).await;
    if let Ok(n_items) = &result {
        tracing::warn!(n_items, "set aside what nobody else has");
        metrics::RENEWED.add(1);
        inner.renewed.send_replace(true);
    }
    let result = result.map(drop).map_err(|error| error.to_string());
    inner.core.lock().renewed(inner.now(), result);
    inner.wake.notify_one();
}

/// Where the peer's log of this store parted from the own one, which ends at `behind`.
async fn parted(inner: &Inner, mut client: Client, behind: Stamp) -> Option<Stamp> {
    let own = inner.origin().0;
    let request = PullRequest {
        puller: own,
        origin: own,
        after: behind.0,
        is_once: true,
        group: inner.options.group.clone(),
        instance: 0,
    };
    let first = async {
        let mut batches = client.pull(request).await.ok()?.into_inner();
        let batch = batches.message().await.ok()??;
        Change::decode(batch.changes.first()?).ok()
    };
    let first = tokio::time::timeout(ASK_TIME_MAX, first).await.ok()??;
    (first.prev < behind).then_some(first.prev)
}

/// Makes anew what only this store had, once it has the state; until then it is not ready.
pub(crate) async fn make_anew(inner: Arc<Inner>) {
    let mut stop = inner.stop.subscribe();
    let mut pause = LOOK_EVERY;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        pause = LOOK_EVERY;
        let has_state = inner.core.lock().not_ready().is_none();
        if !has_state || inner.store.shared().is_fresh() {
            continue;
        }
        let former = inner.store.shared().former();
        let now = inner.now();
        let in_use = former.map(|former| inner.with(|core, view| core.in_use(now, view, &former)));
        let in_use = match in_use {
            Ok(Some(in_use)) => in_use,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, "what this store was before cannot be read; trying again");
                pause = RETRY_DELAY;
                continue;
            }
        };
        match inner.store.reissue(in_use).await {
            Ok(done) => {
                for (outcome, count) in [
                    ("made", done.n_made),
                    ("there", done.n_there),
                    ("conflict", done.n_conflicts),
                ] {
                    metrics::REISSUED
                        .counter(&[("outcome", outcome)])
                        .increment(count);
                }
                if done.n_made + done.n_there + done.n_conflicts > 0 {
                    tracing::warn!(?done, "made anew what only this store had");
                }
                if !done.has_more {
                    inner.is_returning.store(false, Ordering::Relaxed);
                    inner.wake.notify_one();
                    return;
                }
                pause = Duration::ZERO;
            }
            Err(error) => {
                tracing::warn!(%error, "making anew what only this store had failed; trying again");
                pause = RETRY_DELAY;
            }
        }
    }
}
