// SPDX-License-Identifier: Apache-2.0
//! What clients do in scenarios, in one line each.

use dulse_store::{Commit, Step};
use dulse_types::Entry;
use dulse_types::entry::{FileChunk, UnknownFields};

use crate::volumes::chunks_of;
use crate::workload::make::{directory, file, path};
use crate::world::World;

impl World {
    /// Creates a file with a chunk of its own.
    #[track_caller]
    pub(crate) fn create(&mut self, f: usize, at: &str) -> Entry {
        let entry = file(&mut self.rng);
        let entry = self.appended(&entry);
        let step = Step::Create {
            path: path(at),
            entry: entry.clone(),
        };
        self.step(f, step).unwrap();
        entry
    }

    /// Makes a directory.
    #[track_caller]
    pub(crate) fn mkdir(&mut self, f: usize, at: &str) {
        let entry = directory(&mut self.rng);
        let path = path(at);
        self.step(f, Step::Create { path, entry }).unwrap();
    }

    /// Appends a chunk to what is shown.
    #[track_caller]
    pub(crate) fn append(&mut self, f: usize, at: &str) -> Entry {
        let entry = self.entry(f, at).expect("a file is there");
        let entry = self.appended(&entry);
        let step = Step::Update {
            path: path(at),
            entry: entry.clone(),
            delete_chunks: true,
        };
        self.step(f, step).unwrap();
        entry
    }

    /// Renames.
    #[track_caller]
    pub(crate) fn rename(&mut self, f: usize, from: &str, to: &str) {
        let (from, to) = (path(from), path(to));
        self.step(f, Step::Rename { from, to }).unwrap();
    }

    /// Makes a hard link.
    #[track_caller]
    pub(crate) fn link(&mut self, f: usize, from: &str, to: &str) -> Commit {
        let (from, to) = (path(from), path(to));
        self.step(f, Step::Link { from, to }).unwrap()
    }

    /// Deletes.
    #[track_caller]
    pub(crate) fn delete(&mut self, f: usize, at: &str) {
        let step = Step::Delete {
            path: path(at),
            delete_chunks: true,
        };
        self.step(f, step).unwrap();
    }

    /// How many names the file at a path has.
    #[track_caller]
    pub(crate) fn n_links(&self, f: usize, at: &str) -> u32 {
        let running = self.filers[f].running.as_ref().expect("the filer runs");
        let found = running.shared().find(&path(at)).unwrap();
        found.expect("a file is there").n_links
    }

    /// How many chunks the file at a path has.
    #[track_caller]
    pub(crate) fn n_chunks(&self, f: usize, at: &str) -> usize {
        chunks_of(&self.entry(f, at).expect("a file is there")).len()
    }

    fn appended(&mut self, entry: &Entry) -> Entry {
        let mut fields = entry.fields().unwrap();
        let mut chunk = FileChunk {
            size: 1,
            ..FileChunk::default()
        };
        chunk.set_id(self.volumes.write());
        fields.chunks.push(chunk);
        fields.to_entry(&UnknownFields::default())
    }

    /// Heals all, demands that all are level, and that what is superfluous goes in time.
    #[track_caller]
    pub(crate) fn demand_end(&mut self) {
        self.demand_level();
        if let Err(why) = self.linger() {
            panic!("{}", self.dated(&why));
        }
    }
}
