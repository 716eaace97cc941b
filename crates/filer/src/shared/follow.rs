// SPDX-License-Identifier: Apache-2.0
//! Hears what the other filers of the group announce: one task for each.

use std::sync::Arc;
use std::time::Duration;

use dulse_proto::announcements as pb;
use dulse_proto::announcements::announcements_client::AnnouncementsClient;
use dulse_replication::Listing;
use dulse_transport::{Dial, MESSAGE_BYTES_MAX, within};
use dulse_types::{Origin, ServerAddress, Stamp};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::OnShared;
use super::gathered::Heard;
use super::others::State;
use super::topology::{self, Who};
use super::upstream;

/// How long connecting and one answer may take.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// A filer says something at least every half second: one that is silent for this long is dialed
/// anew.
const SILENT_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause before one that broke off is dialed again.
const RETRY_DELAY: Duration = Duration::from_millis(300);

/// The same for one that does not fit.
const STRANGER_DELAY: Duration = Duration::from_secs(10);

/// Follows everybody whom the master lists, until the filer stops.
pub(super) async fn all(on: Arc<OnShared>, mut listed: watch::Receiver<Option<Listing>>) {
    loop {
        let listing = listed.borrow_and_update().clone();
        if let Some(listing) = listing {
            for address in &listing.filers {
                on.introduce(address);
            }
            on.others.listed();
        }
        if listed.changed().await.is_err() {
            return;
        }
    }
}

/// Follows one filer until it is gone for good.
pub(super) async fn one(on: Arc<OnShared>, address: ServerAddress) {
    loop {
        let (state, pause, error) = match once(&on, &address).await {
            Ok(()) => (State::Connecting, RETRY_DELAY, String::new()),
            Err(Failed::Broken(error)) => (State::Connecting, RETRY_DELAY, error),
            Err(Failed::Foreign(error)) => (State::Foreign, STRANGER_DELAY, error),
            Err(Failed::Misfit(error)) => (State::Misfit, STRANGER_DELAY, error),
        };
        tracing::debug!(%address, state = state.as_str(), error, "a filer is not followed now");
        on.others.ended(&address, state, &error);
        tokio::time::sleep(pause).await;
        if on.others.forget(&address, on.is_listed(&address)) {
            on.followed.lock().remove(&address.http());
            return;
        }
    }
}

/// Why a filer is not followed.
pub(super) enum Failed {
    /// It will be, when it answers.
    Broken(String),
    /// It does not announce anything in our protocol.
    Foreign(String),
    /// It is on another store.
    Misfit(String),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unimplemented => Self::Foreign(status.message().to_owned()),
            Code::FailedPrecondition => Self::Misfit(status.message().to_owned()),
            _ => Self::Broken(status.message().to_owned()),
        }
    }
}

impl From<dulse_store::Error> for Failed {
    fn from(error: dulse_store::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Hears one filer until it breaks off.
async fn once(on: &Arc<OnShared>, address: &ServerAddress) -> Result<(), Failed> {
    let dial = Dial::within(ANSWER_TIME_MAX);
    let channel = on.transport.connect(&address.grpc(), dial).await;
    let channel = channel.map_err(|e| Failed::Broken(e.to_string()))?;
    let mut client = AnnouncementsClient::new(channel.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let theirs = match within(ANSWER_TIME_MAX, client.greet(on.hello())).await {
        Err(status) if status.code() == Code::Unimplemented => {
            return upstream::once(on, address, channel).await;
        }
        theirs => theirs?.into_inner(),
    };
    if let Some(why) = topology::misfit(&on.who(), &Who::of(&theirs)) {
        return Err(Failed::Misfit(why));
    }
    let origin = Origin(theirs.origin);
    if origin == on.origin() {
        let text = "it has this filer's journal: a copied directory; give it one of its own";
        return Err(Failed::Misfit(text.to_owned()));
    }
    on.others.met(address, origin);
    let after = on.gathered.lasts().get(origin);
    let request = pb::FollowRequest {
        who: Some(on.hello()),
        after: after.0,
        is_first: after == Stamp::ZERO,
    };
    let stream = within(ANSWER_TIME_MAX, client.follow(request)).await?;
    let mut stream = stream.into_inner();
    tracing::info!(%address, %origin, "follows the announcements of another filer on this store");
    while let Some(told) = within(SILENT_TIME_MAX, stream.message()).await? {
        let is_leaving = told.is_leaving;
        take(on, address, origin, told).await?;
        if is_leaving {
            on.others.ended(address, State::Left, "");
        }
    }
    Ok(())
}

/// Takes one message in.
async fn take(
    on: &Arc<OnShared>,
    address: &ServerAddress,
    origin: Origin,
    told: pb::Told,
) -> Result<(), Failed> {
    let behind = Stamp(told.begins_behind);
    let last = told.announcements.last().map(|one| Stamp(one.stamp));
    // Order: first, what this filer promises rises at once: subscribers elsewhere wait for it.
    on.saw(last.unwrap_or_default().max(Stamp(told.promise)));
    if !told.announcements.is_empty() || behind > Stamp::ZERO {
        let heard = told.announcements.into_iter().map(|one| Heard {
            stamp: Stamp(one.stamp),
            prev: Stamp(one.prev),
            payload: one.payload,
        });
        let heard: Vec<_> = heard.collect();
        crate::metrics::HEARD.add(heard.len() as u64);
        let taking = Arc::clone(on);
        let taken = tokio::task::spawn_blocking(move || {
            if behind > Stamp::ZERO {
                taking.gathered.begin_behind(origin, behind)?;
            }
            taking.gathered.append(origin, heard)
        });
        taken.await.map_err(|e| Failed::Broken(e.to_string()))??;
    }
    // Order: what is promised is on disk here.
    on.others.heard(address, Stamp(told.promise));
    Ok(())
}
