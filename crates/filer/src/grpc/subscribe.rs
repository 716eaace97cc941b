// SPDX-License-Identifier: Apache-2.0
//! Metadata subscriptions, fed from the journal.
//!
//! A local subscription is this filer's own changes in order. The aggregated one
//! merges all origins in stamp order up to the low watermark; resuming is inclusive.
//!
//! A subscription is a stream that is asked for its next message: a reader that is slow
//! is asked less often and holds a page of changes per origin, shared with the others.
//! There is no task and no queue for each.

mod filter;
mod hub;
mod log;
mod merging;
mod reading;
mod registry;
mod replay;
mod source;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dulse_proto::filer as pb;
use dulse_store::{Error, ErrorKind};
use dulse_types::Stamp;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

pub use self::hub::{Head, Hub};
pub(crate) use self::log::{Page, Told};
pub use self::reading::Reading;
pub use self::replay::is_older_than_log;
pub(crate) use self::source::{Beside, Source};

use self::hub::{Located, Seat};
use self::registry::{Place, Registry};
use self::replay::Replay;
use super::{Answers, FilerService, now_ns};
use crate::state::{FilerState, Kept};

/// A subscriber of this filer's own changes hears this often that there are none, if it
/// asked for it: upstream's filers hold their own subscribers' events back until then.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(200);

/// Other subscribers that asked for it.
const AGGREGATED_HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// A local subscriber that did not ask for heartbeats hears what is on disk.
const FLUSH_REPORT_EVERY: Duration = Duration::from_secs(5);

/// Filtered events after which the cursor is told.
const FILTERED_MAX: usize = 1000;

/// Events in one message, for subscribers that take several; upstream's number.
const BATCH_MAX: usize = 256;

/// Bytes of entries in one such message.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Events looked at before others may run.
const EVENTS_AT_ONCE: usize = 4_096;

/// What subscriptions share.
pub struct Subscribers {
    registry: Registry,
    hub: Arc<Hub>,
    source: Arc<dyn Source>,
}

impl Subscribers {
    /// None yet, over a log.
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        Self {
            registry: Registry::default(),
            hub: Arc::new(Hub::over(Arc::clone(&source))),
            source,
        }
    }

    /// The live ones that have an id, of these client types or all.
    #[must_use]
    pub fn list(&self, types: &[String]) -> Vec<pb::MetadataSubscriber> {
        self.registry.list(types)
    }
}

/// Follows the log for all subscribers until the filer stops.
pub async fn follow(state: Arc<FilerState>) {
    let hub = Arc::clone(&state.subscribers.hub);
    let located = Located::of(&state.located);
    match &state.kept {
        Kept::Embedded(own) => hub::follow(own.clone(), located, hub).await,
        Kept::Shared(on) => hub::follow_shared(Arc::clone(on), located, hub).await,
    }
}

impl FilerService {
    pub(crate) fn subscribe(
        &self,
        request: Request<pb::SubscribeMetadataRequest>,
        is_local: bool,
    ) -> Result<Response<Answers<pb::SubscribeMetadataResponse>>, Status> {
        let address = request
            .remote_addr()
            .map_or_else(String::new, |a| a.to_string());
        let r = request.into_inner();
        let shared = &self.state.subscribers;
        let place = shared.registry.add(
            is_local,
            pb::MetadataSubscriber {
                client_name: format!("{}@{address}", r.client_name),
                client_type: r.client_name.clone(),
                address,
                path_prefix: r.path_prefix.clone(),
                client_id: r.client_id,
                client_epoch: r.client_epoch,
                connected_at_ns: now_ns(),
                filer_address: self.state.options.address.to_string(),
            },
        )?;
        let feed = Feed::new(&self.state, r, is_local, place);
        let feed = feed.map_err(|e| Status::internal(e.to_string()))?;
        let messages = futures::stream::unfold(feed, |mut feed| async {
            let message = feed.next().await?;
            Some((message, feed))
        });
        Ok(Response::new(messages.boxed()))
    }
}

/// One subscription.
struct Feed {
    state: Arc<FilerState>,
    request: pb::SubscribeMetadataRequest,
    is_local: bool,
    reading: Reading,
    /// The log does not reach back far enough: the state comes first.
    owes_state: bool,
    /// That, while it is sent.
    replay: Option<Replay>,
    heads: watch::Receiver<Arc<Head>>,
    ready: VecDeque<pb::SubscribeMetadataResponse>,
    n_filtered: usize,
    beat_at: Instant,
    is_over: bool,
    place: Place,
    _seat: Seat,
}

impl Feed {
    fn new(
        state: &Arc<FilerState>,
        request: pb::SubscribeMetadataRequest,
        is_local: bool,
        place: Place,
    ) -> Result<Self, Error> {
        // Inclusive: an event at exactly `since_ns` may be repeated, never skipped.
        let since = Stamp(request.since_ns.max(0));
        let hub = &state.subscribers.hub;
        let source = &state.subscribers.source;
        let owes_state = source.is_older_than_log(since, is_local)?;
        let own = match is_local {
            true => state.own_origins(),
            false => Vec::new(),
        };
        let mut reading = Reading::new(since, own);
        if !owes_state {
            reading.take_late(hub);
        }
        Ok(Self {
            state: Arc::clone(state),
            is_local,
            reading,
            owes_state,
            replay: None,
            heads: hub.heads(),
            ready: VecDeque::new(),
            n_filtered: 0,
            beat_at: Instant::now(),
            is_over: false,
            place,
            _seat: hub.sit(),
            request,
        })
    }

    /// The next message; `None` when all that was asked for was sent, or a newer
    /// subscription of the same client took over.
    async fn next(&mut self) -> Option<Result<pb::SubscribeMetadataResponse, Status>> {
        loop {
            if self.place.replaced.is_cancelled() {
                return None;
            }
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok(message));
            }
            if let Some((origin, at)) = self.reading.take_cut() {
                // I9: told, never skipped. Who comes again takes the state.
                return Some(Err(Status::out_of_range(format!(
                    "changes of {origin} up to {at} are no longer in this filer's log"
                ))));
            }
            if self.is_over {
                return None;
            }
            let worked = if self.owes_state {
                Ok(self.begin_replay())
            } else if self.replay.is_some() {
                self.replay_on()
            } else {
                self.read_on()
            };
            match worked {
                // Long stretches that are filtered out must let others run.
                Ok(true) => tokio::task::consume_budget().await,
                Ok(false) => self.rest().await?,
                Err(error) => {
                    self.is_over = true;
                    let text = error.to_string();
                    return Some(Err(match error.kind() {
                        // A database is away: the state cannot be told now.
                        ErrorKind::Unavailable => Status::unavailable(text),
                        _ => Status::internal(text),
                    }));
                }
            }
        }
    }

    /// Takes the state; false while it must wait.
    fn begin_replay(&mut self) -> bool {
        let since = Stamp(self.request.since_ns.max(0));
        let limit = self.heads.borrow_and_update().limit;
        // What this filer wrote itself comes in order.
        if !(self.is_local || self.reading.may_take_state(limit)) {
            return false;
        }
        let name = &self.request.client_name;
        tracing::warn!(client = %name, %since, "the log does not reach back that far: the \
            state is sent instead; deletes before now are not told");
        crate::metrics::SUBSCRIPTIONS_TOO_OLD.add(1);
        self.owes_state = false;
        self.replay = Some(Replay::new(
            Arc::clone(&self.state.subscribers.source),
            since,
        ));
        true
    }

    fn replay_on(&mut self) -> Result<bool, Error> {
        let Some(replay) = &mut self.replay else {
            return Ok(false);
        };
        match replay.next_part()? {
            Some(events) => events.into_iter().for_each(|event| self.offer(event)),
            None => {
                let (vector, ts) = replay.end();
                self.ready.push_back(marker(ts.0));
                self.reading.skip_to(&vector, ts);
                self.replay = None;
            }
        }
        Ok(true)
    }

    /// Takes what the log has; false when that is nothing new.
    fn read_on(&mut self) -> Result<bool, Error> {
        let head = Arc::clone(&self.heads.borrow_and_update());
        let limit = match self.own_limit(&head) {
            Some(limit) if self.is_local => limit,
            _ => head.limit,
        };
        // Nothing is ready yet. I11: whoever is slow holds these for as long as it takes.
        let (mut ready_bytes, bytes_max) = (0, self.state.subscribers.hub.page_bytes());
        for n_looked in 0..EVENTS_AT_ONCE {
            if self.ready.len() >= BATCH_MAX || ready_bytes >= bytes_max || self.is_over {
                break;
            }
            let event = self
                .reading
                .next(&self.state.subscribers.hub, &head, limit)?;
            if self.reading.is_cut() {
                self.is_over = true;
                return Ok(true);
            }
            let Some(event) = event else {
                self.batch();
                let until = self.request.until_ns;
                self.is_over |= until > 0 && limit.0 >= until;
                return Ok(n_looked > 0);
            };
            ready_bytes += size(&event);
            self.offer(event);
        }
        self.batch();
        Ok(true)
    }

    /// Takes an event if it is wanted.
    fn offer(&mut self, mut event: pb::SubscribeMetadataResponse) {
        let until = self.request.until_ns;
        if until > 0 && event.ts_ns > until {
            self.is_over = true;
            return;
        }
        if !filter::matches(&self.request, &event) {
            self.n_filtered += 1;
            if self.n_filtered > FILTERED_MAX {
                self.n_filtered = 0;
                self.ready.push_back(marker(event.ts_ns));
            }
            return;
        }
        self.n_filtered = 0;
        // Who syncs clusters knows this one by the filer it is connected to.
        let own = self.state.namespace.origin().signature();
        if let Some(notification) = &mut event.event_notification
            && !notification.signatures.contains(&own)
        {
            notification.signatures.push(own);
        }
        self.ready.push_back(event);
    }

    /// Up to which stamp all that was changed here is on disk. Where directories have stores of
    /// their own, that is of two logs, of which one may be idle: nothing but the limit of all.
    fn own_limit(&self, head: &Head) -> Option<Stamp> {
        let is_one = self.state.located.is_empty();
        is_one.then(|| head.durable.get(self.state.namespace.origin()))
    }

    /// Puts what is ready into one message, for subscribers that take that.
    fn batch(&mut self) {
        if !self.request.client_supports_batching || self.ready.len() < 2 {
            return;
        }
        let mut batched: VecDeque<pb::SubscribeMetadataResponse> = VecDeque::new();
        let mut bytes = BATCH_BYTES_MAX;
        for event in self.ready.drain(..) {
            let len = size(&event);
            let is_event = |e: &pb::SubscribeMetadataResponse| size(e) > 0;
            match batched.back_mut() {
                Some(first) if len > 0 && is_event(first) && bytes + len < BATCH_BYTES_MAX => {
                    bytes += len;
                    first.events.push(event);
                }
                _ => {
                    bytes = len;
                    batched.push_back(event);
                }
            }
        }
        self.ready = batched;
    }

    /// Waits for news, and says between that there are none.
    async fn rest(&mut self) -> Option<()> {
        let wants = self.request.client_supports_idle_heartbeat;
        let every = match (self.is_local, wants) {
            (true, true) => HEARTBEAT_EVERY,
            (true, false) => FLUSH_REPORT_EVERY,
            (false, _) => AGGREGATED_HEARTBEAT_EVERY,
        };
        if (wants || self.is_local) && self.beat_at.elapsed() >= every {
            self.beat_at = Instant::now();
            self.beat(wants);
            return Some(());
        }
        tokio::select! {
            changed = self.heads.changed() => changed.ok(),
            () = tokio::time::sleep_until(self.beat_at + every) => {
                if !wants && !self.is_local {
                    self.beat_at = Instant::now();
                }
                Some(())
            }
            () = self.place.replaced.cancelled() => None,
        }
    }

    fn beat(&mut self, wants: bool) {
        let head = Arc::clone(&self.heads.borrow());
        let on_disk = self.own_limit(&head).unwrap_or(head.limit);
        let limit = if self.is_local { on_disk } else { head.limit };
        self.ready.push_back(pb::SubscribeMetadataResponse {
            ts_ns: if wants { limit.0 } else { 0 },
            flushed_ts_ns: if self.is_local { on_disk.0 } else { 0 },
            ..pb::SubscribeMetadataResponse::default()
        });
    }
}

/// Bytes of an event's entries and a little; 0 for what is no event.
fn size(event: &pb::SubscribeMetadataResponse) -> usize {
    let Some(notification) = &event.event_notification else {
        return 0;
    };
    let entries = [&notification.old_entry, &notification.new_entry];
    let bytes: usize = entries.into_iter().flatten().map(|e| e.raw().len()).sum();
    if bytes == 0 { 0 } else { bytes + 64 }
}

/// Moves the subscriber's cursor without an event.
fn marker(ts_ns: i64) -> pb::SubscribeMetadataResponse {
    pb::SubscribeMetadataResponse {
        event_notification: Some(pb::EventNotification::default()),
        ts_ns,
        ..pb::SubscribeMetadataResponse::default()
    }
}
