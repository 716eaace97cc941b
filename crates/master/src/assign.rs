// SPDX-License-Identifier: Apache-2.0
//! Finding a place for chunks, and making volumes when there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dulse_proto::master as pb;
use dulse_types::FileId;
use tonic::Status;

use crate::growth::{Growth, GrowthError, grow};
use crate::metrics;
use crate::service::{State, location};
use crate::topology::{Filter, Layout, Open, disk_type, parse_replication, parse_ttl};

/// How long an assign waits for volumes to be made.
const GROWTH_WAIT_MAX: Duration = Duration::from_secs(10);

/// Pause before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Most file ids of one assign.
const ASSIGN_COUNT_MAX: u64 = 1 << 20;

/// Bytes booked for a file id whose size nobody told, as upstream.
const BOOKED_BYTES: u64 = 1 << 20;

/// Volumes with less than this share of the size limit left are crowded: new ones are made
/// before the last is full. As upstream.
const CROWDED_SHARE: u64 = 10;

/// Volumes looked at for one assign; the one with the most room is taken.
const SAMPLES: usize = 3;

/// A place for chunks.
pub(crate) struct Assigned {
    pub(crate) fid: String,
    pub(crate) count: u64,
    pub(crate) auth: String,
    pub(crate) locations: Vec<pb::Location>,
}

/// What volumes a request can use.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) layout: Layout,
    pub(crate) ttl: String,
    pub(crate) filter: Filter,
}

impl Wish {
    /// How messages name it.
    pub(crate) fn describe(&self) -> String {
        let Layout {
            collection,
            replication,
            ..
        } = &self.layout;
        let (ttl, filter) = (&self.ttl, &self.filter);
        format!(
            "collection:{collection} replication:{replication:03} ttl:{ttl} data center:{} rack:{} \
             server:{}",
            filter.data_center, filter.rack, filter.data_node
        )
    }
}

impl State {
    /// What a request asks for, checked.
    ///
    /// # Errors
    ///
    /// `Unknown` with upstream's texts for a bad placement, time to live or data center.
    pub(crate) fn wish(&self, r: &pb::AssignRequest) -> Result<Wish, Status> {
        let text = match r.replication.as_str() {
            "" => &self.options.default_replication,
            asked => asked,
        };
        let replication = parse_replication(text).map_err(|e| Status::unknown(e.to_string()))?;
        let ttl = parse_ttl(&r.ttl)
            .ok_or_else(|| Status::unknown(format!("unexpected ttl: {}", r.ttl)))?;
        // Filers take this text as leave to ask without a data center.
        if !self.topology.lock().has_data_center(&r.data_center) {
            let name = &r.data_center;
            let error = format!("data center {name} not found in topology");
            return Err(Status::unknown(error));
        }
        Ok(Wish {
            layout: Layout {
                collection: r.collection.clone(),
                replication,
                ttl,
                disk_type: disk_type(&r.disk_type),
            },
            ttl: r.ttl.clone(),
            filter: Filter {
                data_center: r.data_center.clone(),
                rack: r.rack.clone(),
                data_node: r.data_node.clone(),
            },
        })
    }

    /// Finds a place; makes volumes and waits for them, up to ten seconds, when there is none.
    ///
    /// # Errors
    ///
    /// `Unknown` for what can never be, `Unavailable` while the topology is loading,
    /// `ResourceExhausted` when no volume could be made in time: both are worth another try.
    pub(crate) async fn assign(self: &Arc<Self>, r: pb::AssignRequest) -> Result<Assigned, Status> {
        let assigned = self.find_place(r).await;
        match &assigned {
            Ok(assigned) => metrics::ASSIGNED.add(assigned.count),
            Err(_) => metrics::PICK_ERRORS.add(1),
        }
        assigned
    }

    async fn find_place(self: &Arc<Self>, r: pb::AssignRequest) -> Result<Assigned, Status> {
        let wish = self.wish(&r)?;
        let growth = Growth {
            count: (r.writable_volume_count > 0).then_some(r.writable_volume_count as usize),
            is_early: false,
        };
        let deadline = Instant::now() + GROWTH_WAIT_MAX;
        loop {
            if let Some(assigned) = self.pick(&wish, &r)? {
                return Ok(assigned);
            }
            if self.is_warming_up() {
                let error = "master is warming up, topology is still loading";
                return Err(Status::unavailable(error));
            }
            let last = match grow(self, &wish, growth).await {
                Ok(_) => "no volume took writes after it was made".to_owned(),
                // Without any server it may only be too early.
                Err(GrowthError::NoRoom) if !self.topology.lock().nodes.is_empty() => {
                    let error = GrowthError::NoRoom;
                    return Err(Status::unknown(format!(
                        "{error} for {{{}}}",
                        wish.describe()
                    )));
                }
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                let wish = wish.describe();
                let error = format!("no writable volumes for {{{wish}}}: {last}");
                return Err(Status::resource_exhausted(error));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn pick(
        self: &Arc<Self>,
        wish: &Wish,
        r: &pb::AssignRequest,
    ) -> Result<Option<Assigned>, Status> {
        let count = r.count.clamp(1, ASSIGN_COUNT_MAX);
        let limit = self.options.volume_size_limit_bytes;
        let (key, volume_id, locations, is_crowded) = {
            let mut topology = self.topology.lock();
            let open = topology.writable(&wish.layout, limit, &wish.filter);
            let Some(chosen) = roomiest(&open) else {
                return Ok(None);
            };
            let is_crowded = open.iter().all(|open| open.room < limit / CROWDED_SHARE);
            let bytes = match r.expected_data_size {
                0 => BOOKED_BYTES.saturating_mul(count),
                bytes => bytes,
            };
            topology.book(chosen, bytes);
            let nodes = chosen.nodes.iter().filter_map(|n| topology.nodes.get(n));
            let locations: Vec<_> = nodes.map(location).collect();
            (topology.keys(count), chosen.id, locations, is_crowded)
        };
        // ⚠ A key given twice would be two files in one needle.
        let raised = self.stored.lock().raise_keys(key.saturating_add(count));
        raised.map_err(|error| {
            tracing::error!(%error, "file keys cannot be given out");
            Status::unavailable(format!("file keys cannot be stored: {error}"))
        })?;
        if is_crowded {
            self.grow_early(wish.clone());
        }
        let fid = FileId {
            volume_id,
            key,
            cookie: rand::random(),
        };
        let fid = fid.to_string();
        Ok(Some(Assigned {
            auth: self.sign(&fid),
            fid,
            count,
            locations,
        }))
    }

    /// Makes volumes beside the request that found the last ones nearly full.
    fn grow_early(self: &Arc<Self>, wish: Wish) {
        if self.is_warming_up() || self.growing.try_lock().is_err() {
            return;
        }
        let state = Arc::clone(self);
        let growth = Growth {
            count: None,
            is_early: true,
        };
        tokio::spawn(async move {
            if let Err(error) = grow(&state, &wish, growth).await {
                tracing::warn!(%error, wish = wish.describe(), "volumes fill up, and no new ones \
                    can be made");
            }
        });
    }

    /// Whether every volume of a kind is nearly full.
    pub(crate) fn is_crowded(&self, wish: &Wish) -> bool {
        let limit = self.options.volume_size_limit_bytes;
        let topology = self.topology.lock();
        let open = topology.writable(&wish.layout, limit, &wish.filter);
        open.iter().all(|open| open.room < limit / CROWDED_SHARE)
    }
}

/// Of a few volumes drawn by chance the one with the most room: full ones come to rest, and
/// writers spread.
fn roomiest(open: &[Open]) -> Option<&Open> {
    if open.is_empty() {
        return None;
    }
    let drawn = (0..SAMPLES).map(|_| &open[rand::random_range(0..open.len())]);
    drawn.max_by_key(|open| open.room)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dulse_transport::Transport;
    use dulse_types::ServerAddress;

    use super::*;
    use crate::MasterOptions;
    use crate::service::MasterService;
    use crate::stored::Stored;
    use crate::topology::Node;

    /// A master that knows of one volume with room.
    fn started(dir: &Path) -> Arc<State> {
        let options = MasterOptions {
            address: ServerAddress::new("127.0.0.1", 9, 0).unwrap(),
            dir: dir.to_owned(),
            volume_size_limit_bytes: 1 << 40,
            default_replication: String::new(),
            transport: Transport::plain(),
        };
        let service = MasterService::new(options, Stored::open(dir).unwrap());
        let state = Arc::clone(service.state());
        let volume = pb::VolumeInformationMessage {
            id: 1,
            ..pb::VolumeInformationMessage::default()
        };
        let mut topology = state.topology.lock();
        topology.nodes.insert("node".to_owned(), Node::default());
        topology.full_list("node", &[volume], 0);
        drop(topology);
        state
    }

    /// The needle of a key that was given out is overwritten by whoever gets it again.
    #[tokio::test]
    async fn no_key_is_given_out_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut behind = 0;
        for _ in 0..3 {
            let state = started(dir.path());
            let asked = pb::AssignRequest {
                count: 2_000_000,
                ..pb::AssignRequest::default()
            };
            let assigned = state.assign(asked).await.unwrap();
            let first: FileId = assigned.fid.parse().unwrap();
            assert!(first.key >= behind, "{} was given out", first.key);
            behind = first.key + assigned.count;
        }
    }
}
