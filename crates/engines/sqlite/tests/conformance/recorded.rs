// SPDX-License-Identifier: Apache-2.0
//! What SQLite does to its files, from their contents after each batch and checkpoint.
//!
//! SQLite's own calls cannot be seen without unsafe code, but their order is known, and
//! `tests/syncs.rs` watches it in the system calls of a running store:
//!
//! - a batch appends frames to the log and touches nothing else; a log that starts over gets
//!   its header first, which is synced before any frame is written;
//! - a checkpoint syncs the log, copies pages into the file, and syncs the file.

use dulse_engine_sqlite::SqliteEngine;
use dulse_kv_testkit::crash::{Event, Image, Recording, Rig, Step, Work};

const FILE: &str = "store.sqlite";
const WAL: &str = "store.sqlite-wal";

/// Files without contents of interest: rebuilt, and empty.
const SKIPPED: [&str; 2] = ["store.sqlite-shm", "store.lock"];

/// The log's header, in bytes.
const HEADER_BYTES: usize = 32;

/// A frame of the log: its header and a page, in bytes.
const FRAME_BYTES: usize = 24 + PAGE_BYTES;

/// SQLite's pages, in bytes.
const PAGE_BYTES: usize = 4096;

/// Derives the steps from what the files hold.
pub(crate) struct Recorded;

impl Rig for Recorded {
    fn record(&self, image: &Image, work: &mut Work<'_>) -> Recording {
        let dir = tempfile::tempdir().expect("make a directory");
        image.write_to(dir.path());
        let engine = SqliteEngine::open(dir.path()).expect("open the store");
        let look = || Image::read_from(dir.path(), &SKIPPED);
        let mut recorder = Recorder::new(look());
        work(&engine, &mut |event| recorder.happened(event, look()));
        recorder.batch(look());
        recorder.recording
    }
}

struct Recorder {
    before: Image,
    recording: Recording,
}

impl Recorder {
    /// Opening is over and synced.
    fn new(opened: Image) -> Self {
        let mut recorder = Self {
            before: Image::new(),
            recording: Recording::default(),
        };
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
        match event {
            // What was done since the last event was the batch before.
            Event::Begun(_) => self.batch(now),
            Event::Checkpointed(_) => self.checkpoint(now),
        }
        self.recording.steps.push(Step::Event(event));
    }

    fn batch(&mut self, now: Image) {
        assert!(
            content(&now, FILE) == content(&self.before, FILE),
            "a batch wrote to the file"
        );
        self.log(&now);
        self.before = now;
    }

    fn checkpoint(&mut self, now: Image) {
        self.log(&now);
        self.recording.sync(WAL);
        self.chunks(FILE, &now, 0, PAGE_BYTES);
        self.recording.resize(FILE, content(&now, FILE).len());
        self.recording.sync(FILE);
        self.before = now;
    }

    /// What was appended to the log, or written to the start of it.
    fn log(&mut self, now: &Image) {
        let (old, new) = (content(&self.before, WAL), content(now, WAL));
        if old.get(..HEADER_BYTES) != new.get(..HEADER_BYTES) && !new.is_empty() {
            self.recording.write(WAL, 0, &new[..HEADER_BYTES]);
            self.recording.sync(WAL);
        }
        self.chunks(WAL, now, HEADER_BYTES, FRAME_BYTES);
    }

    /// Writes the pieces of a file that changed.
    fn chunks(&mut self, file: &str, now: &Image, first: usize, bytes: usize) {
        let old = content(&self.before, file).to_vec();
        let new = content(now, file);
        for (at, data) in (0..).zip(new.get(first..).unwrap_or_default().chunks(bytes)) {
            let offset = first + at * bytes;
            if old.get(offset..offset + data.len()) != Some(data) {
                self.recording.write(file, offset, data);
            }
        }
    }
}

fn content<'a>(image: &'a Image, file: &str) -> &'a [u8] {
    image.files.get(file).map_or(&[], Vec::as_slice)
}
