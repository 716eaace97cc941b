// SPDX-License-Identifier: Apache-2.0
//! Volume servers and their volumes: a state machine without IO.

use std::collections::BTreeMap;

use dulse_proto::master as pb;

/// What kind of volume a chunk goes to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Layout {
    /// Collection.
    pub collection: String,
    /// Copies in other data centers, racks, servers: three digits as one number.
    pub replication: u8,
    /// Time to live: count in the upper byte, unit in the lower.
    pub ttl: u32,
    /// Disk type; empty is a hard disk.
    pub disk_type: String,
}

/// A volume as its server reports it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Volume {
    /// Its kind.
    pub layout: Layout,
    /// Bytes.
    pub size: u64,
    /// Needles.
    pub file_count: u64,
    /// Takes no writes.
    pub is_read_only: bool,
    /// Bytes promised to writers since the last report.
    pub booked: u64,
    /// When this master made it, in nanoseconds since 1970; 0 once its server reported it.
    pub made_ns: i64,
    /// The report itself.
    pub info: pb::VolumeInformationMessage,
}

/// Where a chunk may go; an empty field means anywhere.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    /// Data center.
    pub data_center: String,
    /// Rack.
    pub rack: String,
    /// Server, `host:port`.
    pub data_node: String,
}

impl Filter {
    fn fits(&self, node: &Node) -> bool {
        (self.data_center.is_empty() || node.data_center == self.data_center)
            && (self.rack.is_empty() || node.rack == self.rack)
            && (self.data_node.is_empty() || node.url == self.data_node)
    }
}

/// A volume that takes writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// Its number.
    pub id: u32,
    /// Identities of its servers; where a filter asked for one, that one first.
    pub nodes: Vec<String>,
    /// Bytes until it is full.
    pub room: u64,
}

/// A server that just made a volume may send a list from before it: until then the volume
/// counts as there, in nanoseconds.
const MADE_GRACE_NS: i64 = 10_000_000_000;

/// A volume server.
#[derive(Clone, Default, Debug)]
pub struct Node {
    /// `host:port`.
    pub url: String,
    /// `host:port` for clients outside.
    pub public_url: String,
    /// gRPC port.
    pub grpc_port: u32,
    /// Data center.
    pub data_center: String,
    /// Rack.
    pub rack: String,
    /// Volumes it may have, per disk type.
    pub max_volumes: BTreeMap<String, u32>,
    /// Volumes it has.
    pub volumes: BTreeMap<u32, Volume>,
    /// Ids of its data directories.
    pub directories: Vec<String>,
    /// Streams it is known by; zero removes it.
    pub n_streams: u32,
}

/// All volume servers.
#[derive(Default, Debug)]
pub struct Topology {
    /// By identity, `host:port` where none is given.
    pub nodes: BTreeMap<String, Node>,
    next_key: u64,
}

/// Volumes that came and went on one server.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Delta {
    /// New ones.
    pub new: Vec<u32>,
    /// Gone ones.
    pub deleted: Vec<u32>,
}

impl Delta {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.deleted.is_empty()
    }
}

/// Why replica placement text is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unexpected replication type: {0}")]
pub struct BadReplication(pub String);

/// Parses replica placement: three digits, at most 255 as a number.
///
/// # Errors
///
/// `BadReplication`.
pub fn parse_replication(text: &str) -> Result<u8, BadReplication> {
    let bad = || BadReplication(text.to_owned());
    if text.is_empty() {
        return Ok(0);
    }
    if text.len() > 3 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    text.parse().map_err(|_| bad())
}

/// Copies that a placement demands.
#[must_use]
pub fn copies(replication: u8) -> usize {
    usize::from(1 + replication / 100 + replication / 10 % 10 + replication % 10)
}

/// Parses a time to live such as `3m`; empty is none.
#[must_use]
pub fn parse_ttl(text: &str) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
    }
    let (digits, unit) = match text.strip_suffix(|c: char| c.is_ascii_alphabetic()) {
        Some(digits) => (digits, text.as_bytes()[text.len() - 1]),
        None => (text, b'm'),
    };
    let count: u8 = digits.parse().ok()?;
    let unit = match unit {
        b'm' => 1,
        b'h' => 2,
        b'd' => 3,
        b'w' => 4,
        b'M' => 5,
        b'y' => 6,
        _ => return None,
    };
    Some(if count == 0 {
        0
    } else {
        u32::from(count) << 8 | unit
    })
}

impl Topology {
    /// A heartbeat with the full list of a server's volumes.
    pub fn full_list(
        &mut self,
        node: &str,
        volumes: &[pb::VolumeInformationMessage],
        now_ns: i64,
    ) -> Delta {
        let Some(node) = self.nodes.get_mut(node) else {
            return Delta::default();
        };
        let mut listed: BTreeMap<u32, Volume> = volumes.iter().map(|v| (v.id, volume(v))).collect();
        for (id, made) in &node.volumes {
            let is_young = made.made_ns > 0 && now_ns - made.made_ns < MADE_GRACE_NS;
            if is_young && !listed.contains_key(id) {
                listed.insert(*id, made.clone());
            }
        }
        let deleted = node
            .volumes
            .keys()
            .filter(|id| !listed.contains_key(id))
            .copied();
        let delta = Delta {
            deleted: deleted.collect(),
            new: listed
                .keys()
                .filter(|id| !node.volumes.contains_key(id))
                .copied()
                .collect(),
        };
        node.volumes = listed;
        delta
    }

    /// A heartbeat that tells what changed.
    pub fn deltas(&mut self, node: &str, beat: &pb::Heartbeat) -> Delta {
        let mut delta = Delta::default();
        let Some(node) = self.nodes.get_mut(node) else {
            return delta;
        };
        for short in &beat.new_volumes {
            let info = pb::VolumeInformationMessage {
                id: short.id,
                collection: short.collection.clone(),
                replica_placement: short.replica_placement,
                version: short.version,
                ttl: short.ttl,
                disk_type: short.disk_type.clone(),
                read_only: short.read_only,
                ..pb::VolumeInformationMessage::default()
            };
            if node.volumes.insert(short.id, volume(&info)).is_none() {
                delta.new.push(short.id);
            }
        }
        for short in &beat.deleted_volumes {
            if node.volumes.remove(&short.id).is_some() {
                delta.deleted.push(short.id);
            }
        }
        for changed in &beat.changed_volumes {
            if node.volumes.insert(changed.id, volume(changed)).is_none() {
                delta.new.push(changed.id);
            }
        }
        delta
    }

    /// The next `count` needle keys.
    pub fn keys(&mut self, count: u64) -> u64 {
        let first = self.next_key.max(1);
        self.next_key = first.saturating_add(count.max(1));
        first
    }

    /// Keys up to this one are taken.
    pub fn saw_key(&mut self, key: u64) {
        self.next_key = self.next_key.max(key.saturating_add(1));
    }

    /// Servers that have a volume.
    #[must_use]
    pub fn locate(&self, volume_id: u32) -> Vec<&Node> {
        self.nodes
            .values()
            .filter(|node| node.volumes.contains_key(&volume_id))
            .collect()
    }

    /// Volumes of a kind that take writes: all copies are there, none is read-only or full,
    /// and one of them is where the filter says.
    #[must_use]
    pub fn writable(&self, layout: &Layout, size_limit: u64, filter: &Filter) -> Vec<Open> {
        let mut found: BTreeMap<u32, (Vec<&String>, u64)> = BTreeMap::new();
        for (name, node) in &self.nodes {
            for (id, volume) in node.volumes.iter().filter(|(_, v)| v.layout == *layout) {
                let (nodes, room) = found.entry(*id).or_insert((Vec::new(), u64::MAX));
                nodes.push(name);
                let taken = volume.size.saturating_add(volume.booked);
                *room = match volume.is_read_only {
                    true => 0,
                    false => (*room).min(size_limit.saturating_sub(taken)),
                };
            }
        }
        let wanted = copies(layout.replication);
        let fits = |name: &&String| self.nodes.get(*name).is_some_and(|n| filter.fits(n));
        let open = found
            .into_iter()
            .filter(|(_, (nodes, room))| *room > 0 && nodes.len() == wanted);
        open.filter_map(|(id, (mut nodes, room))| {
            let first = nodes.iter().position(&fits)?;
            nodes.swap(0, first);
            let nodes = nodes.into_iter().cloned().collect();
            Some(Open { id, nodes, room })
        })
        .collect()
    }

    /// Promises bytes of a volume to a writer, until its server reports.
    pub fn book(&mut self, open: &Open, bytes: u64) {
        for name in &open.nodes {
            let node = self.nodes.get_mut(name);
            if let Some(volume) = node.and_then(|node| node.volumes.get_mut(&open.id)) {
                volume.booked = volume.booked.saturating_add(bytes);
            }
        }
    }

    /// Whether some volume is of this collection.
    #[must_use]
    pub fn has_collection(&self, name: &str) -> bool {
        let mut volumes = self.nodes.values().flat_map(|n| n.volumes.values());
        volumes.any(|volume| volume.layout.collection == name)
    }

    /// Whether some server is in this data center; the empty name is any. Before a server has
    /// reported nobody knows.
    #[must_use]
    pub fn has_data_center(&self, name: &str) -> bool {
        let mut nodes = self.nodes.values();
        name.is_empty() || self.nodes.is_empty() || nodes.any(|node| node.data_center == name)
    }

    /// Servers for the copies of a new volume, the main one first; `None` when the placement
    /// fits nowhere. Servers with more free slots come up more often: `random` gives a number
    /// below its argument.
    pub fn place(
        &self,
        layout: &Layout,
        filter: &Filter,
        random: &mut dyn FnMut(u64) -> u64,
    ) -> Option<Vec<String>> {
        let mut roomy: Vec<(&String, &Node)> = Vec::new();
        let with_room = self.nodes.iter().map(|(id, n)| (id, n, n.free(layout)));
        let mut left: Vec<_> = with_room.filter(|(_, _, free)| *free > 0).collect();
        while !left.is_empty() {
            let mut at = random(left.iter().map(|(_, _, free)| free).sum());
            let drawn = left.iter().position(|(_, _, free)| {
                let is_it = at < *free;
                at = at.saturating_sub(*free);
                is_it
            });
            let (id, node, _) = left.swap_remove(drawn.unwrap_or(0));
            roomy.push((id, node));
        }
        let mut mains = roomy.iter().filter(|(_, node)| filter.fits(node));
        mains.find_map(|main| place_around(*main, &roomy, layout.replication))
    }
}

impl Node {
    /// Volumes of this disk type that still fit.
    #[must_use]
    pub fn free(&self, layout: &Layout) -> u64 {
        let max = self.max_volumes.get(&layout.disk_type).copied();
        let volumes = self.volumes.values();
        let used = volumes.filter(|v| v.layout.disk_type == layout.disk_type);
        u64::from(max.unwrap_or(0)).saturating_sub(used.count() as u64)
    }
}

/// The other copies for a main one, from servers in the order they are to be taken.
fn place_around(
    main: (&String, &Node),
    roomy: &[(&String, &Node)],
    replication: u8,
) -> Option<Vec<String>> {
    let mut chosen: Vec<(&String, &Node)> = vec![main];
    let home = main.1;
    let is_home = |n: &Node| n.data_center == home.data_center;
    let rack = |n: &Node| (n.data_center.clone(), n.rack.clone());
    for _ in 0..replication % 10 {
        let next = roomy.iter().find(|(id, n)| {
            rack(n) == rack(home) && !chosen.iter().any(|(other, _)| other == id)
        })?;
        chosen.push(*next);
    }
    for _ in 0..replication / 10 % 10 {
        let next = roomy
            .iter()
            .find(|(_, n)| is_home(n) && !chosen.iter().any(|(_, other)| rack(other) == rack(n)))?;
        chosen.push(*next);
    }
    for _ in 0..replication / 100 {
        let next = roomy.iter().find(|(_, n)| {
            let mut taken = chosen.iter();
            !taken.any(|(_, other)| other.data_center == n.data_center)
        })?;
        chosen.push(*next);
    }
    Some(chosen.into_iter().map(|(id, _)| id.clone()).collect())
}

/// The name of a disk type; hard disks are the unnamed one.
#[must_use]
pub fn disk_type(text: &str) -> String {
    if text == "hdd" {
        String::new()
    } else {
        text.to_owned()
    }
}

fn volume(info: &pb::VolumeInformationMessage) -> Volume {
    Volume {
        layout: Layout {
            collection: info.collection.clone(),
            replication: u8::try_from(info.replica_placement).unwrap_or(0),
            ttl: info.ttl,
            disk_type: disk_type(&info.disk_type),
        },
        size: info.size,
        file_count: info.file_count,
        is_read_only: info.read_only,
        booked: 0,
        made_ns: 0,
        info: info.clone(),
    }
}

#[cfg(test)]
mod tests;
