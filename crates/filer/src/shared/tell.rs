// SPDX-License-Identifier: Apache-2.0
//! Tells the other filers on the store what this one did: `dulse.announcements.v1`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dulse_proto::announcements as pb;
use dulse_proto::announcements::announcements_server::Announcements;
use dulse_shared::{Announcement, Payload};
use dulse_types::{Origin, ServerAddress, Stamp};
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::OnShared;
use super::topology::{self, Who};
use crate::grpc::Answers;
use crate::state::FilerState;

/// A follower hears something at least this often.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);

/// Bytes of announcements in one message, about.
const PAGE_BYTES: usize = 256 << 10;

/// A filer that was never met is told what was announced in this time: subscribers that come to
/// it with an older cursor get the state.
const BACKLOG_NS: i64 = 3_600 * 1_000_000_000;

/// The service. Every filer has it: one with an embedded store says what it is.
#[derive(Clone)]
pub(crate) struct AnnouncementsService {
    state: Arc<FilerState>,
}

impl AnnouncementsService {
    /// A service over the filer's state.
    pub(crate) fn new(state: Arc<FilerState>) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl Announcements for AnnouncementsService {
    async fn greet(&self, request: Request<pb::Hello>) -> Result<Response<pb::Hello>, Status> {
        let theirs = request.into_inner();
        let them = Who::of(&theirs);
        let on = self.state.shared_with(them.origin).ok();
        let on = on.filter(|_| them.is_shared);
        // Who follows the announcements on a store is answered as one who makes some there, be it
        // of a few directories.
        let ours = on.map_or_else(|| self.state.who(), |on| on.who());
        if let Some(on) = on
            && topology::misfit(&ours, &them).is_none()
        {
            if !on.has_started() {
                return Err(not_yet());
            }
            if let Ok(address) = theirs.address.parse::<ServerAddress>() {
                // Order: before it is answered: what it announces from then on is waited for here.
                on.others.greeted(&address);
                on.introduce(&address);
            }
        }
        Ok(Response::new(ours.hello()))
    }

    type FollowStream = Answers<pb::Told>;

    async fn follow(
        &self,
        request: Request<pb::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let request = request.into_inner();
        let theirs = request.who.unwrap_or_default();
        let on = Arc::clone(self.state.shared_with(Origin(theirs.origin))?);
        if !on.has_started() {
            return Err(not_yet());
        }
        if let Some(why) = topology::misfit(&Who::of(&theirs), &on.who()) {
            return Err(Status::failed_precondition(why));
        }
        let telling = Telling::new(on, Stamp(request.after), request.is_first);
        let told = futures::stream::unfold(telling, |mut telling| async {
            let message = telling.next().await?;
            Some((message, telling))
        });
        Ok(Response::new(told.boxed()))
    }
}

/// Before the default store of a filer is known to be no copy.
fn not_yet() -> Status {
    Status::unavailable("this filer does not know yet whether it is a copy of another")
}

/// One follower.
struct Telling {
    on: Arc<OnShared>,
    after: Stamp,
    promised: watch::Receiver<Stamp>,
    leaving: watch::Receiver<bool>,
    sent: Stamp,
    has_begun: bool,
    is_over: bool,
    beat_at: Instant,
    _seat: Seat,
}

/// Counts a follower while it lives.
struct Seat(Arc<OnShared>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.n_followers.send_modify(|n| *n -= 1);
    }
}

impl Telling {
    fn new(on: Arc<OnShared>, after: Stamp, is_first: bool) -> Self {
        on.n_followers.send_modify(|n| *n += 1);
        let promised = on.promised.subscribe();
        let backlog = Stamp(promised.borrow().0.saturating_sub(BACKLOG_NS).max(0));
        Self {
            after: if is_first { after.max(backlog) } else { after },
            promised,
            leaving: on.leaving.subscribe(),
            sent: Stamp::ZERO,
            has_begun: false,
            is_over: false,
            beat_at: Instant::now(),
            _seat: Seat(Arc::clone(&on)),
            on,
        }
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<Result<pb::Told, Status>> {
        loop {
            if self.is_over {
                return None;
            }
            let is_leaving = *self.leaving.borrow_and_update();
            // Order: before the page, so that everything up to it is in this or an earlier one.
            let promise = *self.promised.borrow_and_update();
            let page = match self.page().await {
                Ok(page) => page,
                Err(status) => {
                    self.is_over = true;
                    return Some(Err(status));
                }
            };
            let begins_behind = match (self.has_begun, page.first()) {
                (true, _) => Stamp::ZERO,
                // Nothing was ever announced before it.
                (false, Some(first)) if first.prev == Stamp::ZERO => Stamp::ZERO,
                // What lies between is no longer kept.
                (false, Some(first)) => self.after.max(first.prev),
                // Nothing was ever announced.
                (false, None) if *self.on.store.announced().borrow() == Stamp::ZERO => Stamp::ZERO,
                (false, None) => self.after,
            };
            if let Some(last) = page.last() {
                self.after = last.stamp;
            }
            let is_due = promise > self.sent || self.beat_at.elapsed() >= HEARTBEAT_EVERY;
            if !page.is_empty() || !self.has_begun || is_due || is_leaving {
                let is_all = page.is_empty();
                let message = pb::Told {
                    hello: (!self.has_begun).then(|| self.on.hello()),
                    begins_behind: begins_behind.0,
                    announcements: page.into_iter().map(announcement).collect(),
                    promise: if is_all { promise.0 } else { 0 },
                    is_leaving: is_leaving && is_all,
                };
                if is_all {
                    self.sent = promise;
                    self.is_over = is_leaving;
                }
                self.has_begun = true;
                self.beat_at = Instant::now();
                return Some(Ok(message));
            }
            tokio::select! {
                changed = self.promised.changed() => changed.ok()?,
                changed = self.leaving.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.beat_at + HEARTBEAT_EVERY) => {}
            }
        }
    }

    async fn page(&self) -> Result<Vec<Announcement>, Status> {
        let (store, after) = (Arc::clone(&self.on.store), self.after);
        let read = move || store.announcements(after, PAGE_BYTES);
        let page = tokio::task::spawn_blocking(read).await;
        let page = page.map_err(|e| Status::internal(e.to_string()))?;
        page.map_err(|e| Status::internal(e.to_string()))
    }
}

fn announcement(of: Announcement) -> pb::Announcement {
    pb::Announcement {
        stamp: of.stamp.0,
        prev: of.prev.0,
        payload: payload(of),
    }
}

fn payload(of: Announcement) -> Bytes {
    let announced = of.announced;
    Payload::Seen {
        position: 0,
        announced,
    }
    .encode()
}
