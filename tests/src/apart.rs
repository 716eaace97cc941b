// SPDX-License-Identifier: Apache-2.0
//! Two filers of which each works while the other one is dead.

use anyhow::Result;

use crate::Cluster;

/// What each filer does while the other one is dead; the second one does it later. Both are
/// ready afterwards, and need not have converged.
///
/// # Errors
///
/// Those of what they do, and when a filer does not come back.
pub async fn apart<A, B>(
    cluster: &mut Cluster,
    first: impl AsyncFn(&Cluster) -> Result<A>,
    second: impl AsyncFn(&Cluster) -> Result<B>,
) -> Result<()> {
    cluster.wait_converged().await?;
    cluster.filers[1].kill()?;
    first(cluster).await?;
    cluster.filers[0].kill()?;
    cluster.filers[1].restart()?;
    cluster.wait_ready(1).await?;
    second(cluster).await?;
    cluster.filers[0].restart()?;
    cluster.wait_ready(0).await
}
