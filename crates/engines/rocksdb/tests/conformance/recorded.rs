// SPDX-License-Identifier: Apache-2.0
//! What RocksDB does to its files, from their contents after each batch and checkpoint.
//!
//! RocksDB's own calls cannot be seen without unsafe code, but their order is known, and
//! `tests/syncs.rs` watches it in the system calls of a running store:
//!
//! - a batch touches no file;
//! - at a checkpoint, and in the background, a table is written and synced, the manifest gets a
//!   record and is synced, and files that it no longer names are removed.
//!
//! Memtables are so small here that they become tables within the work.

use std::path::Path;
use std::time::Duration;

use dulse_engine_rocksdb::{Options, RocksdbEngine};
use dulse_kv_testkit::crash::{Event, Image, Recording, Rig, Step, Work};
use dulse_leveldb::records::Records;

/// The least that RocksDB takes, so that there are many tables.
const OPTIONS: Options = Options {
    write_buffer_size_bytes: 64 << 10,
    block_cache_size_bytes: 1 << 20,
    margin_bytes: 0,
};

/// Files without contents of interest: RocksDB's diaries, options as they were set, locks, and
/// logs, which stay empty.
fn is_skipped(name: &str) -> bool {
    let starts = ["LOG", "LOCK", "OPTIONS-", "store.lock"];
    starts.iter().any(|start| name.starts_with(start)) || name.ends_with(".log")
}

/// Derives the steps from what the files hold.
pub(crate) struct Recorded;

impl Rig for Recorded {
    fn record(&self, image: &Image, work: &mut Work<'_>) -> Recording {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("make a directory");
        image.write_to(dir.path());
        let engine = RocksdbEngine::open_with(dir.path(), OPTIONS).expect("open the store");
        let mut recorder = Recorder::new(image, quiet(dir.path()));
        work(&engine, &mut |event| {
            recorder.happened(event, quiet(dir.path()));
        });
        recorder.batch(quiet(dir.path()));
        recorder.recording
    }
}

/// The files once RocksDB is done in the background: nothing changes for a while.
fn quiet(dir: &Path) -> Image {
    let mut before = None;
    loop {
        match read(dir) {
            Some(now) if before.as_ref() == Some(&now) => return now,
            now => before = now,
        }
        std::thread::sleep(Duration::from_micros(700));
    }
}

/// The files; `None` when one vanished meanwhile.
fn read(dir: &Path) -> Option<Image> {
    let mut image = Image::new();
    for file in std::fs::read_dir(dir).ok()? {
        let file = file.ok()?;
        let name = file.file_name().to_string_lossy().into_owned();
        if !is_skipped(&name) {
            image.files.insert(name, std::fs::read(file.path()).ok()?);
        }
    }
    Some(image)
}

struct Recorder {
    before: Image,
    recording: Recording,
}

impl Recorder {
    /// Opening is over and synced.
    fn new(start: &Image, opened: Image) -> Self {
        let mut recorder = Self {
            before: start.clone(),
            recording: Recording::default(),
        };
        recorder.gone(&opened);
        for file in start
            .files
            .keys()
            .filter(|f| !opened.files.contains_key(*f))
        {
            recorder.recording.sync(file);
        }
        for (file, data) in &opened.files {
            recorder.recording.resize(file, data.len());
            recorder.recording.write(file, 0, data);
            recorder.recording.sync(file);
        }
        recorder.recording.n_opening = recorder.recording.steps.len();
        recorder.before = opened;
        recorder
    }

    fn happened(&mut self, event: Event, now: Image) {
        // What was done since the last event was the batch before, and work in the background.
        self.batch(now);
        self.recording.steps.push(Step::Event(event));
    }

    fn batch(&mut self, now: Image) {
        for name in now.files.keys().filter(|name| name.ends_with(".sst")) {
            if self.appended(name, &now) {
                self.recording.sync(name);
            }
        }
        for name in now.files.keys().filter(|n| n.starts_with("MANIFEST-")) {
            self.manifest(name, &now);
        }
        self.gone(&now);
        self.before = now;
    }

    /// What a manifest has more. Of several records the last may have removed a table that an
    /// earlier one named, unseen: then there is no moment between them to look at.
    fn manifest(&mut self, name: &str, now: &Image) {
        let old = self.before.files.get(name).map_or(0, Vec::len);
        let new = &now.files[name];
        let n = Records::of(new).filter(|record| record.end > old).count();
        if n > 1 {
            let (file, data) = (name.to_owned(), new[old..].to_vec());
            let offset = old;
            let step = Step::WriteDurably { file, offset, data };
            self.recording.steps.push(step);
        } else if self.appended(name, now) {
            self.recording.sync(name);
        }
    }

    /// Writes what a file has more; whether that is anything.
    fn appended(&mut self, name: &str, now: &Image) -> bool {
        let old = self.before.files.get(name).map_or(0, Vec::len);
        let new = &now.files[name];
        assert!(new.len() >= old, "{name} was cut");
        if new.len() > old {
            self.recording.write(name, old, &new[old..]);
        }
        new.len() > old
    }

    fn gone(&mut self, now: &Image) {
        let gone: Vec<_> = self.before.files.keys().cloned().collect();
        for file in gone.into_iter().filter(|f| !now.files.contains_key(f)) {
            self.recording.steps.push(Step::Remove { file });
        }
    }
}
