// SPDX-License-Identifier: Apache-2.0
//! Storage under redb that keeps everything it is asked to do.

use std::io;
use std::sync::Arc;

use dulse_engine_redb::{Options, RedbEngine};
use dulse_kv_testkit::crash::{Image, Recording, Rig, Step, Work};
use parking_lot::Mutex;
use redb::StorageBackend;

/// The file that the engine uses.
const FILE: &str = "store.redb";

/// So small that pages are also written between checkpoints.
const CACHE_SIZE_BYTES: usize = 256 << 10;

/// Records what redb does to its file, from the first byte of a new store on.
pub(crate) struct Recorded;

impl Rig for Recorded {
    fn record(&self, image: &Image, work: &mut Work<'_>) -> Recording {
        let storage = Storage::default();
        let content = image.files.get(FILE).cloned();
        storage.state.lock().content = content.unwrap_or_default();
        let options = Options {
            cache_size_bytes: CACHE_SIZE_BYTES,
        };
        let engine = RedbEngine::with_backend(storage.clone(), options).expect("open the store");
        if image.files.is_empty() {
            // A new store is made under another name, so half of one is never opened.
            let recording = &mut storage.state.lock().recording;
            recording.n_opening = recording.steps.len();
        }
        work(&engine, &mut |event| storage.push(Step::Event(event)));
        drop(engine);
        std::mem::take(&mut storage.state.lock().recording)
    }
}

#[derive(Clone, Default, Debug)]
struct Storage {
    state: Arc<Mutex<State>>,
}

#[derive(Default, Debug)]
struct State {
    content: Vec<u8>,
    recording: Recording,
}

impl Storage {
    fn push(&self, step: Step) {
        self.state.lock().recording.steps.push(step);
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().content.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let state = self.state.lock();
        let bytes = state.content.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.state.lock().content.resize(len, 0);
        let file = FILE.to_owned();
        self.push(Step::Resize { file, len });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = FILE.to_owned();
        self.push(Step::Sync { file });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut state = self.state.lock();
        let end = offset + data.len();
        if state.content.len() < end {
            state.content.resize(end, 0);
        }
        state.content[offset..end].copy_from_slice(data);
        state.recording.steps.push(Step::Write {
            file: FILE.to_owned(),
            offset,
            data: data.to_vec(),
        });
        Ok(())
    }
}
