// SPDX-License-Identifier: Apache-2.0
//! Asks the master who is there, and every filer how it is.
//!
//! Who is there is more than whom the master lists now: it also remembers members, and
//! filers know their peers. A filer that is down is one that only they know.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dulse_proto::cluster::KnownMembersRequest;
use dulse_proto::cluster::cluster_client::ClusterClient;
use dulse_proto::filer::GetFilerConfigurationRequest;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_proto::master::{ListClusterNodesRequest, seaweed_client::SeaweedClient};
use dulse_proto::status::StatusRequest;
use dulse_proto::status::filer_status_client::FilerStatusClient;
use dulse_transport::Dial;
use dulse_types::ServerAddress;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tonic::transport::Channel;

use crate::edges;

use super::report::{Cluster, Filer, Foreign, Missing, name};

/// A filer that was heard of late is given this much at least.
const ANSWER_TIME_MIN: Duration = Duration::from_millis(300);

/// A filer that somebody knows.
#[derive(Clone, PartialEq, Debug)]
struct Known {
    address: ServerAddress,
    /// Empty where only the address is known.
    origin: String,
}

/// Asks a master and every filer that it lists, remembers, or that a filer knows.
///
/// # Errors
///
/// When no master answers by `until`.
pub(crate) async fn cluster(
    masters: &[ServerAddress],
    group: &str,
    until: Instant,
) -> Result<Cluster> {
    let mut known = of_masters(masters, group, until).await?;
    let mut said = Said::default();
    said.ask_all(&known, until).await;
    let told = told_by(&said.filers, &known);
    known.extend(told.iter().cloned());
    said.ask_all(&told, until).await;
    let Said {
        mut filers,
        foreign,
        mut missing,
    } = said;
    // One that moved answers at its new address.
    missing.retain(|m| m.origin.is_empty() || !filers.iter().any(|f| f.origin == m.origin));
    filers.sort_by(|a, b| a.address.cmp(&b.address));
    Ok(Cluster::new(filers, foreign, missing))
}

/// What one filer answers.
enum Answer {
    Ours(Box<Filer>),
    Upstreams(Foreign),
}

/// Asks one filer; `address` is its HTTP address or the full form.
///
/// # Errors
///
/// When it does not answer by `until`.
pub(crate) async fn filer(address: &ServerAddress, until: Instant) -> Result<Filer> {
    match any_filer(address, until).await? {
        Answer::Ours(filer) => Ok(*filer),
        Answer::Upstreams(_) => anyhow::bail!("it is upstream's filer, which has no such status"),
    }
}

async fn any_filer(address: &ServerAddress, until: Instant) -> Result<Answer> {
    let said = |status: tonic::Status| anyhow::anyhow!("{}", status.message().to_owned());
    let asked = async {
        let channel = dial(address).await?;
        let mut client = FilerStatusClient::new(channel.clone());
        match client.status(StatusRequest {}).await {
            Ok(reply) => Ok(Answer::Ours(Box::new(Filer::of(reply.into_inner())))),
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                let mut client = SeaweedFilerClient::new(channel);
                let asked = client.get_filer_configuration(GetFilerConfigurationRequest {});
                let reply = asked.await.map_err(said)?.into_inner();
                Ok(Answer::Upstreams(Foreign {
                    address: address.to_string(),
                    version: reply.version,
                    store_id: reply.signature,
                }))
            }
            Err(status) => Err(said(status)),
        }
    };
    let answer = tokio::time::timeout_at(until.into(), asked).await;
    answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")))
}

/// A connection to a server's gRPC port.
///
/// # Errors
///
/// When it cannot be made.
pub(crate) async fn dial(address: &ServerAddress) -> Result<Channel> {
    // The caller's time is over before this.
    let dial = Dial::within(super::ANSWER_TIME_MAX);
    Ok(edges::client()?.connect(&address.grpc(), dial).await?)
}

/// What was answered, and who did not.
#[derive(Default)]
struct Said {
    filers: Vec<Filer>,
    foreign: Vec<Foreign>,
    missing: Vec<Missing>,
}

impl Said {
    async fn ask_all(&mut self, known: &[Known], until: Instant) {
        let until = until.max(Instant::now() + ANSWER_TIME_MIN);
        let asked = known.iter().map(|k| any_filer(&k.address, until));
        for (known, answer) in known.iter().zip(futures::future::join_all(asked).await) {
            match answer {
                Ok(Answer::Ours(filer)) => self.filers.push(*filer),
                Ok(Answer::Upstreams(foreign)) => self.foreign.push(foreign),
                Err(error) => self.missing.push(Missing {
                    address: known.address.to_string(),
                    origin: known.origin.clone(),
                    error: format!("{error:#}"),
                }),
            }
        }
    }
}

/// What the first of the masters says that knows anybody. All are asked at once: one whose
/// machine is off would use up the time. One that knows nobody, as one that does not lead may,
/// counts when no other one answers.
async fn of_masters(masters: &[ServerAddress], group: &str, until: Instant) -> Result<Vec<Known>> {
    let asked = masters.iter().map(|master| async move {
        let known = tokio::time::timeout_at(until.into(), of_master(master, group)).await;
        let known = known.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
        known.with_context(|| format!("the master {} does not answer", master.http()))
    });
    let mut answers: FuturesUnordered<_> = asked.collect();
    let (mut is_answered, mut failure) = (false, None);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(known) if !known.is_empty() => return Ok(known),
            Ok(_) => is_answered = true,
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if !is_answered => Err(error),
        _ => Ok(Vec::new()),
    }
}

/// Whom the master lists and whom it remembers.
async fn of_master(master: &ServerAddress, group: &str) -> Result<Vec<Known>> {
    let channel = dial(master).await?;
    let request = ListClusterNodesRequest {
        client_type: "filer".to_owned(),
        filer_group: group.to_owned(),
        limit: 0,
    };
    let said = |status: tonic::Status| anyhow::anyhow!("{}", status.message());
    let mut client = SeaweedClient::new(channel.clone());
    let listed = client.list_cluster_nodes(request);
    let listed = listed.await.map_err(said)?.into_inner().cluster_nodes;
    let group = group.to_owned();
    let mut client = ClusterClient::new(channel);
    let asked = client.known_members(KnownMembersRequest { group });
    let members = match asked.await {
        Ok(reply) => reply.into_inner().members,
        // Upstream's master remembers nobody.
        Err(status) if status.code() == tonic::Code::Unimplemented => Vec::new(),
        Err(status) => return Err(said(status)),
    };
    let mut known: Vec<Known> = Vec::new();
    let members = members.into_iter().map(|m| (m.address, name(m.origin)));
    let listed = listed.into_iter().map(|n| (n.address, String::new()));
    for (address, origin) in members.chain(listed) {
        add(&mut known, &address, origin);
    }
    Ok(known)
}

/// The filers that only other filers know.
fn told_by(answers: &[Filer], known: &[Known]) -> Vec<Known> {
    let mut all = known.to_vec();
    let peers = answers.iter().flat_map(|f| &f.peers);
    for peer in peers.filter(|p| !answers.iter().any(|f| f.origin == p.origin)) {
        add(&mut all, &peer.address, peer.origin.clone());
    }
    all.split_off(known.len())
}

/// Adds a filer unless its address is there; what is no address is left out.
fn add(known: &mut Vec<Known>, address: &str, origin: String) {
    if let Ok(address) = address.parse::<ServerAddress>()
        && !known.iter().any(|k| k.address.is_same_server(&address))
    {
        known.push(Known { address, origin });
    }
}
