// SPDX-License-Identifier: Apache-2.0
//! Tests of the topology.

use super::*;

const NOW: i64 = 1_000_000_000_000;

fn info(id: u32, size: u64, replication: u32) -> pb::VolumeInformationMessage {
    pb::VolumeInformationMessage {
        id,
        size,
        replica_placement: replication,
        ..pb::VolumeInformationMessage::default()
    }
}

fn layout(replication: u8) -> Layout {
    Layout {
        replication,
        ..Layout::default()
    }
}

/// Servers named by data center, rack and number, with four slots each.
fn topology(servers: &[&str]) -> Topology {
    let mut topology = Topology::default();
    for name in servers {
        let node = Node {
            url: (*name).to_owned(),
            data_center: name[..1].to_owned(),
            rack: name[..2].to_owned(),
            max_volumes: BTreeMap::from([(String::new(), 4)]),
            ..Node::default()
        };
        topology.nodes.insert((*name).to_owned(), node);
    }
    topology
}

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
    let mut topology = topology(&["Aa1", "Aa2"]);
    let anywhere = Filter::default();
    let delta = topology.full_list("Aa1", &[info(1, 5, 1), info(2, 5, 1)], NOW);
    assert_eq!(delta.new, [1, 2]);
    assert!(topology.writable(&layout(1), 100, &anywhere).is_empty());
    topology.full_list("Aa2", &[info(1, 5, 1)], NOW);
    let writable = topology.writable(&layout(1), 100, &anywhere);
    assert_eq!(writable.len(), 1);
    assert_eq!((writable[0].id, writable[0].room), (1, 95));
    let full = topology.writable(&layout(1), 5, &anywhere);
    assert!(full.is_empty(), "full volumes take no writes");
    assert_eq!(topology.full_list("Aa1", &[], NOW).deleted, [1, 2]);
}

#[test]
fn a_filter_names_the_server_that_writes_first() {
    let mut topology = topology(&["Aa1", "Ba1"]);
    for node in ["Aa1", "Ba1"] {
        topology.full_list(node, &[info(1, 5, 100)], NOW);
    }
    let filter = |data_center: &str| Filter {
        data_center: data_center.to_owned(),
        ..Filter::default()
    };
    let open = topology.writable(&layout(100), 100, &filter("B"));
    assert_eq!(open[0].nodes, ["Ba1", "Aa1"]);
    assert!(
        topology
            .writable(&layout(100), 100, &filter("C"))
            .is_empty()
    );
}

#[test]
fn what_is_promised_counts_until_the_server_reports() {
    let mut topology = topology(&["Aa1"]);
    let anywhere = Filter::default();
    topology.full_list("Aa1", &[info(1, 60, 0)], NOW);
    let open = topology.writable(&layout(0), 100, &anywhere).remove(0);
    topology.book(&open, 40);
    assert!(topology.writable(&layout(0), 100, &anywhere).is_empty());
    topology.full_list("Aa1", &[info(1, 70, 0)], NOW);
    let open = topology.writable(&layout(0), 100, &anywhere);
    assert_eq!(open[0].room, 30);
}

#[test]
fn a_list_from_before_a_volume_was_made_does_not_remove_it() {
    let mut topology = topology(&["Aa1"]);
    let made = Volume {
        made_ns: NOW,
        ..Volume::default()
    };
    let node = topology.nodes.get_mut("Aa1").unwrap();
    node.volumes.insert(9, made);
    assert!(topology.full_list("Aa1", &[], NOW + 1).is_empty());
    let late = topology.full_list("Aa1", &[], NOW + MADE_GRACE_NS);
    assert_eq!(late.deleted, [9]);
}

#[test]
fn copies_go_where_the_placement_says() {
    let topology = topology(&["Aa1", "Aa2", "Ab1", "Ba1"]);
    let anywhere = Filter::default();
    let mut seed = 7;
    let mut random = move |below: u64| {
        seed = (seed * 31 + 11) % 1_000_003;
        seed % below
    };
    for _ in 0..50 {
        let mut place = |placement| topology.place(&layout(placement), &anywhere, &mut random);
        let same_rack = place(1).unwrap();
        assert_eq!(same_rack[0][..2], same_rack[1][..2]);
        let racks = place(10).unwrap();
        assert!(racks[0][..1] == racks[1][..1] && racks[0][..2] != racks[1][..2]);
        let centers = place(100).unwrap();
        assert_ne!(centers[0][..1], centers[1][..1]);
        assert_eq!(place(111).unwrap().len(), 4);
        assert_eq!(place(2), None, "no rack has three servers");
    }
}

#[test]
fn a_server_without_free_slots_of_the_disk_type_gets_no_volume() {
    let mut topology = topology(&["Aa1"]);
    let volumes: Vec<_> = (1..=4).map(|id| info(id, 0, 0)).collect();
    topology.full_list("Aa1", &volumes, NOW);
    let anywhere = Filter::default();
    assert_eq!(topology.place(&layout(0), &anywhere, &mut |_| 0), None);
    let ssd = Layout {
        disk_type: "ssd".to_owned(),
        ..Layout::default()
    };
    assert_eq!(topology.place(&ssd, &anywhere, &mut |_| 0), None);
    let node = topology.nodes.get_mut("Aa1").unwrap();
    node.max_volumes.insert("ssd".to_owned(), 1);
    assert!(topology.place(&ssd, &anywhere, &mut |_| 0).is_some());
}

#[test]
fn keys_are_never_given_twice() {
    let mut topology = Topology::default();
    assert_eq!(topology.keys(3), 1);
    assert_eq!(topology.keys(1), 4);
    topology.saw_key(100);
    assert_eq!(topology.keys(1), 101);
}
