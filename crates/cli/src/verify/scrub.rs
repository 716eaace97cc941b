// SPDX-License-Identifier: Apache-2.0
//! `dulse verify --scrub`: a pass over all that a filer stores, now.

use anyhow::{Context, Result, bail};
use dulse_proto::status::ScrubRequest;
use dulse_proto::status::filer_status_client::FilerStatusClient;
use dulse_types::ServerAddress;

use crate::status::ask;

/// Runs one pass at one filer and waits; true when nothing damaged is left.
///
/// # Errors
///
/// When the filer does not answer, or stops before the end.
pub(super) async fn scrub(address: &ServerAddress) -> Result<bool> {
    let said = || format!("look through the store of {address}");
    let mut client = FilerStatusClient::new(ask::dial(address).await?);
    let answer = client.scrub(ScrubRequest {}).await;
    let mut progress = answer
        .map_err(|status| anyhow::anyhow!("{}", status.message()))
        .with_context(said)?
        .into_inner();
    let mut last = None;
    while let Some(now) = progress.message().await.with_context(said)? {
        if now.is_running {
            eprintln!(
                "{address}: {} rows of about {} entries looked at",
                now.rows, now.entries
            );
        }
        last = Some(now);
    }
    let Some(last) = last.filter(|last| !last.is_running) else {
        bail!("the filer {address} stopped before it had looked through its store");
    };
    println!(
        "{address}: {} rows looked at, {} places damaged, {} not repaired",
        last.rows, last.found, last.unrepaired
    );
    Ok(last.unrepaired == 0)
}
