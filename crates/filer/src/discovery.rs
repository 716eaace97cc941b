// SPDX-License-Identifier: Apache-2.0
//! Who else is there: this filer reports to the master and asks for the list.
//!
//! Level-triggered: the whole list is asked for on every connect, at every message of
//! the stream, and periodically; a lost message costs two seconds, never a peer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dulse_merge::MemberRow;
use dulse_proto::cluster::cluster_client::ClusterClient;
use dulse_proto::cluster::{
    Founding, KnownMembersReply, KnownMembersRequest, Member, ReportMembersRequest,
};
use dulse_proto::master::seaweed_client::SeaweedClient;
use dulse_proto::master::{KeepConnectedRequest, ListClusterNodesRequest};
use dulse_replica::ReplicaStore;
use dulse_replication::core::ROUND_TRIP_MAX;
use dulse_replication::{Listing, MasterTime};
use dulse_transport::{Dial, within};
use dulse_types::{Origin, ServerAddress};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::state::FilerOptions;

/// The list is asked for at least this often.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Pause after a failed connection.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// How long connecting and one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The filers that the master lists; `None` until one has answered.
pub(crate) type Listed = watch::Receiver<Option<Listing>>;

/// What a master's clock said last.
pub(crate) type Time = watch::Receiver<Option<MasterTime>>;

/// What the master said.
struct Said {
    listing: watch::Sender<Option<Listing>>,
    time: watch::Sender<Option<MasterTime>>,
}

/// Starts reporting and asking; the list stays as it was while no master answers.
///
/// - `store`: whose members the master remembers, where there are members.
pub(crate) fn start(
    options: &FilerOptions,
    store: Option<Arc<ReplicaStore>>,
) -> (JoinHandle<()>, Listed, Time) {
    let ((listing, listed), (time, told)) = (watch::channel(None), watch::channel(None));
    let said = Said { listing, time };
    let options = options.clone();
    let task = tokio::spawn(async move {
        loop {
            for master in &options.masters {
                if let Err(error) = follow(master, &options, store.as_deref(), &said).await {
                    tracing::debug!(%master, %error, "the master does not answer");
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
            if options.masters.is_empty() {
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
    });
    (task, listed, told)
}

/// Has a master remember a member of the cluster. Upstream's master remembers none; then
/// nothing keeps a filer without a history from founding a second cluster.
pub(crate) fn report(options: &FilerOptions) -> dulse_replication::Report {
    let options = Arc::new(options.clone());
    Arc::new(move |origin, address, beside| {
        let options = Arc::clone(&options);
        Box::pin(async move {
            let mut last = "no master is configured".to_owned();
            for master in &options.masters {
                let member = (origin, address.clone());
                match report_founder(master, &options, member, &beside).await {
                    Ok(()) => return Ok(()),
                    Err(error) => last = format!("{master}: {}", error.message()),
                }
            }
            Err(format!(
                "the founder must be remembered by a master: {last}"
            ))
        })
    })
}

async fn report_founder(
    master: &ServerAddress,
    options: &FilerOptions,
    founder: (Origin, ServerAddress),
    beside: &[Origin],
) -> Result<(), tonic::Status> {
    let mut client = ClusterClient::new(connect(master, options).await?);
    let founding = Founding {
        beside: beside.iter().map(|origin| origin.0).collect(),
    };
    report_over(&mut client, &options.group, &[founder], &[], Some(founding)).await
}

async fn report_over(
    client: &mut ClusterClient<Channel>,
    group: &str,
    members: &[(Origin, ServerAddress)],
    gone: &[Origin],
    founding: Option<Founding>,
) -> Result<(), tonic::Status> {
    let mut request = tonic::Request::new(ReportMembersRequest {
        group: group.to_owned(),
        members: members
            .iter()
            .map(|(origin, address)| Member {
                origin: origin.0,
                address: address.to_string(),
            })
            .collect(),
        gone: gone.iter().map(|origin| origin.0).collect(),
        founding,
    });
    request.set_timeout(ANSWER_TIME_MAX);
    match client.report_members(request).await {
        Err(status) if status.code() != tonic::Code::Unimplemented => Err(status),
        _ => Ok(()),
    }
}

async fn connect(master: &ServerAddress, options: &FilerOptions) -> Result<Channel, tonic::Status> {
    let dial = Dial::within(ANSWER_TIME_MAX);
    Ok(options.transport.connect(&master.grpc(), dial).await?)
}

async fn follow(
    master: &ServerAddress,
    options: &FilerOptions,
    store: Option<&ReplicaStore>,
    said: &Said,
) -> Result<(), tonic::Status> {
    let channel = connect(master, options).await?;
    let mut cluster = ClusterClient::new(channel.clone());
    let mut client = SeaweedClient::new(channel);
    let hello = KeepConnectedRequest {
        client_type: "filer".to_owned(),
        client_address: options.address.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        filer_group: options.group.clone(),
        ..KeepConnectedRequest::default()
    };
    // The stream of requests stays open; its end would end the registration.
    let (keep, requests) = tokio::sync::mpsc::channel(1);
    let _ = keep.send(hello).await;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut stream = within(ANSWER_TIME_MAX, client.keep_connected(requests))
        .await?
        .into_inner();
    let first = within(ANSWER_TIME_MAX, stream.message()).await?;
    if let Some(leader) = first.and_then(|m| m.volume_location).map(|l| l.leader)
        && !leader.is_empty()
        && leader
            .parse()
            .is_ok_and(|l: ServerAddress| !l.is_same_server(master))
    {
        return Err(tonic::Status::unavailable(format!(
            "the leader is {leader}"
        )));
    }
    loop {
        let remembered = said
            .listing
            .borrow()
            .as_ref()
            .map(|l| l.known_members.clone());
        let remembered = remembered.unwrap_or_default();
        // Filers on a shared store have no cluster of members.
        if let Some(store) = store {
            let reporting = report_self(&mut cluster, options, store, &remembered);
            within(ANSWER_TIME_MAX, reporting).await?;
        }
        within(
            ANSWER_TIME_MAX,
            ask(&mut client, &mut cluster, options, said),
        )
        .await?;
        match tokio::time::timeout(ASK_EVERY, stream.message()).await {
            Ok(message) => {
                if message?.is_none() {
                    return Ok(());
                }
            }
            Err(_elapsed) => {}
        }
    }
}

/// Has the master remember this filer, where it is now, once the log names it a member, and
/// forget those that are members no more.
async fn report_self(
    cluster: &mut ClusterClient<Channel>,
    options: &FilerOptions,
    store: &ReplicaStore,
    remembered: &[(Origin, ServerAddress)],
) -> Result<(), tonic::Status> {
    let members = store.shared().members();
    let members = members.map_err(|e| tonic::Status::internal(e.to_string()))?;
    let own = store.shared().origin();
    let is_member = |row: &MemberRow| row.state == MemberRow::MEMBER;
    if !members.iter().any(|(o, row)| *o == own && is_member(row)) {
        return Ok(());
    }
    let gone = members.iter().filter(|(_, row)| !is_member(row));
    let gone = gone.map(|(origin, _)| *origin);
    let gone: Vec<Origin> = gone
        .filter(|gone| remembered.iter().any(|(origin, _)| origin == gone))
        .collect();
    let own = (own, options.address.clone());
    report_over(cluster, &options.group, &[own], &gone, None).await
}

async fn known_members(
    cluster: &mut ClusterClient<Channel>,
    options: &FilerOptions,
    said: &Said,
) -> Result<Vec<(Origin, ServerAddress)>, tonic::Status> {
    let request = KnownMembersRequest {
        group: options.group.clone(),
    };
    let asked = Instant::now();
    let members = match cluster.known_members(request).await {
        Ok(reply) => {
            let KnownMembersReply { members, now_ns } = reply.into_inner();
            if asked.elapsed() <= ROUND_TRIP_MAX {
                said.time.send_replace(Some(MasterTime { asked, now_ns }));
            }
            members
        }
        Err(status) if status.code() == tonic::Code::Unimplemented => Vec::new(),
        Err(status) => return Err(status),
    };
    let parsed = members
        .into_iter()
        .filter_map(|m| Some((Origin(m.origin), m.address.parse().ok()?)));
    Ok(parsed.collect())
}

async fn ask(
    client: &mut SeaweedClient<Channel>,
    cluster: &mut ClusterClient<Channel>,
    options: &FilerOptions,
    said: &Said,
) -> Result<(), tonic::Status> {
    let request = ListClusterNodesRequest {
        client_type: "filer".to_owned(),
        filer_group: options.group.clone(),
        limit: 0,
    };
    let reply = client.list_cluster_nodes(request).await?.into_inner();
    let mut filers: Vec<ServerAddress> = reply
        .cluster_nodes
        .iter()
        .filter_map(|node| node.address.parse().ok())
        .collect();
    filers.sort();
    filers.dedup();
    let listing = Listing {
        filers,
        known_members: known_members(cluster, options, said).await?,
    };
    said.listing.send_if_modified(|known| {
        let is_new = known.as_ref() != Some(&listing);
        *known = Some(listing);
        is_new
    });
    Ok(())
}
