// SPDX-License-Identifier: Apache-2.0
//! What merging costs: CPU time per operation over rows in memory, without journal, engine
//! or network. `cargo run --release -p dulse-merge --example speed`
//!
//! Local operations are built, merged and encoded in groups as the sequencer does; a peer's
//! are decoded and merged. Rows lie in a `BTreeMap`, whose cost is included.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use dulse_merge::local::{Builder, Effect, LocalError};
use dulse_merge::txn::{RowsError, Writes};
use dulse_merge::{Change, Rows, Txn, apply};
use dulse_types::entry::UnknownFields;
use dulse_types::{Entry, EntryFields, FileChunk, FileId, Origin, Stamp, Vector};

/// Files in each of [`N_DIRS`] directories.
const N_FILES: usize = 500;
const N_DIRS: usize = 200;

/// Operations of one group.
const GROUP: usize = 64;

#[derive(Default)]
struct Memory(BTreeMap<Vec<u8>, Bytes>);

impl Rows for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RowsError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, RowsError> {
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let rows = self.0.range::<[u8], _>(bounds).take(limit);
        Ok(rows
            .map(|(k, v)| (Bytes::copy_from_slice(k), v.clone()))
            .collect())
    }
}

impl Memory {
    fn write(&mut self, writes: Writes) {
        for (key, value) in writes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

fn file(key: u64) -> Entry {
    let mut fields = EntryFields::default();
    let attributes = fields.attrs_mut();
    attributes.file_size = 4096;
    attributes.file_mode = 0o644;
    (attributes.uid, attributes.gid) = (1000, 1000);
    (attributes.mtime, attributes.crtime) = (1_700_000_000, 1_700_000_000);
    attributes.md5 = Bytes::from_static(b"0123456789abcdef");
    let mut chunk = FileChunk {
        size: 4096,
        e_tag: "0123456789abcdef".to_owned(),
        modified_ts_ns: 1_700_000_000_000_000_000,
        ..FileChunk::default()
    };
    chunk.set_id(FileId {
        volume_id: 3,
        key,
        cookie: 7,
    });
    fields.chunks.push(chunk);
    fields.to_entry(&UnknownFields::default())
}

fn paths() -> Vec<Bytes> {
    let all = (0..N_FILES).flat_map(|f| (0..N_DIRS).map(move |d| (d, f)));
    all.map(|(d, f)| format!("/buckets/dir-{d:04}/file-{f:08}.bin").into())
        .collect()
}

/// CPU time of this process, in nanoseconds.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|ns| ns.parse().ok()).unwrap_or_default()
}

struct Side {
    rows: Memory,
    vector: Vector,
}

/// Does one operation per path in groups; gives the encoded changes and the CPU time of each.
fn local(
    side: &mut Side,
    origin: Origin,
    paths: &[Bytes],
    act: impl Fn(&mut Builder<'_, '_>, &Bytes, usize) -> Result<Effect, LocalError>,
) -> (Vec<Bytes>, f64) {
    let mut out = Vec::with_capacity(paths.len());
    let begin = cpu_ns();
    for (at, group) in paths.chunks(GROUP).enumerate() {
        let mut txn = Txn::new(&side.rows);
        txn.applied = Some(side.vector.clone());
        for (n, path) in group.iter().enumerate() {
            txn.begin();
            let prev = side.vector.get(origin);
            let mut builder = Builder::new(&mut txn, origin, prev.next(), prev);
            act(&mut builder, path, at * GROUP + n).expect("the rows allow it");
            let change = builder.finish();
            txn.keep();
            side.vector.set(origin, change.stamp);
            out.push(change.encode());
        }
        let (writes, _) = txn.finish().expect("memory does not fail");
        side.rows.write(writes);
    }
    (out, (cpu_ns() - begin) as f64 / paths.len() as f64 / 1e3)
}

fn remote(side: &mut Side, changes: &[Bytes]) -> f64 {
    let begin = cpu_ns();
    for group in changes.chunks(GROUP) {
        let mut txn = Txn::new(&side.rows);
        txn.applied = Some(side.vector.clone());
        for payload in group {
            let change = Change::decode(payload).expect("just encoded");
            apply(&mut txn, &change).expect("memory does not fail");
            side.vector.set(change.origin, change.stamp);
        }
        let (writes, _) = txn.finish().expect("memory does not fail");
        side.rows.write(writes);
    }
    (cpu_ns() - begin) as f64 / changes.len() as f64 / 1e3
}

fn main() {
    let origin = Origin(0x0a0a_0a0a_0000_0001);
    let start = || Side {
        rows: Memory::default(),
        vector: Vector::from_iter([(origin, Stamp(1_700_000_000_000_000_000))]),
    };
    let (mut here, mut there) = (start(), start());
    let paths = paths();
    let files: Vec<Entry> = (0..2 * paths.len() as u64).map(file).collect();
    let n = paths.len();
    println!("{n} files in {N_DIRS} directories, groups of {GROUP}; CPU microseconds each");
    println!(
        "{:8} {:>22} {:>22}",
        "", "local, encoded", "remote, decoded"
    );
    let tell = |what: &str, local: f64, remote: f64| {
        println!("{what:8} {local:22.2} {remote:22.2}");
    };
    let (log, cost) = local(&mut here, origin, &paths, |b, path, n| {
        b.create(path, &files[n])
    });
    tell("create", cost, remote(&mut there, &log));
    let (log, cost) = local(&mut here, origin, &paths, |b, path, at| {
        b.update(path, &files[n + at], true)
    });
    tell("update", cost, remote(&mut there, &log));
    let (log, cost) = local(&mut here, origin, &paths, |b, path, _| b.delete(path, true));
    tell("delete", cost, remote(&mut there, &log));
    assert_eq!(here.rows.0, there.rows.0, "both sides end alike");
}
