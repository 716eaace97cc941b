// SPDX-License-Identifier: Apache-2.0
//! Metrics of what a replica rests on: disk and engine, measured around them.
//!
//! `Metered` stacks outermost: what it measures includes everything below.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dulse_journal::{Disk, DiskError, RealDisk, Space};
use dulse_kv::{Batch, Engine, Error, ErrorKind, Order, Read, Usage, Visitor};
use dulse_telemetry::Exporter;

dulse_telemetry::declare! {
    APPENDS: counter "dulse_journal_appends_total", Count, [], Stable,
        "Writes to the log; each holds the records of one group.";
    APPENDED: counter "dulse_journal_appended_bytes_total", Bytes, [], Stable,
        "Bytes written to the log.";
    SYNC_SECONDS: histogram [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0]
        "dulse_journal_sync_seconds", Seconds, [], Stable,
        "Time of making the log durable; the count is the number of syncs.";
    BATCH_WRITES: histogram [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0]
        "dulse_engine_batch_writes", Count, ["engine"], Stable,
        "Rows that one batch writes to the engine; the count is the number of batches.";
    BATCH_SECONDS: histogram [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0]
        "dulse_engine_batch_seconds", Seconds, ["engine"], Stable,
        "Time of applying one batch to the engine.";
    CHECKPOINT_SECONDS: histogram [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0]
        "dulse_engine_checkpoint_seconds", Seconds, ["engine"], Stable,
        "Time of making the engine durable.";
    ENGINE_BYTES: gauge "dulse_engine_disk_bytes", Bytes, ["engine"], Stable,
        "What the engine takes on disk.";
    SNAPSHOTS: gauge "dulse_engine_snapshots", Count, ["engine"], Stable,
        "Snapshots that are held open; the engine keeps what they see.";
    CHECKPOINT_TIME: gauge "dulse_checkpoint_timestamp_seconds", Seconds, [], Stable,
        "When the last checkpoint was made, since 1970; its age is how much log a crash replays.";
    QUARANTINED: counter "dulse_store_quarantined_total", Count, [], Stable,
        "Damaged stores that were set aside and built anew from the other filers.";
}

/// A disk that is measured.
pub(crate) struct MeteredDisk(pub(crate) RealDisk);

/// Name of the checkpoint file, as the journal has it.
const CHECKPOINT: &str = "checkpoint";

impl Disk for MeteredDisk {
    fn append(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        APPENDS.add(1);
        APPENDED.add(bytes.len() as u64);
        self.0.append(file, bytes)
    }

    fn rewrite(&self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.rewrite(file, offset, bytes)
    }

    fn read_at(&self, file: &str, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        self.0.read_at(file, offset, len)
    }

    fn len(&self, file: &str) -> Result<u64, DiskError> {
        self.0.len(file)
    }

    fn sync(&self, file: &str) -> Result<(), DiskError> {
        let began = Instant::now();
        let synced = self.0.sync(file);
        SYNC_SECONDS.record(began.elapsed().as_secs_f64());
        synced
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), DiskError> {
        self.0.truncate(file, len)
    }

    fn replace(&self, file: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.0.replace(file, bytes)?;
        if file == CHECKPOINT {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            CHECKPOINT_TIME.set(now.unwrap_or_default().as_secs_f64());
        }
        Ok(())
    }

    fn remove(&self, file: &str) -> Result<(), DiskError> {
        self.0.remove(file)
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.0.list()
    }

    fn space(&self) -> Result<Option<Space>, DiskError> {
        self.0.space()
    }

    fn reserve(&self, file: &str, len: u64) -> Result<(), DiskError> {
        self.0.reserve(file, len)
    }
}

/// An engine that is measured.
pub(crate) struct MeteredEngine(Arc<dyn Engine>);

impl MeteredEngine {
    /// Measures an engine, and shows what it takes where the process has an exporter.
    pub(crate) fn around(engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
        if let Some(exporter) = Exporter::installed() {
            let shown = Arc::downgrade(&engine);
            exporter.observe(move || {
                let Some(engine) = shown.upgrade() else {
                    return;
                };
                // An engine that cannot tell fails its next write, which is shown.
                let Ok(usage) = engine.usage() else { return };
                let labels = [("engine", engine.name())];
                ENGINE_BYTES.gauge(&labels).set(usage.disk_bytes as f64);
                SNAPSHOTS.gauge(&labels).set(usage.n_snapshots as f64);
            });
        }
        Arc::new(Self(engine))
    }
}

type OnCorrupt = Box<dyn Fn(&str) + Send + Sync>;

/// One store is open in a process; who opened it says what is to be done.
static ON_CORRUPT: OnceLock<OnCorrupt> = OnceLock::new();

/// What is done when the engine of the open store cannot read what it wrote; the first call
/// counts. What a row says is not meant: that is repaired row by row.
pub fn on_corrupt(act: impl Fn(&str) + Send + Sync + 'static) {
    // Whoever was first keeps it.
    let _ = ON_CORRUPT.set(Box::new(act));
}

fn told<T>(result: Result<T, Error>) -> Result<T, Error> {
    if let Err(error) = &result
        && error.kind() == ErrorKind::Corrupt
        && let Some(act) = ON_CORRUPT.get()
    {
        act(&error.to_string());
    }
    result
}

/// A snapshot whose errors are told, too.
struct ToldRead(Box<dyn Read>);

impl Read for ToldRead {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        told(self.0.get(key))
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        told(self.0.visit(range, order, visitor))
    }
}

impl Read for MeteredEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        told(self.0.get(key))
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        told(self.0.visit(range, order, visitor))
    }
}

impl Engine for MeteredEngine {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let (began, rows) = (Instant::now(), batch.writes.len());
        let labels = [("engine", self.0.name())];
        let written = self.0.write(batch);
        BATCH_SECONDS.histogram(&labels).record(began.elapsed());
        BATCH_WRITES.histogram(&labels).record(rows as f64);
        told(written)
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let began = Instant::now();
        let made = self.0.checkpoint();
        let seconds = CHECKPOINT_SECONDS.histogram(&[("engine", self.0.name())]);
        seconds.record(began.elapsed());
        made
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(ToldRead(told(self.0.snapshot())?)))
    }

    fn usage(&self) -> Result<Usage, Error> {
        self.0.usage()
    }

    fn name(&self) -> &'static str {
        self.0.name()
    }
}
