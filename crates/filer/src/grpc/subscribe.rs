// SPDX-License-Identifier: Apache-2.0
//! Metadata subscriptions, fed from the journal.
//!
//! A local subscription is this filer's own changes in order. The aggregated one
//! merges all origins in stamp order up to the low watermark; resuming is inclusive.
//! Memory is one page per origin, whatever the backlog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dulse_merge::{Change, events};
use dulse_proto::filer as pb;
use dulse_store::Error;
use dulse_types::{FullPath, Origin, Stamp};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

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
        let mut through = Stamp(self.request.since_ns.saturating_sub(1).max(0));
        let mut progress = self.state.store.progress();
        loop {
            progress.borrow_and_update();
            let limit = self.watermark().await;
            let (events, reached) = self.page(through, limit)?;
            let is_idle = events.is_empty();
            for event in events {
                if self.deliver(event).await.is_err() {
                    return Ok(());
                }
            }
            through = through.max(reached);
            let until = self.request.until_ns;
            if until > 0 && through.0 >= until {
                return Ok(());
            }
            let (id, epoch) = (self.request.client_id, self.request.client_epoch);
            if self.state.subscribers.is_replaced(self.is_local, id, epoch) {
                return Ok(());
            }
            if is_idle && reached >= limit {
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

    /// The stamp up to which every event is known here.
    async fn watermark(&self) -> Stamp {
        if self.is_local {
            let own = self.state.namespace.origin();
            return self.state.store.shared().durable_vector().get(own);
        }
        Stamp(self.state.replicator.low_watermark().await)
    }

    /// Events behind `after` up to `limit`, in order of stamps, and how far they reach.
    fn page(
        &self,
        after: Stamp,
        limit: Stamp,
    ) -> Result<(Vec<pb::SubscribeMetadataResponse>, Stamp), Error> {
        let shared = self.state.store.shared();
        let origins: Vec<Origin> = if self.is_local {
            vec![shared.origin()]
        } else {
            shared.vector().iter().map(|(origin, _)| origin).collect()
        };
        let mut reached = limit;
        let mut out = Vec::new();
        for origin in origins {
            let records = shared.changes_after(origin, after, PAGE_BYTES)?;
            let bytes: usize = records.iter().map(|r| r.payload.len()).sum();
            if bytes >= PAGE_BYTES
                && let Some(last) = records.last()
            {
                // More follow: nobody's events go beyond what was read of this origin.
                reached = reached.min(last.stamp);
            }
            for record in records {
                let Ok(change) = Change::decode(&record.payload) else {
                    continue;
                };
                for event in events(&change) {
                    out.push((event.stamp, origin, message(&change, event)));
                }
            }
        }
        out.retain(|(stamp, ..)| *stamp > after && *stamp <= reached);
        out.sort_by_key(|(stamp, origin, _)| (*stamp, *origin));
        Ok((
            out.into_iter().map(|(.., message)| message).collect(),
            reached,
        ))
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
