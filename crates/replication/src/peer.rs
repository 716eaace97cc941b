// SPDX-License-Identifier: Apache-2.0
//! One peer: meet it, pull its changes, fetch through it what others had.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_proto::replication::replication_client::ReplicationClient;
use dulse_proto::replication::{Heartbeat, PullRequest};
use dulse_replica::Applied;
use dulse_types::{Origin, ServerAddress};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::table::PeerState;
use crate::{Inner, RETRY_DELAY, convert};

/// How long connecting and a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(3);

/// A stream that says nothing for this long is broken: heartbeats come each 200 ms.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// An origin whose own stream is quiet for this long is fetched through others.
const RELAY_AFTER: Duration = Duration::from_secs(2);

/// Most bytes of one message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// HTTP/2 windows, so that one connection fills a long line.
const WINDOW_BYTES: u32 = 16 << 20;

pub(crate) type Client = ReplicationClient<Channel>;

/// Why a peer's stream ended.
enum Ended {
    /// The connection; tried again soon.
    Broken(String),
    /// Nothing to try: it does not speak our protocol.
    Foreign,
    /// It may not replicate with us.
    Refused(String),
    /// One of its changes cannot be applied; tried again, never skipped.
    Stuck(String),
    /// It is ourselves under another address.
    Ourselves,
}

/// Keeps a peer's changes coming for as long as this filer runs.
pub(crate) async fn keep(inner: Arc<Inner>, address: ServerAddress) {
    let mut was_foreign = false;
    loop {
        let (state, error) = match stream(&inner, &address).await {
            Ended::Broken(error) => (PeerState::Connecting, error),
            Ended::Refused(error) => (PeerState::Refused, error),
            Ended::Stuck(error) => (PeerState::Stuck, error),
            Ended::Ourselves => return,
            Ended::Foreign => {
                if !was_foreign {
                    tracing::warn!(%address, "this filer does not speak dulse's protocol: its \
                        changes are not replicated");
                }
                was_foreign = true;
                (PeerState::Foreign, String::new())
            }
        };
        if state == PeerState::Stuck {
            tracing::error!(%address, %error, "a change cannot be applied; its filer waits");
            metrics::counter!("dulse_replication_stuck_total").increment(1);
        }
        inner.table.set(&address, state, &error);
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

pub(crate) async fn connect(address: &ServerAddress) -> Result<Client, String> {
    let endpoint = Endpoint::from_shared(format!("http://{}", address.grpc()))
        .map_err(|e| e.to_string())?
        .connect_timeout(HANDSHAKE_TIME_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .tcp_nodelay(true);
    let channel = endpoint
        .connect()
        .await
        .map_err(|e| format!("connect: {e}"))?;
    Ok(ReplicationClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

async fn stream(inner: &Arc<Inner>, address: &ServerAddress) -> Ended {
    let mut client = match connect(address).await {
        Ok(client) => client,
        Err(error) => return Ended::Broken(error),
    };
    let greeting = client.handshake(convert::hello(inner));
    let theirs = match tokio::time::timeout(HANDSHAKE_TIME_MAX, greeting).await {
        Err(_) => return Ended::Broken("no answer to the handshake".to_owned()),
        Ok(Err(status)) => return refused(&status),
        Ok(Ok(theirs)) => theirs.into_inner(),
    };
    if let Some(why) = convert::mismatch(inner, &theirs) {
        return Ended::Refused(why);
    }
    let origin = Origin(theirs.origin);
    if origin == inner.origin() {
        return Ended::Ourselves;
    }
    inner.table.met(
        address,
        origin,
        convert::vector(&theirs.vector),
        theirs.is_fresh,
    );
    // Nothing is applied before this filer has its own beginning: a snapshot or founding.
    // Until then peers are asked again and again, for one of them may have begun.
    if !*inner.begun.borrow() {
        return Ended::Broken("this filer has not begun yet".to_owned());
    }
    pull(inner, address, client, origin).await
}

fn refused(status: &Status) -> Ended {
    match status.code() {
        Code::Unimplemented => Ended::Foreign,
        Code::FailedPrecondition => Ended::Refused(status.message().to_owned()),
        _ => Ended::Broken(status.message().to_owned()),
    }
}

async fn pull(
    inner: &Arc<Inner>,
    address: &ServerAddress,
    mut client: Client,
    origin: Origin,
) -> Ended {
    let request = PullRequest {
        puller: inner.origin().0,
        origin: origin.0,
        after: inner.store.shared().vector().get(origin).0,
        is_once: false,
        group: inner.options.group.clone(),
    };
    let mut stream = match client.pull(request).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return refused(&status),
    };
    inner.table.set(address, PeerState::Streaming, "");
    loop {
        let batch = match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
            Err(_) => return Ended::Broken("the stream went silent".to_owned()),
            Ok(Err(status)) => return refused(&status),
            Ok(Ok(None)) => return Ended::Broken("the stream ended".to_owned()),
            Ok(Ok(Some(batch))) => batch,
        };
        if let Err(ended) = take_in(inner, batch.changes).await {
            return ended;
        }
        if let Some(beat) = batch.heartbeat {
            inner.table.heard(address, &beat);
            if let Err(ended) = relay(inner, &mut client, origin, &beat).await {
                return ended;
            }
        }
    }
}

/// Applies a batch; a change that cannot be applied stops the stream, never is skipped.
async fn take_in(inner: &Inner, changes: Vec<Bytes>) -> Result<(), Ended> {
    if changes.is_empty() {
        return Ok(());
    }
    let count = changes.len() as u64;
    let applied = inner.store.apply_remote(changes).await;
    let applied = applied.map_err(|error| Ended::Broken(error.to_string()))?;
    metrics::counter!("dulse_replication_changes_total").increment(count);
    for result in applied {
        match result {
            Applied::Now | Applied::Already => {}
            Applied::Hole { have, prev } => {
                return Err(Ended::Broken(format!(
                    "changes between {have} and {prev} are missing; they come through others"
                )));
            }
            Applied::Undecodable(error) => return Err(Ended::Stuck(error.to_string())),
            Applied::Refused { cut } => {
                return Err(Ended::Refused(format!("this filer was cut at {cut}")));
            }
        }
    }
    Ok(())
}

/// Fetches through this peer what it has of origins whose own streams do not move.
async fn relay(
    inner: &Inner,
    client: &mut Client,
    peer: Origin,
    beat: &Heartbeat,
) -> Result<(), Ended> {
    for (origin, stamp) in convert::vector(&beat.durable).iter() {
        if origin == peer || origin == inner.origin() {
            continue;
        }
        let have = inner.store.shared().vector().get(origin);
        if stamp <= have || inner.table.is_streaming(origin, RELAY_AFTER) {
            continue;
        }
        let request = PullRequest {
            puller: inner.origin().0,
            origin: origin.0,
            after: have.0,
            is_once: true,
            group: inner.options.group.clone(),
        };
        let stream = client.pull(request).await;
        let mut stream = stream.map_err(|status| refused(&status))?.into_inner();
        while let Some(batch) = stream.message().await.map_err(|status| refused(&status))? {
            take_in(inner, batch.changes).await?;
        }
        tracing::info!(%origin, through = %peer, "fetched another filer's changes");
    }
    Ok(())
}
