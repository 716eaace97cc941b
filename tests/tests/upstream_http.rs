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
use dulse_tests::{Cluster, Upstream, raw, wait_for};
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
