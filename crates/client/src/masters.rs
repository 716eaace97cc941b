// SPDX-License-Identifier: Apache-2.0
//! Asking masters.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dulse_proto::master::seaweed_client::SeaweedClient;
use dulse_proto::master::{GetMasterConfigurationRequest, ListClusterNodesRequest};
use dulse_transport::{Dial, MESSAGE_BYTES_MAX, Transport};
use dulse_types::ServerAddress;
use parking_lot::Mutex;
use tonic::Status;
use tonic::transport::Channel;

use crate::channels::Channels;

/// How long connecting may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How long one call may take: growing volumes takes ten seconds.
const CALL_TIME_MAX: Duration = Duration::from_secs(15);

/// Pause between two rounds over all masters.
const PAUSE: Duration = Duration::from_millis(200);

/// A client of one master.
pub type MasterClient = SeaweedClient<Channel>;

/// How a question is asked.
#[derive(Clone, Copy)]
pub struct Ask {
    /// How long masters are asked over and over; zero asks each once.
    pub budget: Duration,
    /// Whether asking again or elsewhere cannot help, as the request itself is refused.
    pub is_final: fn(&Status) -> bool,
}

impl Ask {
    /// Each master once.
    pub const ONCE: Self = Self {
        budget: Duration::ZERO,
        is_final: |_| false,
    };
}

/// The masters of a cluster.
pub struct Masters {
    listed: Vec<ServerAddress>,
    /// Index of the master that answered last.
    current: AtomicUsize,
    /// Named by a master as the leader, when it is none of those listed.
    leader: Mutex<Option<ServerAddress>>,
    channels: Channels,
}

impl Masters {
    /// Knows these masters; connects when it must.
    #[must_use]
    pub fn new(transport: Transport, masters: Vec<ServerAddress>) -> Self {
        let dial = Dial::within(CONNECT_TIME_MAX).calls_within(CALL_TIME_MAX);
        Self {
            listed: masters,
            current: AtomicUsize::new(0),
            leader: Mutex::default(),
            channels: Channels::new(transport, dial),
        }
    }

    /// Those that are configured.
    #[must_use]
    pub fn listed(&self) -> &[ServerAddress] {
        &self.listed
    }

    /// A channel to a master, kept.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when its address is none.
    pub fn channel(&self, master: &ServerAddress) -> Result<Channel, Status> {
        Ok(self.channels.to(&master.grpc())?)
    }

    /// Asks one master after the other, the last that answered first.
    ///
    /// One that says it is not the leader is asked who is, and that one is asked next.
    ///
    /// # Errors
    ///
    /// The last status, with the master's address before its text.
    pub async fn ask<T, F>(&self, ask: Ask, call: impl Fn(MasterClient) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let started = Instant::now();
        let mut last = Status::unavailable("no master is configured");
        loop {
            for _ in 0..=self.listed.len() {
                let Some((index, master)) = self.next() else {
                    break;
                };
                let answer = match self.client(&master) {
                    Ok(client) => call(client).await,
                    Err(status) => Err(status),
                };
                let status = match answer {
                    Ok(answer) => return Ok(answer),
                    Err(status) => status,
                };
                let text = format!("master {}: {}", master.http(), status.message());
                last = Status::new(status.code(), text);
                if (ask.is_final)(&status) {
                    return Err(last);
                }
                self.turn(index, &master, &status).await;
            }
            if started.elapsed() + PAUSE >= ask.budget {
                return Err(last);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn client(&self, master: &ServerAddress) -> Result<MasterClient, Status> {
        let client = SeaweedClient::new(self.channel(master)?);
        Ok(client
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// The leader if one was named, else the listed one whose turn it is.
    fn next(&self) -> Option<(usize, ServerAddress)> {
        let current = self.current.load(Ordering::Relaxed);
        if let Some(leader) = self.leader.lock().clone() {
            return Some((current, leader));
        }
        let index = current.checked_rem(self.listed.len())?;
        Some((current, self.listed[index].clone()))
    }

    /// Turns to another master after a failure.
    async fn turn(&self, index: usize, master: &ServerAddress, status: &Status) {
        let leader = match is_not_leader(status) {
            true => self.leader_by(master).await,
            false => None,
        };
        let leader = leader.filter(|leader| !leader.is_same_server(master));
        let listed = self.listed.iter();
        let known = leader.as_ref().and_then(|leader| {
            let mut indices = listed.enumerate().filter(|(_, m)| m.is_same_server(leader));
            indices.next().map(|(index, _)| index)
        });
        let next = known.unwrap_or_else(|| index.wrapping_add(1));
        self.current.store(next, Ordering::Relaxed);
        *self.leader.lock() = leader.filter(|_| known.is_none());
    }

    /// Who a master says leads.
    async fn leader_by(&self, master: &ServerAddress) -> Option<ServerAddress> {
        let mut client = self.client(master).ok()?;
        let request = GetMasterConfigurationRequest {};
        let answer = client.get_master_configuration(request).await.ok()?;
        answer.into_inner().leader.parse().ok()
    }
}

/// Upstream's followers say so in words (4.48).
fn is_not_leader(status: &Status) -> bool {
    let text = status.message().to_ascii_lowercase();
    text.contains("not current leader") || text.contains("not leader")
}

/// Addresses of the filers of a group that masters list, sorted.
///
/// # Errors
///
/// When no master answers.
pub async fn listed_filers(masters: &Masters, group: &str) -> Result<Vec<String>, Status> {
    let answer = masters.ask(Ask::ONCE, |mut master| async move {
        let request = ListClusterNodesRequest {
            client_type: "filer".to_owned(),
            filer_group: group.to_owned(),
            limit: 0,
        };
        master.list_cluster_nodes(request).await
    });
    let nodes = answer.await?.into_inner().cluster_nodes;
    let mut filers: Vec<_> = nodes.into_iter().map(|node| node.address).collect();
    filers.sort();
    Ok(filers)
}
