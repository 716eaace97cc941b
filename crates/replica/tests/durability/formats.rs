// SPDX-License-Identifier: Apache-2.0
//! The bytes of what a replica keeps beside the model's rows are the documented ones.

use dulse_journal::{Disk, RecordKind};
use dulse_kv::{Batch, Engine, ReadExt};
use dulse_merge::keys::Space;
use dulse_replica::{Durability, Replica};
use dulse_store::{ErrorKind, Transaction, TreeChange, TreeWork};

use crate::machine::{Machine, create, path};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every row of a space, key and value.
fn rows(machine: &Machine, space: Space) -> Vec<(String, String)> {
    let (from, to) = space.range();
    let rows = machine.engine.scan(&from, &to, 100).unwrap();
    let rows = rows.iter().map(|(key, value)| (hex(key), hex(value)));
    rows.collect()
}

fn text(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn the_bytes_of_meta_and_vector_rows_are_the_documented_ones() {
    let machine = Machine::new(0x0000_0001_0000_0002, Durability::Os);
    let mut replica = machine.open();
    let meta = [
        text("11666f726d6174", "01"),
        text("116f726967696e", "0000000100000002"),
    ];
    assert_eq!(rows(&machine, Space::Meta), meta);
    assert_eq!(rows(&machine, Space::Vector), []);
    replica.commit(vec![create("/a")]).remove(0).unwrap();
    let (stamp, vector) = (replica.shared().vector(), rows(&machine, Space::Vector));
    let stamp = stamp.get(replica.shared().origin());
    let expect = format!("010000000100000002{:016x}", stamp.0);
    assert_eq!(vector, [text("0e", &expect)]);
}

#[test]
fn the_bytes_of_tail_rows_are_the_documented_ones() {
    let machine = Machine::new(0x0000_0001_0000_0002, Durability::Os);
    let mut replica = machine.open();
    replica.commit(vec![create("/a")]).remove(0).unwrap();
    let shared = replica.shared();
    let end = shared.journal().end();
    let record = &shared.journal().read(0, end, usize::MAX).unwrap();
    let (record, behind) = record.last().unwrap();
    let mut bytes = vec![1];
    record.write(&mut bytes);
    let key = format!("0c{behind:016x}");
    assert_eq!(rows(&machine, Space::Tail), [text(&key, &hex(&bytes))]);
    replica.sync().unwrap();
    replica.commit(vec![create("/b")]).remove(0).unwrap();
    let tail = rows(&machine, Space::Tail);
    assert_eq!(tail.len(), 1, "what is on disk is carried no more");
    assert_ne!(tail[0].0, key);
    replica.checkpoint().unwrap();
    assert_eq!(rows(&machine, Space::Tail), []);
}

#[test]
fn the_bytes_of_the_row_of_an_open_tree_change_are_the_documented_ones() {
    let mut machine = Machine::new(0x0000_0001_0000_0002, Durability::Fsync);
    machine.limits.tree_names_max = 1;
    machine.limits.tree_part_names = 1;
    let mut replica = machine.open();
    for name in ["/a", "/b/x", "/b/y"] {
        replica.commit(vec![create(name)]).remove(0).unwrap();
    }
    let change = TreeChange {
        before: Transaction::default(),
        path: path("/b"),
        work: TreeWork::Move { to: path("/c") },
    };
    replica.begin_tree(change).unwrap();
    assert!(replica.step_tree().is_none());
    let shared = replica.shared();
    let log = shared.journal().read(0, shared.journal().end(), usize::MAX);
    let log = log.unwrap().into_iter().map(|(record, _)| record);
    let intent = log.filter(|r| r.kind == RecordKind::Intent).last().unwrap();
    // The identity: stamp, origin, index.
    let key = format!("11747265652f{:016x}000000010000000200000000", intent.prev.0);
    let value = format!("010101{}", hex(&intent.payload));
    assert!(rows(&machine, Space::Meta).contains(&text(&key, &value)));
    // Damage is told; a later format too.
    for value in [vec![], vec![2, 0, 0], vec![1, 0, 0, 9]] {
        let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
        drop(machine.open());
        let writes = vec![(Space::Meta.key(b"tree/x"), Some(value.into()))];
        machine.engine.write(Batch { writes }).unwrap();
        let error = Replica::open(machine.options()).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn the_bytes_of_the_checkpoint_are_the_documented_ones() {
    let machine = Machine::new(0x0000_0001_0000_0002, Durability::Fsync);
    let mut replica = machine.open();
    replica.commit(vec![create("/a")]).remove(0).unwrap();
    replica.checkpoint().unwrap();
    let shared = replica.shared();
    let stamp = shared.vector().get(shared.origin());
    let bytes = machine.disk.read_at("checkpoint", 4, 100).unwrap();
    let end = shared.journal().end();
    let expect = [
        "01",                                         // format
        &format!("{end:016x}"),                       // position
        &format!("{:016x}", stamp.0 + 1_000_000_000), // ceiling
        "01",                                         // origins
        "0000000100000002",                           // origin
        &format!("{:016x}", stamp.0),                 // what the engine has of it
    ];
    assert_eq!(hex(&bytes), expect.concat());
}

#[test]
fn rows_of_a_later_version_are_refused_with_a_clear_error() {
    for (format, kind) in [(2, ErrorKind::Invalid), (0, ErrorKind::Corrupt)] {
        let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
        drop(machine.open());
        let writes = vec![(Space::Meta.key(b"format"), Some(vec![format].into()))];
        machine.engine.write(Batch { writes }).unwrap();
        let error = Replica::open(machine.options()).map(drop).unwrap_err();
        assert_eq!(error.kind(), kind);
        let text = error.to_string();
        assert!(text.contains("this program reads `1`"), "{text}");
        assert!(text.contains(&format!("[{format}]")), "{text}");
    }
}

#[test]
fn tail_rows_that_do_not_check_out_are_refused() {
    for value in [vec![], vec![2], vec![1, 0, 0]] {
        let machine = Machine::new(1 << 32 | 1, Durability::Fsync);
        drop(machine.open());
        let writes = vec![(Space::Tail.key(&[0; 8]), Some(value.into()))];
        machine.engine.write(Batch { writes }).unwrap();
        let error = Replica::open(machine.options()).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}
