// SPDX-License-Identifier: Apache-2.0
//! Metadata subscriptions, fed from the journal.
//!
//! A local subscription is this filer's own changes in order. The aggregated one
//! merges all origins in stamp order up to the low watermark; resuming is inclusive.
//! Memory is one page per origin, whatever the backlog.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dulse_merge::{Change, events};
use dulse_proto::filer as pb;
use dulse_store::{Error, ListRange};
use dulse_types::{FullPath, Stamp, Vector};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::merging::Merging;
use super::{Answers, FilerService, convert, now_ns};
use crate::state::FilerState;

/// Events that wait for a slow subscriber; then the journal is read no further.
const EVENTS_AHEAD: usize = 256;

/// Bytes of changes read at once, per origin.
const PAGE_BYTES: usize = 256 << 10;

/// An idle subscriber that asked for it hears this often.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(200);

/// Filtered events after which the cursor is told.
const FILTERED_MAX: usize = 1000;

/// Live subscriptions, for listing and for telling duplicates.
#[derive(Default)]
pub struct Subscribers {
    live: Mutex<BTreeMap<(bool, i32), pb::MetadataSubscriber>>,
}

impl Subscribers {
    /// The live ones, of these client types or all.
    #[must_use]
    pub fn list(&self, types: &[String]) -> Vec<pb::MetadataSubscriber> {
        let live = self.live.lock();
        let mut rows: Vec<_> = live
            .values()
            .filter(|s| types.is_empty() || types.contains(&s.client_type))
            .cloned()
            .collect();
        rows.sort_by(|a, b| {
            (&a.client_name, &a.path_prefix).cmp(&(&b.client_name, &b.path_prefix))
        });
        rows
    }

    fn add(&self, is_local: bool, row: pb::MetadataSubscriber) -> Result<(), Status> {
        let mut live = self.live.lock();
        let key = (is_local, row.client_id);
        if row.client_id != 0
            && live
                .get(&key)
                .is_some_and(|other| other.client_epoch >= row.client_epoch)
        {
            let what = if is_local {
                "duplicated local"
            } else {
                "duplicated"
            };
            return Err(Status::unknown(format!(
                "{what} subscription detected for client {} clientId:{}",
                row.client_name, row.client_id
            )));
        }
        live.insert(key, row);
        Ok(())
    }

    /// Whether a newer subscription of the same client took over.
    fn is_replaced(&self, is_local: bool, id: i32, epoch: i32) -> bool {
        id != 0
            && self
                .live
                .lock()
                .get(&(is_local, id))
                .is_none_or(|s| s.client_epoch != epoch)
    }

    fn remove(&self, is_local: bool, id: i32, epoch: i32) {
        let mut live = self.live.lock();
        if live
            .get(&(is_local, id))
            .is_some_and(|s| s.client_epoch == epoch)
        {
            live.remove(&(is_local, id));
        }
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
        self.state.subscribers.add(
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
        let (send, receive) = mpsc::channel(EVENTS_AHEAD);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            let (id, epoch) = (r.client_id, r.client_epoch);
            let mut feed = Feed {
                state: Arc::clone(&state),
                request: r,
                is_local,
                send,
                n_filtered: 0,
            };
            if let Err(error) = feed.run().await {
                let _ = feed
                    .send
                    .send(Err(Status::internal(error.to_string())))
                    .await;
            }
            state.subscribers.remove(is_local, id, epoch);
        });
        Ok(Response::new(ReceiverStream::new(receive).boxed()))
    }
}

struct Feed {
    state: Arc<FilerState>,
    request: pb::SubscribeMetadataRequest,
    is_local: bool,
    send: mpsc::Sender<Result<pb::SubscribeMetadataResponse, Status>>,
    n_filtered: usize,
}

/// The subscriber went away, or has all it asked for.
struct Done;

impl Feed {
    async fn run(&mut self) -> Result<(), Error> {
        // Inclusive: an event at exactly `since_ns` may be repeated, never skipped.
        let since = Stamp(self.request.since_ns.max(0));
        let mut merging = Merging::new(since);
        if !self.is_local && self.is_older_than_log(since)? {
            let Ok(vector) = self.replay_state(since).await? else {
                return Ok(());
            };
            merging.skip_to(&vector);
        }
        let mut progress = self.state.store.progress();
        loop {
            progress.borrow_and_update();
            // Order: what the watermark promises to be here is in the vector read after it.
            let limit = self.watermark().await;
            let durable = self.state.store.shared().durable_vector();
            let mut is_idle = true;
            loop {
                self.read_on(&mut merging, &durable)?;
                let Some(event) = merging.next(limit) else {
                    break;
                };
                is_idle = false;
                if self.deliver(event).await.is_err() {
                    return Ok(());
                }
            }
            if self.is_over(limit) {
                return Ok(());
            }
            if is_idle {
                if self.beat(limit).await.is_err() {
                    return Ok(());
                }
                tokio::select! {
                    changed = progress.changed() => if changed.is_err() { return Ok(()) },
                    () = tokio::time::sleep(HEARTBEAT_EVERY) => {}
                    () = self.send.closed() => return Ok(()),
                }
            }
        }
    }

    /// Whether this filer's log lacks events at or above `since`: it came by a transfer of
    /// the state, or what it had was dropped.
    fn is_older_than_log(&self, since: Stamp) -> Result<bool, Error> {
        let shared = self.state.store.shared();
        for (origin, last) in shared.vector().iter() {
            let first = shared.changes_after(origin, Stamp::ZERO, 1)?;
            let begin = first.first().map_or(last, |record| record.prev);
            if begin > Stamp::ZERO && since <= begin {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends the tree as it is, `ts_ns` counting up from `since` + 1, and a marker; gives the
    /// vector from which the log goes on. Deletes in the gap cannot be told.
    async fn replay_state(&mut self, since: Stamp) -> Result<Result<Vector, Done>, Error> {
        tracing::warn!(client = %self.request.client_name, since = %since, "the log does not \
            reach back that far: the state is sent instead; deletes before now are not told");
        crate::metrics::SUBSCRIPTIONS_TOO_OLD.add(1);
        let vector = self.state.store.shared().durable_vector();
        let own = self.state.namespace.origin();
        let mut ts = since;
        let mut open = VecDeque::from([FullPath::root()]);
        while let Some(dir) = open.pop_front() {
            let mut start = String::new();
            loop {
                let range = ListRange {
                    prefix: String::new(),
                    start: start.clone(),
                    inclusive: false,
                    limit: dulse_store::LIST_MAX,
                };
                let rows = self.state.store.shared().list(&dir, &range)?;
                let Some(last) = rows.last() else { break };
                start.clone_from(&last.name);
                for row in rows {
                    let Ok(path) = FullPath::of(dir.as_str(), &row.name) else {
                        continue;
                    };
                    if row.entry.is_dir() {
                        open.push_back(path.clone());
                    }
                    ts = ts.next();
                    let happened = dulse_namespace::Happened {
                        stamp: ts,
                        old: None,
                        new: Some((path, row.entry)),
                        delete_chunks: false,
                    };
                    let event = convert::event(&happened, own, &[], false);
                    if self.deliver(event).await.is_err() {
                        return Ok(Err(Done));
                    }
                }
            }
        }
        let marker = pb::SubscribeMetadataResponse {
            event_notification: Some(pb::EventNotification::default()),
            ts_ns: ts.next().0,
            ..pb::SubscribeMetadataResponse::default()
        };
        let sent = self.send.send(Ok(marker)).await;
        Ok(sent.map(|()| vector).map_err(|_| Done))
    }

    /// Whether everything asked for was sent, or a newer subscription took over.
    fn is_over(&self, limit: Stamp) -> bool {
        let until = self.request.until_ns;
        let (id, epoch) = (self.request.client_id, self.request.client_epoch);
        (until > 0 && limit.0 >= until)
            || self.state.subscribers.is_replaced(self.is_local, id, epoch)
    }

    /// The stamp up to which every event is known here.
    async fn watermark(&self) -> Stamp {
        if self.is_local {
            let own = self.state.namespace.origin();
            return self.state.store.shared().durable_vector().get(own);
        }
        Stamp(self.state.replicator.low_watermark().await)
    }

    /// Reads a page of every origin of which nothing waits.
    fn read_on(&self, merging: &mut Merging, durable: &Vector) -> Result<(), Error> {
        let shared = self.state.store.shared();
        let own = shared.origin();
        for (origin, last) in durable.iter() {
            if self.is_local && origin != own {
                continue;
            }
            let Some(after) = merging.wants(origin, last) else {
                continue;
            };
            let records = shared.changes_after(origin, after, PAGE_BYTES)?;
            let reached = records.last().map_or(last, |record| record.stamp);
            let mut page = Vec::new();
            for record in records {
                let change = Change::decode(&record.payload).map_err(|e| {
                    Error::new(
                        dulse_store::Operation::Transfer,
                        dulse_store::ErrorKind::Corrupt,
                    )
                    .with("stamp", record.stamp)
                    .source(e)
                })?;
                for event in events(&change) {
                    page.push((event.stamp, message(&change, event)));
                }
            }
            merging.add(origin, reached, page);
        }
        Ok(())
    }

    async fn deliver(&mut self, event: pb::SubscribeMetadataResponse) -> Result<(), Done> {
        let until = self.request.until_ns;
        if until > 0 && event.ts_ns > until {
            return Err(Done);
        }
        if !self.matches(&event) {
            self.n_filtered += 1;
            if self.n_filtered > FILTERED_MAX {
                self.n_filtered = 0;
                let marker = pb::SubscribeMetadataResponse {
                    event_notification: Some(pb::EventNotification::default()),
                    ts_ns: event.ts_ns,
                    ..pb::SubscribeMetadataResponse::default()
                };
                return self.send.send(Ok(marker)).await.map_err(|_| Done);
            }
            return Ok(());
        }
        self.n_filtered = 0;
        self.send.send(Ok(event)).await.map_err(|_| Done)
    }

    fn matches(&self, event: &pb::SubscribeMetadataResponse) -> bool {
        let r = &self.request;
        let Some(notification) = &event.event_notification else {
            return false;
        };
        if r.signature != 0 && notification.signatures.contains(&r.signature) {
            return false;
        }
        if r.path_prefix.is_empty() {
            return true;
        }
        let name =
            |entry: &dulse_types::Entry| entry.take_name().map_or_else(|_| String::new(), |e| e.1);
        let old = notification.old_entry.as_ref().map(name);
        let new = notification.new_entry.as_ref().map(name);
        let here = old.or_else(|| new.clone()).unwrap_or_default();
        let source = (event.directory.as_str(), here);
        let target = new.map(|name| (notification.new_parent_path.as_str(), name));
        [Some(source), target]
            .into_iter()
            .flatten()
            .any(|(dir, name)| {
                let slash = if dir.ends_with('/') { "" } else { "/" };
                let path = format!("{dir}{slash}{name}");
                path.starts_with(&r.path_prefix)
                    || r.path_prefixes
                        .iter()
                        .any(|prefix| path.starts_with(prefix))
                    || r.directories.iter().any(|d| d == dir)
            })
    }

    async fn beat(&self, limit: Stamp) -> Result<(), Done> {
        let wants = self.request.client_supports_idle_heartbeat;
        if !wants && !self.is_local {
            return Ok(());
        }
        let beat = pb::SubscribeMetadataResponse {
            ts_ns: if wants { limit.0 } else { 0 },
            flushed_ts_ns: if self.is_local { limit.0 } else { 0 },
            ..pb::SubscribeMetadataResponse::default()
        };
        self.send.send(Ok(beat)).await.map_err(|_| Done)
    }
}

fn message(change: &Change, event: dulse_merge::Event) -> pb::SubscribeMetadataResponse {
    let at = |path: Option<bytes::Bytes>, entry: Option<dulse_types::Entry>| {
        let path = FullPath::parse(std::str::from_utf8(&path?).ok()?).ok()?;
        Some((path, entry?))
    };
    let happened = dulse_namespace::Happened {
        stamp: event.stamp,
        old: at(event.old_path, event.old_entry),
        new: at(event.new_path, event.new_entry),
        delete_chunks: event.delete_chunks,
    };
    convert::event(
        &happened,
        change.origin,
        &change.signatures,
        change.is_from_other_cluster,
    )
}
