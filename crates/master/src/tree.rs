// SPDX-License-Identifier: Apache-2.0
//! The topology as answers show it: a tree of data centers, racks, servers and volumes.

use std::collections::{BTreeMap, HashMap};

use dulse_proto::master as pb;
use serde_json::{Value, json};

use crate::service::State;
use crate::topology::{Filter, Layout, Node, Topology, Volume};

/// The servers of each rack.
type Racks<'a> = BTreeMap<&'a str, Vec<&'a Node>>;

/// The racks of each data center.
fn centers(topology: &Topology) -> BTreeMap<&str, Racks<'_>> {
    let mut centers: BTreeMap<&str, Racks<'_>> = BTreeMap::new();
    for node in topology.nodes.values() {
        let racks = centers.entry(&node.data_center).or_default();
        racks.entry(&node.rack).or_default().push(node);
    }
    centers
}

/// Volumes that there may be, and that there are.
fn slots(topology: &Topology) -> (u64, u64) {
    let nodes = topology.nodes.values();
    let max = nodes.clone().flat_map(|n| n.max_volumes.values());
    let used = nodes.map(|n| n.volumes.len() as u64);
    (max.map(|max| u64::from(*max)).sum(), used.sum())
}

/// The answer of `/dir/status`.
pub(crate) fn dir_status(state: &State) -> Value {
    let topology = state.topology.lock();
    let (max, used) = slots(&topology);
    let data_centers: Vec<Value> = centers(&topology)
        .into_iter()
        .map(|(id, racks)| {
            let racks: Vec<Value> = racks
                .into_iter()
                .map(|(id, nodes)| {
                    let nodes: Vec<Value> = nodes.into_iter().map(server).collect();
                    json!({ "Id": id, "DataNodes": nodes })
                })
                .collect();
            json!({ "Id": id, "Racks": racks })
        })
        .collect();
    let topology = json!({
        "Max": max,
        "Free": max.saturating_sub(used),
        "DataCenters": data_centers,
        "Layouts": layouts(&topology, state.options.volume_size_limit_bytes),
    });
    let id = state.stored.lock().topology_id().to_owned();
    json!({ "Topology": topology, "TopologyId": id, "Version": env!("CARGO_PKG_VERSION") })
}

fn server(node: &Node) -> Value {
    json!({
        "Url": node.url,
        "PublicUrl": node.public_url,
        "Volumes": node.volumes.len(),
        "EcShards": 0,
        "Max": node.max_volumes.values().sum::<u32>(),
        "VolumeIds": ranges(node.volumes.keys().copied()),
    })
}

/// Ids as upstream prints them: ` 1-14 17`.
fn ranges(ids: impl Iterator<Item = u32>) -> String {
    let mut out: Vec<(u32, u32)> = Vec::new();
    for id in ids {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => out.push((id, id)),
        }
    }
    let text = out.into_iter().map(|(first, last)| {
        if first == last {
            format!(" {first}")
        } else {
            format!(" {first}-{last}")
        }
    });
    text.collect()
}

fn layouts(topology: &Topology, size_limit: u64) -> Vec<Value> {
    let volumes = topology.nodes.values().flat_map(|n| n.volumes.values());
    let all: std::collections::BTreeSet<&Layout> = volumes.map(|v| &v.layout).collect();
    let rows = all.into_iter().map(|layout| {
        let open = topology.writable(layout, size_limit, &Filter::default());
        let writables: Vec<u32> = open.iter().map(|open| open.id).collect();
        let writables = match writables.is_empty() {
            true => Value::Null,
            false => writables.into(),
        };
        let disk = match layout.disk_type.as_str() {
            "" => "hdd",
            named => named,
        };
        json!({
            "replication": format!("{:03}", layout.replication),
            "ttl": ttl_text(layout.ttl),
            "writables": writables,
            "collection": layout.collection,
            "diskType": disk,
        })
    });
    rows.collect()
}

/// A time to live as its text, `3m`; empty for none.
fn ttl_text(ttl: u32) -> String {
    let unit = match ttl & 0xff {
        1 => 'm',
        2 => 'h',
        3 => 'd',
        4 => 'w',
        5 => 'M',
        6 => 'y',
        _ => return String::new(),
    };
    format!("{}{unit}", ttl >> 8)
}

/// The answer of `/vol/status`.
pub(crate) fn vol_status(state: &State) -> Value {
    let topology = state.topology.lock();
    let (max, used) = slots(&topology);
    let mut centers_json = serde_json::Map::new();
    for (center, racks) in centers(&topology) {
        let mut racks_json = serde_json::Map::new();
        for (rack, nodes) in racks {
            let nodes = nodes.into_iter().map(|node| {
                let volumes: Vec<Value> = node.volumes.values().map(volume).collect();
                (node.url.clone(), Value::from(volumes))
            });
            racks_json.insert(rack.to_owned(), Value::Object(nodes.collect()));
        }
        centers_json.insert(center.to_owned(), Value::Object(racks_json));
    }
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Volumes": { "DataCenters": centers_json, "Free": max.saturating_sub(used), "Max": max },
    })
}

fn volume(volume: &Volume) -> Value {
    let (info, layout) = (&volume.info, &volume.layout);
    let (dc, rack, node) = (
        layout.replication / 100,
        layout.replication / 10 % 10,
        layout.replication % 10,
    );
    let mut placement = serde_json::Map::new();
    for (name, copies) in [("node", node), ("rack", rack), ("dc", dc)] {
        if copies > 0 {
            placement.insert(name.to_owned(), copies.into());
        }
    }
    json!({
        "Id": info.id,
        "Collection": layout.collection,
        "DiskType": layout.disk_type,
        "ReplicaPlacement": placement,
        "Ttl": { "Count": layout.ttl >> 8, "Unit": layout.ttl & 0xff },
        "Size": volume.size,
        "FileCount": volume.file_count,
        "DeleteCount": info.delete_count,
        "DeletedByteCount": info.deleted_byte_count,
        "ModifiedAtSecond": info.modified_at_second,
        "CompactRevision": info.compact_revision,
        "Version": info.version,
        "ReadOnly": volume.is_read_only,
    })
}

/// The answer of `/collection/info`: copies are counted once.
pub(crate) fn collection_info(state: &State, name: &str) -> Value {
    let topology = state.topology.lock();
    let mut seen: BTreeMap<u32, &Volume> = BTreeMap::new();
    for node in topology.nodes.values() {
        let of = node.volumes.iter();
        let of = of.filter(|(_, v)| v.layout.collection == name);
        seen.extend(of.map(|(id, v)| (*id, v)));
    }
    let size: u64 = seen.values().map(|v| v.size).sum();
    let deleted: u64 = seen.values().map(|v| v.info.deleted_byte_count).sum();
    let files: u64 = seen.values().map(|v| v.file_count).sum();
    json!({
        "Collection": name,
        "FileCount": files,
        "TotalSize": size,
        "UsedSize": size.saturating_sub(deleted),
        "Version": env!("CARGO_PKG_VERSION"),
        "VolumeCount": seen.len(),
    })
}

/// The tree of data centers, racks, servers, disks and volumes.
pub(crate) fn volume_list(state: &State) -> pb::VolumeListResponse {
    let topology = state.topology.lock();
    let mut centers: BTreeMap<String, BTreeMap<String, Vec<pb::DataNodeInfo>>> = BTreeMap::new();
    for (id, node) in &topology.nodes {
        let mut disks: HashMap<String, pb::DiskInfo> = HashMap::new();
        for (disk, max) in &node.max_volumes {
            let info = disks.entry(disk.clone()).or_default();
            info.r#type.clone_from(disk);
            info.max_volume_count = i64::from(*max);
        }
        for volume in node.volumes.values() {
            let info = disks.entry(volume.layout.disk_type.clone()).or_default();
            info.volume_count += 1;
            info.active_volume_count += i64::from(!volume.is_read_only);
            info.volume_infos.push(volume.info.clone());
        }
        for info in disks.values_mut() {
            info.free_volume_count = info.max_volume_count - info.volume_count;
        }
        let row = pb::DataNodeInfo {
            id: id.clone(),
            disk_infos: disks,
            grpc_port: node.grpc_port,
            address: node.url.clone(),
        };
        let racks = centers.entry(node.data_center.clone()).or_default();
        racks.entry(node.rack.clone()).or_default().push(row);
    }
    let data_center_infos = centers.into_iter().map(|(id, racks)| pb::DataCenterInfo {
        id,
        rack_infos: racks
            .into_iter()
            .map(|(id, data_node_infos)| pb::RackInfo {
                id,
                data_node_infos,
                ..pb::RackInfo::default()
            })
            .collect(),
        ..pb::DataCenterInfo::default()
    });
    pb::VolumeListResponse {
        topology_info: Some(pb::TopologyInfo {
            id: "topo".to_owned(),
            data_center_infos: data_center_infos.collect(),
            ..pb::TopologyInfo::default()
        }),
        volume_size_limit_mb: state.options.volume_size_limit_bytes >> 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_as_ranges() {
        assert_eq!(ranges([1, 2, 3, 7].into_iter()), " 1-3 7");
        assert_eq!(ranges([].into_iter()), "");
    }

    #[test]
    fn times_to_live_have_their_text_back() {
        for text in ["3m", "5h", "7d", "2w", "1M", "9y"] {
            let parsed = crate::topology::parse_ttl(text).unwrap();
            assert_eq!(ttl_text(parsed), text);
        }
        assert_eq!(ttl_text(0), "");
    }
}
