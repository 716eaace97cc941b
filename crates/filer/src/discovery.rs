// SPDX-License-Identifier: Apache-2.0
//! Who else is there: this filer reports to the master and asks for the list.
//!
//! Level-triggered: the whole list is asked for on every connect, at every message of
//! the stream, and periodically; a lost message costs two seconds, never a peer.

use std::time::Duration;

use dulse_proto::master::seaweed_client::SeaweedClient;
use dulse_proto::master::{KeepConnectedRequest, ListClusterNodesRequest};
use dulse_replication::Listing;
use dulse_types::ServerAddress;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::state::FilerOptions;

/// The list is asked for at least this often.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Pause after a failed connection.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// How long connecting and one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// The filers that the master lists; `None` until one has answered.
pub(crate) type Listed = watch::Receiver<Option<Listing>>;

/// Starts reporting and asking; the list stays as it was while no master answers.
pub(crate) fn start(options: &FilerOptions) -> (JoinHandle<()>, Listed) {
    let (send, listed) = watch::channel(None);
    let options = options.clone();
    let task = tokio::spawn(async move {
        loop {
            for master in &options.masters {
                if let Err(error) = follow(master, &options, &send).await {
                    tracing::debug!(%master, %error, "the master does not answer");
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
            if options.masters.is_empty() {
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
    });
    (task, listed)
}

/// Has a master remember a member of the cluster.
pub(crate) fn report(options: &FilerOptions) -> dulse_replication::Report {
    let _ = options;
    std::sync::Arc::new(|_, _| Box::pin(async { Ok(()) }))
}

async fn follow(
    master: &ServerAddress,
    options: &FilerOptions,
    send: &watch::Sender<Option<Listing>>,
) -> Result<(), tonic::Status> {
    let endpoint = Endpoint::from_shared(format!("http://{}", master.grpc()))
        .map_err(|e| tonic::Status::invalid_argument(e.to_string()))?
        .connect_timeout(ANSWER_TIME_MAX)
        .http2_keep_alive_interval(Duration::from_secs(60));
    let channel = endpoint
        .connect()
        .await
        .map_err(|e| tonic::Status::unavailable(e.to_string()))?;
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
    let mut stream = client.keep_connected(requests).await?.into_inner();
    let first = stream.message().await?;
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
        ask(&mut client, options, send).await?;
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

async fn ask(
    client: &mut SeaweedClient<Channel>,
    options: &FilerOptions,
    send: &watch::Sender<Option<Listing>>,
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
        known_members: Vec::new(),
    };
    send.send_if_modified(|known| {
        let is_new = known.as_ref() != Some(&listing);
        *known = Some(listing);
        is_new
    });
    Ok(())
}
