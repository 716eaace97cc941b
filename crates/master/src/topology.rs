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
    /// The report itself.
    pub info: pb::VolumeInformationMessage,
}

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
    pub fn full_list(&mut self, node: &str, volumes: &[pb::VolumeInformationMessage]) -> Delta {
        let Some(node) = self.nodes.get_mut(node) else {
            return Delta::default();
        };
        let listed: BTreeMap<u32, Volume> = volumes.iter().map(|v| (v.id, volume(v))).collect();
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

    /// Volumes of a kind that take writes, with their servers: all copies are there, none
    /// is read-only or full.
    #[must_use]
    pub fn writable(&self, layout: &Layout, size_limit: u64) -> Vec<(u32, Vec<&Node>)> {
        let mut found: BTreeMap<u32, (Vec<&Node>, bool)> = BTreeMap::new();
        for node in self.nodes.values() {
            for (id, volume) in node.volumes.iter().filter(|(_, v)| v.layout == *layout) {
                let (nodes, is_open) = found.entry(*id).or_insert((Vec::new(), true));
                nodes.push(node);
                *is_open &= !volume.is_read_only && volume.size < size_limit;
            }
        }
        let wanted = copies(layout.replication);
        let open = found
            .into_iter()
            .filter(|(_, (nodes, is_open))| *is_open && nodes.len() == wanted);
        open.map(|(id, (nodes, _))| (id, nodes)).collect()
    }

    /// Servers for the copies of a new volume, by free slots; fewer than needed is none.
    #[must_use]
    pub fn place(&self, layout: &Layout) -> Option<Vec<String>> {
        let free = |node: &Node| {
            let max: u32 = node
                .max_volumes
                .get(&layout.disk_type)
                .copied()
                .unwrap_or(0);
            i64::from(max) - node.volumes.len() as i64
        };
        let mut by_room: Vec<_> = self.nodes.iter().filter(|(_, n)| free(n) > 0).collect();
        by_room.sort_by_key(|(_, node)| std::cmp::Reverse(free(node)));
        let mut chosen: Vec<(&String, &Node)> = Vec::new();
        let (x, y, z) = (
            layout.replication / 100,
            layout.replication / 10 % 10,
            layout.replication % 10,
        );
        let (main_id, main) = by_room.first()?;
        chosen.push((main_id, main));
        let mut take = |n: u8, fits: &dyn Fn(&Node) -> bool| {
            for _ in 0..n {
                let next = by_room.iter().find(|(id, node)| {
                    fits(node) && !chosen.iter().any(|(other, _)| other == id)
                })?;
                chosen.push((next.0, next.1));
            }
            Some(())
        };
        take(z, &|n| {
            n.data_center == main.data_center && n.rack == main.rack
        })?;
        take(y, &|n| {
            n.data_center == main.data_center && n.rack != main.rack
        })?;
        take(x, &|n| n.data_center != main.data_center)?;
        Some(chosen.into_iter().map(|(id, _)| id.clone()).collect())
    }
}

fn volume(info: &pb::VolumeInformationMessage) -> Volume {
    Volume {
        layout: Layout {
            collection: info.collection.clone(),
            replication: u8::try_from(info.replica_placement).unwrap_or(0),
            ttl: info.ttl,
            disk_type: info.disk_type.clone(),
        },
        size: info.size,
        file_count: info.file_count,
        is_read_only: info.read_only,
        info: info.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_and_times_to_live_parse() {
        assert_eq!(parse_replication("").unwrap(), 0);
        assert_eq!(copies(parse_replication("012").unwrap()), 4);
        assert!(parse_replication("0x0").is_err());
        assert!(parse_replication("999").is_err());
        assert_eq!(parse_ttl("3m"), Some(3 << 8 | 1));
        assert_eq!(parse_ttl("5"), Some(5 << 8 | 1));
        assert_eq!(parse_ttl("x"), None);
    }

    #[test]
    fn a_volume_takes_writes_only_with_all_its_copies() {
        let mut topology = Topology::default();
        let info = |id, size| pb::VolumeInformationMessage {
            id,
            size,
            replica_placement: 1,
            ..pb::VolumeInformationMessage::default()
        };
        for name in ["a", "b"] {
            topology.nodes.insert(
                name.into(),
                Node {
                    url: name.into(),
                    ..Node::default()
                },
            );
        }
        let layout = Layout {
            replication: 1,
            ..Layout::default()
        };
        let delta = topology.full_list("a", &[info(1, 5), info(2, 5)]);
        assert_eq!(delta.new, [1, 2]);
        assert!(topology.writable(&layout, 100).is_empty());
        topology.full_list("b", &[info(1, 5)]);
        let writable = topology.writable(&layout, 100);
        assert_eq!(writable.len(), 1);
        assert_eq!(writable[0].0, 1);
        assert!(
            topology.writable(&layout, 5).is_empty(),
            "full volumes take no writes"
        );
        assert_eq!(topology.full_list("a", &[]).deleted, [1, 2]);
    }

    #[test]
    fn keys_are_never_given_twice() {
        let mut topology = Topology::default();
        assert_eq!(topology.keys(3), 1);
        assert_eq!(topology.keys(1), 4);
        topology.saw_key(100);
        assert_eq!(topology.keys(1), 101);
    }
}
