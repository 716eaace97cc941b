// SPDX-License-Identifier: Apache-2.0
//! One list of HTTP requests, asked of our filer and of upstream's: the answers are
//! equal, but for the differences that `upstream_http/wanted.rs` gives reasons for.

#[path = "upstream_http/compare.rs"]
mod compare;
#[path = "upstream_http/requests.rs"]
mod requests;
#[path = "upstream_http/wanted.rs"]
mod wanted;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use compare::differences;
use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_tests::{Cluster, Upstream, Whose, free_port, raw, start_weed_filer, wait_for};
use requests::{Ask, requests};
use wanted::{EVERYTHING, WANTED};

async fn send(port: u16, ask: &Ask) -> Result<raw::Answer> {
    let headers: Vec<(&str, &str)> = ask
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    let answer = raw::ask(port, ask.method, &ask.path, &headers, &ask.body);
    answer
        .await
        .with_context(|| format!("{} at port {port}", ask.label))
}

#[tokio::test]
async fn answers_equal_upstreams_but_for_the_listed_differences() -> Result<()> {
    let upstream = Upstream::start(&["-saveToFilerLimit=0"]).await?;
    let ours = Cluster::start(&["redb"]).await?;
    let first = || async { ours.put(0, "/first", b"first".to_vec()).await.is_ok() };
    wait_for("a volume that takes writes", first).await?;
    let mut surprises = Vec::new();
    let mut seen = BTreeSet::new();
    for ask in requests() {
        let both = (
            send(upstream.filer_port, &ask).await,
            send(ours.filer_ports[0], &ask).await,
        );
        let (theirs, own) = match both {
            (Ok(theirs), Ok(own)) => (theirs, own),
            (theirs, own) => {
                for error in [theirs.err(), own.err()].into_iter().flatten() {
                    surprises.push(format!("{error:#}"));
                }
                continue;
            }
        };
        for difference in differences(&ask, &theirs, &own) {
            let listed = WANTED.iter().position(|w| {
                let (a, b) = (theirs.status.to_string(), own.status.to_string());
                w.ask == ask.label
                    && match w.field {
                        EVERYTHING => (a.as_str(), b.as_str()) == (w.upstream, w.ours),
                        field => {
                            field == difference.field
                                && difference.upstream.contains(w.upstream)
                                && difference.ours.contains(w.ours)
                        }
                    }
            });
            match listed {
                Some(at) => drop(seen.insert(at)),
                None => surprises.push(format!("{}\n    {difference}", ask.label)),
            }
        }
    }
    let stale = WANTED
        .iter()
        .enumerate()
        .filter(|(at, _)| !seen.contains(at));
    for (_, wanted) in stale {
        surprises.push(format!(
            "no longer differs: {} {}",
            wanted.ask, wanted.field
        ));
    }
    ensure!(
        surprises.is_empty(),
        "{} surprises:\n{}",
        surprises.len(),
        surprises.join("\n")
    );
    Ok(())
}

/// What upstream's filer wrote is read by ours from the same volume servers: sealed,
/// compressed, overlapping.
#[tokio::test]
async fn files_that_upstreams_filer_wrote_are_read_byte_by_byte() -> Result<()> {
    let ours = Cluster::start_beside(&["redb"], Whose::Upstreams, Whose::Upstreams).await?;
    let first = || async { ours.put(0, "/first", b"first".to_vec()).await.is_ok() };
    wait_for("a volume that takes writes", first).await?;
    let (clear, sealed) = (free_port()?, free_port()?);
    let master = ours.master_port;
    let _filers = [
        start_weed_filer(ours.dir.path(), clear, master, &["-maxMB=1"])?,
        start_weed_filer(
            ours.dir.path(),
            sealed,
            master,
            &["-maxMB=1", "-encryptVolumeData"],
        )?,
    ];
    let text: Vec<u8> = (0..400_000_u32)
        .flat_map(|i| format!("{i}\n").into_bytes())
        .collect();
    let noise: Vec<u8> = (0..2_500_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for port in [clear, sealed] {
        let up = || async { raw::ask(port, "GET", "/", &[], b"").await.is_ok() };
        wait_for("upstream's filer", up).await?;
        for (path, content) in [("/w/text.txt", &text), ("/w/noise.bin", &noise)] {
            let put = raw::ask(port, "PUT", path, &[], content).await?;
            ensure!(put.status == 201, "{}", put.text());
        }
        let mut overlaid = noise.clone();
        for (at, over) in [(1_000_000, &text[..100_000]), (1_048_000, &text[5..2000])] {
            if at == 1_000_000 {
                raw::ask(port, "PUT", "/w/over.bin", &[], &noise).await?;
            }
            let path = format!("/w/over.bin?offset={at}");
            let put = raw::ask(port, "PUT", &path, &[], over).await?;
            ensure!(put.status == 201, "{}", put.text());
            overlaid[at..at + over.len()].copy_from_slice(over);
        }
        let dir = format!("/from-{port}");
        let content = [
            ("text.txt", &text),
            ("noise.bin", &noise),
            ("over.bin", &overlaid),
        ];
        for (name, content) in content {
            adopt(&ours, port, &dir, name, port == sealed).await?;
            read_whole_and_in_parts(&ours, &format!("{dir}/{name}"), content).await?;
        }
    }
    Ok(())
}

/// Makes the entry of upstream's file at our filer.
async fn adopt(ours: &Cluster, port: u16, dir: &str, name: &str, is_sealed: bool) -> Result<()> {
    let address = format!("http://127.0.0.1:{}", port + 10_000);
    let mut theirs = SeaweedFilerClient::connect(address).await?;
    let found = theirs
        .lookup_directory_entry(pb::LookupDirectoryEntryRequest {
            directory: "/w".to_owned(),
            name: name.to_owned(),
        })
        .await?;
    let entry = found.into_inner().entry.context("no entry")?;
    let fields = entry.fields()?;
    ensure!(
        fields.chunks.len() > 2,
        "{name}: {} chunks",
        fields.chunks.len()
    );
    let are_sealed = fields.chunks.iter().all(|c| !c.cipher_key.is_empty());
    ensure!(are_sealed == is_sealed, "{name}: sealed {are_sealed}");
    let mut filer = ours.grpc(0).await?;
    let created = filer.create_entry(pb::CreateEntryRequest {
        directory: dir.to_owned(),
        entry: Some(entry),
        ..pb::CreateEntryRequest::default()
    });
    let error = created.await?.into_inner().error;
    ensure!(error.is_empty(), "{error}");
    Ok(())
}

async fn read_whole_and_in_parts(ours: &Cluster, path: &str, content: &[u8]) -> Result<()> {
    ensure!(
        ours.get(0, path).await?.as_deref() == Some(content),
        "{path}"
    );
    for (from, to) in [
        (0, 10),
        (999_990, 1_000_010),
        (1_048_570, 1_048_580),
        (1_047_000, 2_100_000),
    ] {
        let range = format!("bytes={from}-{}", to - 1);
        let part = raw::ask(ours.filer_ports[0], "GET", path, &[("Range", &range)], b"").await?;
        ensure!(part.status == 206, "{path} {range}: {}", part.status);
        ensure!(part.body == content[from..to], "{path} {range}");
    }
    Ok(())
}
