// SPDX-License-Identifier: Apache-2.0
//! `dulse status`: what every filer says of itself, and whether they agree.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use dulse_client::Masters;
use dulse_proto::status::filer_status_client::FilerStatusClient;
use dulse_proto::status::{Component, StatusReply, StatusRequest};
use dulse_transport::Dial;
use dulse_types::{Origin, ServerAddress};
use serde::Serialize;
use tonic::transport::Channel;

use crate::edges;

/// How long one server may take to answer.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Arguments of `dulse status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArgs {
    /// The master, `host:port`
    #[arg(long, default_value = "127.0.0.1:9333")]
    pub(crate) master: ServerAddress,
    /// The filers' group
    #[arg(long, default_value = "")]
    pub(crate) filer_group: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// One filer's answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Filer {
    pub(crate) address: String,
    pub(crate) origin: String,
    pub(crate) engine: String,
    pub(crate) ready: bool,
    pub(crate) not_ready_reason: String,
    pub(crate) vector: Vec<(String, i64)>,
    pub(crate) digest: String,
    pub(crate) entries: u64,
    pub(crate) changes_applied: u64,
    pub(crate) garbage_chunks: u64,
    pub(crate) peers: Vec<Peer>,
}

/// One peer as a filer sees it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) origin: String,
    pub(crate) state: String,
    pub(crate) lag_changes: u64,
    pub(crate) lag_seconds: f64,
    pub(crate) last_error: String,
}

/// The answers of all filers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Cluster {
    /// All filers answered, are ready, have equal vectors and equal digests.
    pub(crate) converged: bool,
    pub(crate) filers: Vec<Filer>,
    /// Listed by the master but without an answer: address and why.
    pub(crate) unreachable: Vec<(String, String)>,
}

impl Filer {
    /// The greatest lag behind any peer, in changes.
    pub(crate) fn lag_changes(&self) -> u64 {
        self.peers.iter().map(|p| p.lag_changes).max().unwrap_or(0)
    }

    /// The greatest lag behind any peer, in seconds.
    pub(crate) fn lag_seconds(&self) -> f64 {
        self.peers.iter().map(|p| p.lag_seconds).fold(0.0, f64::max)
    }

    fn of(reply: StatusReply) -> Self {
        let hex = |origin: u64| Origin(origin).to_string();
        let vector = reply
            .vector
            .iter()
            .map(|Component { origin, stamp }| (hex(*origin), *stamp));
        let peers = reply.peers.into_iter().map(|p| Peer {
            address: p.address,
            origin: hex(p.origin),
            state: p.state,
            lag_changes: p.lag_changes,
            lag_seconds: p.lag_seconds,
            last_error: p.last_error,
        });
        Self {
            address: reply.address,
            origin: hex(reply.origin),
            engine: reply.engine,
            ready: reply.ready,
            not_ready_reason: reply.not_ready_reason,
            vector: vector.collect(),
            digest: reply.digest.iter().map(|b| format!("{b:02x}")).collect(),
            entries: reply.entries,
            changes_applied: reply.changes_applied,
            garbage_chunks: reply.garbage_chunks,
            peers: peers.collect(),
        }
    }
}

/// Asks one filer; `address` is its HTTP address or the full form.
///
/// # Errors
///
/// When it does not answer in [`ANSWER_TIME_MAX`].
pub(crate) async fn ask(address: &str) -> Result<Filer> {
    let address: ServerAddress = address.parse()?;
    let mut client = FilerStatusClient::new(dial(&address).await?);
    let asked = client.status(StatusRequest {});
    let reply = tokio::time::timeout(ANSWER_TIME_MAX, asked)
        .await
        .context("no answer")??;
    Ok(Filer::of(reply.into_inner()))
}

/// A connection to a server's gRPC port.
///
/// # Errors
///
/// When it cannot be made in [`ANSWER_TIME_MAX`].
pub(crate) async fn dial(address: &ServerAddress) -> Result<Channel> {
    let dial = Dial::within(ANSWER_TIME_MAX);
    Ok(edges::client()?.connect(&address.grpc(), dial).await?)
}

/// The filers that the master lists.
///
/// # Errors
///
/// When the master does not answer.
pub(crate) async fn filers(master: &ServerAddress, group: &str) -> Result<Vec<String>> {
    let masters = Masters::new(edges::client()?.clone(), vec![master.clone()]);
    let listed = dulse_client::listed_filers(&masters, group).await;
    listed.map_err(|status| anyhow::anyhow!("{}", status.message()))
}

/// Asks every filer that the master lists.
///
/// # Errors
///
/// When the master does not answer.
pub(crate) async fn cluster(master: &ServerAddress, group: &str) -> Result<Cluster> {
    let addresses = filers(master, group).await?;
    let asked = addresses
        .iter()
        .map(|address| async move { (address, ask(address).await) });
    let mut answers = Vec::new();
    let mut unreachable = Vec::new();
    for (address, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(filer) => answers.push(filer),
            Err(error) => unreachable.push((address.clone(), format!("{error:#}"))),
        }
    }
    let is_alike = answers
        .windows(2)
        .all(|w| w[0].vector == w[1].vector && w[0].digest == w[1].digest);
    let converged = unreachable.is_empty()
        && !answers.is_empty()
        && is_alike
        && answers.iter().all(|f| f.ready);
    Ok(Cluster {
        converged,
        filers: answers,
        unreachable,
    })
}

/// Prints the state of the cluster.
///
/// # Errors
///
/// When the master does not answer.
pub(crate) async fn status(args: StatusArgs) -> Result<()> {
    let cluster = cluster(&args.master, &args.filer_group).await?;
    if args.format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&cluster)?);
        return Ok(());
    }
    for filer in &cluster.filers {
        print_filer(filer);
    }
    for (address, why) in &cluster.unreachable {
        println!("{address}  does not answer: {why}");
    }
    println!("converged: {}", cluster.converged);
    Ok(())
}

fn print_filer(filer: &Filer) {
    let ready = if filer.ready {
        "ready".to_owned()
    } else {
        format!("not ready ({})", filer.not_ready_reason)
    };
    println!(
        "{}  origin {}  {}  {ready}",
        filer.address, filer.origin, filer.engine
    );
    println!("  {} entries, digest {}", filer.entries, filer.digest);
    let vector: Vec<_> = filer
        .vector
        .iter()
        .map(|(o, s)| format!("{o}:{s}"))
        .collect();
    println!("  vector {}", vector.join(" "));
    for peer in &filer.peers {
        let error = if peer.last_error.is_empty() {
            String::new()
        } else {
            format!(", {}", peer.last_error)
        };
        println!(
            "  peer {} {} {}: lag {} changes, {:.3} s{error}",
            peer.address, peer.origin, peer.state, peer.lag_changes, peer.lag_seconds
        );
    }
}
