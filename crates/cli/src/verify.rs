// SPDX-License-Identifier: Apache-2.0
//! `dulse verify`: are all filers equal, and where not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use dulse_proto::status::filer_status_client::FilerStatusClient;
use dulse_proto::status::{DigestsRequest, DirectoryRowsRequest};
use dulse_types::ServerAddress;

use crate::status::{self, dial};

/// How long filers that are still catching up are waited for.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(10);

/// Most differing paths that are printed; the count is always whole.
const PATHS_SHOWN_MAX: usize = 1_000;

/// Arguments of `dulse verify`.
#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyArgs {
    /// The master, `host:port`
    #[arg(long, default_value = "127.0.0.1:9333")]
    pub(crate) master: ServerAddress,
    /// The filers' group
    #[arg(long, default_value = "")]
    pub(crate) filer_group: String,
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Compares all filers; true when they are equal. Differing paths are printed.
///
/// # Errors
///
/// When the master or a filer does not answer, or filers keep changing.
pub(crate) async fn verify(args: VerifyArgs) -> Result<bool> {
    let deadline = Instant::now() + CATCH_UP_TIME_MAX;
    loop {
        let cluster = status::cluster(&args.master, &args.filer_group).await?;
        if let Some((address, why)) = cluster.unreachable.first() {
            bail!("{address} does not answer: {why}");
        }
        if cluster.filers.is_empty() {
            bail!("the master lists no filer");
        }
        let is_level = cluster
            .filers
            .windows(2)
            .all(|w| w[0].vector == w[1].vector);
        if is_level || Instant::now() > deadline {
            let differing = differences(&cluster.filers).await?;
            if differing.is_empty() && is_level {
                println!("{} filers are equal", cluster.filers.len());
                return Ok(true);
            }
            if !is_level {
                println!("filers are still catching up or being written; compared as they are");
            }
            for path in differing.iter().take(PATHS_SHOWN_MAX) {
                println!("{path}");
            }
            println!("{} paths differ", differing.len());
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Paths at which any filer differs from the first.
async fn differences(filers: &[status::Filer]) -> Result<BTreeSet<String>> {
    let mut differing = BTreeSet::new();
    let Some((first, others)) = filers.split_first() else {
        return Ok(differing);
    };
    let base = directories(&first.address).await?;
    for other in others {
        let theirs = directories(&other.address).await?;
        for directory in different_keys(&base, &theirs) {
            let ours = rows(&first.address, &directory).await?;
            let rows = rows(&other.address, &directory).await?;
            for name in different_keys(&ours, &rows) {
                let directory = String::from_utf8_lossy(&directory);
                let slash = if directory.ends_with('/') { "" } else { "/" };
                differing.insert(format!(
                    "{directory}{slash}{}",
                    String::from_utf8_lossy(&name)
                ));
            }
        }
    }
    Ok(differing)
}

fn different_keys(a: &Rows, b: &Rows) -> BTreeSet<Vec<u8>> {
    let keys = a.keys().chain(b.keys());
    keys.filter(|key| a.get(*key) != b.get(*key))
        .cloned()
        .collect()
}

async fn directories(address: &str) -> Result<Rows> {
    let mut client = FilerStatusClient::new(dial(&address.parse()?).await?);
    let request = DigestsRequest {
        bucket_from: 0,
        bucket_until: 0,
    };
    let mut stream = client.digests(request).await?.into_inner();
    let mut out = Rows::new();
    while let Some(row) = stream.message().await? {
        let mut value = row.sum.to_vec();
        value.extend_from_slice(&row.count.to_be_bytes());
        out.insert(row.directory.to_vec(), value);
    }
    Ok(out)
}

async fn rows(address: &str, directory: &[u8]) -> Result<Rows> {
    let mut client = FilerStatusClient::new(dial(&address.parse()?).await?);
    let request = DirectoryRowsRequest {
        directory: directory.to_vec().into(),
    };
    let mut stream = client.directory_rows(request).await?.into_inner();
    let mut out = Rows::new();
    while let Some(row) = stream.message().await? {
        // Shadows share a name: their hashes are told apart by the identity behind it.
        let mut hashes = out.remove(row.name.as_ref()).unwrap_or_default();
        hashes.extend_from_slice(&row.identity);
        hashes.extend_from_slice(&row.hash);
        out.insert(row.name.to_vec(), hashes);
    }
    Ok(out)
}
