// SPDX-License-Identifier: Apache-2.0
//! What a power loss left, looked at before its filer talks to anybody.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dulse_journal::RealDisk;
use dulse_kv::{Batch, Engine, MemoryEngine};
use dulse_merge::keys::Space;
use dulse_registry::{Writes, open_embedded};
use dulse_replica::{
    Durability, Limits, Replica, ReplicaOptions, ReplicaStore, ScrubCursor, Shared, SystemClock,
};
use dulse_store::{LIST_MAX, ListRange};
use dulse_tests::disk::Disk;
use dulse_types::FullPath;

use crate::load::{Tree, Writer};

/// A copy of what was left, opened as a filer opens it.
pub(crate) struct Left {
    store: ReplicaStore,
    dir: tempfile::TempDir,
}

impl Left {
    /// Copies and opens it.
    pub(crate) fn open(disk: &Disk, engine: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        disk.copy_to(dir.path())?;
        let writes = Writes::from(Durability::Fsync);
        let store = open_embedded(engine, &dir.path().join("store"), &writes, 1);
        let store = store.context("open what the power loss left")?;
        Ok(Self { store, dir })
    }

    /// A directory.
    pub(crate) fn tree(&self, dir: &str) -> Result<Tree> {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: false,
            limit: LIST_MAX,
        };
        let listed = self.store.shared().list(&FullPath::parse(dir)?, &range)?;
        let rows = listed.into_iter().map(|row| {
            let content = row.entry.fields()?.content.to_vec();
            Ok((row.name, content))
        });
        rows.collect()
    }

    /// Where each writer's directory stands.
    pub(crate) fn places(&self, writers: &[&Writer], is_certain: bool) -> Result<Vec<usize>> {
        let places = writers.iter().map(|writer| {
            let among = if is_certain {
                writer.certain()
            } else {
                writer.any()
            };
            writer.place(&self.tree(&writer.dir)?, among)
        });
        places.collect()
    }

    /// Rows and digests agree, and so do the state and what the log alone makes of it.
    pub(crate) fn log_and_state_are_equal(self) -> Result<()> {
        let shared = Arc::clone(self.store.shared());
        rows_are_sound(&shared)?;
        let state = shared.digest();
        let origin = shared.origin();
        drop((shared, self.store));

        // Elsewhere: the lock of the first may be held a moment longer, by a process that some
        // other test is just starting.
        let (journal, copy) = (self.dir.path().join("store/journal"), tempfile::tempdir()?);
        for item in std::fs::read_dir(journal)? {
            let item = item?;
            if item.file_name() != "checkpoint" {
                std::fs::copy(item.path(), copy.path().join(item.file_name()))?;
            }
        }
        let first = copy.path().join("00000000000000000000.seg");
        ensure!(first.exists(), "the log is whole");
        let from_log = replayed(copy.path(), origin.0)?;
        rows_are_sound(&from_log)?;
        ensure!(
            from_log.digest() == state,
            "the log says {:?}, the state is {state:?}",
            from_log.digest()
        );
        Ok(())
    }
}

fn rows_are_sound(shared: &Shared) -> Result<()> {
    let mut cursor = Some(ScrubCursor::begin());
    while let Some(at) = cursor {
        let found = shared.scrub(&at, 10_000)?;
        let n = found.directories.len() + found.damaged.len() + found.unsettled.len();
        ensure!(n == 0, "{found:?}");
        cursor = found.next;
    }
    Ok(())
}

/// A store that has nothing but the log.
fn replayed(journal: &Path, origin: u64) -> Result<Arc<Shared>> {
    let engine = MemoryEngine::new();
    let row = |name: &[u8], value: &[u8]| {
        let value = Bytes::copy_from_slice(value);
        (Space::Meta.key(name), Some(value))
    };
    let writes = vec![row(b"format", &[1]), row(b"origin", &origin.to_be_bytes())];
    engine.write(Batch { writes })?;
    let replica = Replica::open(ReplicaOptions {
        disk: Arc::new(RealDisk::open(journal)?),
        engine: Arc::new(engine),
        clock: Arc::new(SystemClock),
        random: 1,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    })?;
    Ok(replica.shared())
}
