// SPDX-License-Identifier: Apache-2.0
//! Filers of which directories are in stores of their own: what they tell and refuse.

use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;

use crate::{Cluster, PATIENCE};

/// What is said of what would go from one store to another.
const ACROSS: &str = "nothing moves from one store to another";

/// Asks for a change that is refused; gives what is said.
async fn refused(request: reqwest::RequestBuilder) -> Result<String> {
    let answer = request.send().await?;
    ensure!(answer.status().is_client_error(), "{}", answer.status());
    Ok(answer.text().await?)
}

/// Paths that a filer tells of as new from a time on, up to one, with their times.
///
/// # Errors
///
/// When that one is not told of.
pub async fn told(
    cluster: &Cluster,
    filer: usize,
    since_ns: i64,
    last: &str,
) -> Result<Vec<(i64, String)>> {
    // Each is another client: a filer may not have seen yet that the one before is gone.
    static CLIENT: AtomicI32 = AtomicI32::new(1);
    let request = pb::SubscribeMetadataRequest {
        client_name: "who follows".to_owned(),
        client_id: CLIENT.fetch_add(1, Ordering::Relaxed),
        path_prefix: "/".to_owned(),
        since_ns,
        ..pb::SubscribeMetadataRequest::default()
    };
    let mut grpc = cluster.grpc(filer).await?;
    let mut stream = grpc.subscribe_metadata(request).await?.into_inner();
    let reading = async {
        let mut told = Vec::new();
        loop {
            let event = stream.message().await?.context("the stream ended")?;
            let Some(notification) = event.event_notification else {
                continue;
            };
            let Some(new) = notification.new_entry else {
                continue;
            };
            let dir = notification.new_parent_path.trim_end_matches('/');
            let path = format!("{dir}/{}", new.name());
            let is_last = path == last;
            told.push((event.ts_ns, path));
            if is_last {
                return anyhow::Ok(told);
            }
        }
    };
    let within = tokio::time::timeout(PATIENCE, reading).await;
    within.with_context(|| format!("nobody was told of {last}"))?
}

/// Paths of what was told.
#[must_use]
pub fn paths(told: &[(i64, String)]) -> Vec<&str> {
    told.iter().map(|(_, path)| path.as_str()).collect()
}

/// Demands that nothing moves from one place to another of these, and that `/tmp` stays.
///
/// # Errors
///
/// What was done, or another answer.
pub async fn nothing_crosses(cluster: &Cluster, across: &[(&str, &str)]) -> Result<()> {
    let stays = ("/tmp", "/t", "another store begins at /tmp");
    let across = across.iter().map(|(from, to)| (*from, *to, ACROSS));
    for (from, to, says) in across.chain([stays]) {
        let url = cluster.url(0, &format!("{to}?mv.from={from}"));
        let text = refused(cluster.http.post(url)).await?;
        ensure!(text.contains(says), "{from} to {to}: {text}");
    }
    let text = refused(cluster.http.delete(cluster.url(0, "/tmp?recursive=true"))).await?;
    ensure!(text.contains("another store begins at /tmp"), "{text}");
    Ok(())
}

/// Demands that a filer does not start that has no store of its own for `/tmp`, nor one that has
/// another database there.
///
/// # Errors
///
/// When one starts, or says something else.
pub async fn another_table_is_refused(
    cluster: &mut Cluster,
    plain: &Path,
    other: &Path,
) -> Result<()> {
    let odd = cluster.add_filer_on(plain, &[])?;
    let text = cluster.refusal(odd).await?;
    ensure!(
        text.contains("keeps what is in `/tmp` in the default store")
            && text.contains("This filer is the odd one"),
        "{text}"
    );
    let odd = cluster.add_filer_on(other, &[])?;
    let text = cluster.refusal(odd).await?;
    ensure!(text.contains("keeps it in redis2 (store id "), "{text}");
    Ok(())
}
