// SPDX-License-Identifier: Apache-2.0
//! The same operations against upstream's filer and ours, through the same client: answers,
//! resulting trees and event streams compared.
//!
//! Written cases name what they are about; random ones come from a seed, which a failure
//! prints (`DULSE_SEED=… cargo test -p dulse-tests --test upstream_differential`). Where the
//! two differ and should, [`known::DIFFERENCES`] says so and why; an entry there that no
//! longer holds is a failure, too.

#[path = "differential/cases.rs"]
mod cases;
#[path = "differential/known.rs"]
mod known;
#[path = "differential/op.rs"]
mod op;
#[path = "differential/random.rs"]
mod random;
#[path = "differential/seen.rs"]
mod seen;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_tests::{Cluster, Role, Whose, free_port, wait_for, weed};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use op::Op;

/// A filer as this test uses it.
type Filer = SeaweedFilerClient<Channel>;

/// Operations in a directory of their own.
pub(crate) struct Case {
    name: String,
    ops: Vec<Op>,
}

/// Everything seen of one case at one filer.
#[derive(Default)]
struct Seen {
    answers: Vec<String>,
    tree: Vec<String>,
    events: Vec<String>,
}

/// The directory whose creation ends the comparison.
const END: &str = "end-of-the-comparison";

/// Upstream's filer with its own master and volume server.
struct Upstream {
    _cluster: Cluster,
    _filer: Role,
    grpc_port: u16,
}

async fn upstream() -> Result<Upstream> {
    let cluster = Cluster::start_beside(&[], Whose::Upstreams, Whose::Upstreams).await?;
    let port = free_port()?;
    let dir = cluster.dir.path().join("weed-filer");
    std::fs::create_dir_all(&dir)?;
    let arguments = vec![
        "filer".to_owned(),
        "-ip=127.0.0.1".to_owned(),
        "-ip.bind=127.0.0.1".to_owned(),
        format!("-port={port}"),
        format!("-master=127.0.0.1:{}", cluster.master_port),
        format!("-defaultStoreDir={}", dir.display()),
    ];
    let filer = Role::start_program(weed()?, arguments)?;
    let grpc_port = port + 10_000;
    let answers = || async {
        let Ok(mut client) = connect(grpc_port).await else {
            return false;
        };
        let asked = pb::GetFilerConfigurationRequest::default();
        client.get_filer_configuration(asked).await.is_ok()
    };
    wait_for("upstream's filer", answers).await?;
    Ok(Upstream {
        _cluster: cluster,
        _filer: filer,
        grpc_port,
    })
}

async fn connect(grpc_port: u16) -> Result<Filer> {
    let client = SeaweedFilerClient::connect(format!("http://127.0.0.1:{grpc_port}")).await?;
    Ok(client.max_decoding_message_size(1 << 30))
}

/// Runs all cases at one filer.
async fn run(mut filer: Filer, cases: &[Case]) -> Result<BTreeMap<String, Seen>> {
    let asked = pb::GetFilerConfigurationRequest::default();
    let configuration = filer.get_filer_configuration(asked).await?.into_inner();
    let events = follow(filer.clone(), configuration.signature);
    let mut all = BTreeMap::new();
    for case in cases {
        let mut seen = Seen::default();
        for (at, op) in case.ops.iter().enumerate() {
            let answer = op.run(&mut filer, &case.name).await;
            seen.answers.push(format!("{at} {op:?} -> {answer}"));
        }
        seen.tree = seen::tree(&mut filer, &format!("/{}", case.name)).await?;
        all.insert(case.name.clone(), seen);
    }
    Op::mkdir("").run(&mut filer, END).await;
    let patience = dulse_tests::PATIENCE;
    let events = tokio::time::timeout(patience, events).await;
    for (case, event) in events.context("the end of the events")??? {
        if let Some(seen) = all.get_mut(&case) {
            seen.events.push(event);
        }
    }
    Ok(all)
}

/// Every event from now to the end of the comparison, with the case it belongs to.
fn follow(mut filer: Filer, own: i32) -> JoinHandle<Result<Vec<(String, String)>>> {
    let request = pb::SubscribeMetadataRequest {
        client_name: "differential".to_owned(),
        client_id: 4_711,
        path_prefix: "/".to_owned(),
        since_ns: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as i64),
        ..pb::SubscribeMetadataRequest::default()
    };
    tokio::spawn(async move {
        let mut stream = filer.subscribe_metadata(request).await?.into_inner();
        let (mut all, mut last) = (Vec::new(), 0);
        while let Some(event) = stream.message().await? {
            let Some(shown) = seen::event(&event, own) else {
                continue;
            };
            if event.ts_ns <= last {
                bail!("ts_ns {} after {last}", event.ts_ns);
            }
            last = event.ts_ns;
            if shown.0 == END {
                return Ok(all);
            }
            all.push(shown);
        }
        bail!("the stream of events ended")
    })
}

/// What differs and is not known to, and what is known to differ and does not.
fn compare(theirs: &BTreeMap<String, Seen>, ours: &BTreeMap<String, Seen>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (case, a) in theirs {
        let b = &ours[case];
        for (aspect, a, b) in [
            ("answers", &a.answers, &b.answers),
            ("tree", &a.tree, &b.tree),
            ("events", &a.events, &b.events),
        ] {
            let known = known::DIFFERENCES
                .iter()
                .find(|known| known.case == case && known.aspect == aspect);
            match known {
                None if a != b => wrong.push(format!("{case}: {aspect}\n{}", lines(a, b))),
                Some(known) if a == b => {
                    wrong.push(format!("{case}: {aspect} no longer differ: {}", known.why));
                }
                _ => {}
            }
        }
    }
    wrong
}

/// Only what differs, line by line.
fn lines(a: &[String], b: &[String]) -> String {
    let mut out = String::new();
    for at in 0..a.len().max(b.len()) {
        let (a, b) = (a.get(at), b.get(at));
        if a != b {
            let none = "(nothing)".to_owned();
            let (a, b) = (a.unwrap_or(&none), b.unwrap_or(&none));
            out.push_str(&format!("    upstream: {a}\n    ours:     {b}\n"));
        }
    }
    out
}

#[tokio::test]
async fn our_filer_does_what_upstreams_does() -> Result<()> {
    let seed = std::env::var("DULSE_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut cases = cases::all();
    cases.extend(random::cases(seed));
    let n_ops: usize = cases.iter().map(|case| case.ops.len()).sum();
    println!("{} cases, {n_ops} operations, seed {seed}", cases.len());
    let upstream = upstream().await?;
    let cluster = Cluster::start(&["redb"]).await?;
    let theirs = run(connect(upstream.grpc_port).await?, &cases).await;
    let theirs = theirs.context("upstream's filer")?;
    let ours = run(cluster.grpc(0).await?, &cases).await;
    let wrong = compare(&theirs, &ours.context("our filer")?);
    if !wrong.is_empty() {
        bail!(
            "seed {seed}: {} differences\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
    Ok(())
}
