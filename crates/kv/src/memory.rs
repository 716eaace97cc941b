// SPDX-License-Identifier: Apache-2.0
//! The memory engine: for tests and the simulation, with a crash model.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::{Batch, Engine, Error, Read, Row};

type Rows = BTreeMap<Vec<u8>, Bytes>;

/// Rows in memory. Clones share them, as a reopened file would.
#[derive(Clone, Default, Debug)]
pub struct MemoryEngine {
    state: Arc<RwLock<State>>,
}

#[derive(Default, Debug)]
struct State {
    rows: Arc<Rows>,
    durable: Arc<Rows>,
    since: Vec<Batch>,
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Crashes: what was there at the last checkpoint stays, and of the later batches those
    /// for which `keeps` says so, by their number.
    pub fn crash(&self, mut keeps: impl FnMut(usize) -> bool) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut rows = (*state.durable).clone();
        for (at, batch) in std::mem::take(&mut state.since).iter().enumerate() {
            if keeps(at) {
                apply(&mut rows, batch);
            }
        }
        state.rows = Arc::new(rows);
        state.durable = Arc::clone(&state.rows);
    }

    fn rows(&self) -> Arc<Rows> {
        Arc::clone(
            &self
                .state
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .rows,
        )
    }
}

fn apply(rows: &mut Rows, batch: &Batch) {
    for (key, value) in &batch.writes {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

/// One state of the rows.
struct MemorySnapshot(Arc<Rows>);

impl Read for MemorySnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = self.0.range(from.to_vec()..to.to_vec()).take(limit);
        Ok(range
            .map(|(key, value)| (Bytes::copy_from_slice(key), value.clone()))
            .collect())
    }
}

impl Read for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        MemorySnapshot(self.rows()).get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, Error> {
        MemorySnapshot(self.rows()).scan(from, to, limit)
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Copied only while a snapshot or a checkpoint still holds the rows.
        apply(Arc::make_mut(&mut state.rows), &batch);
        state.since.push(batch);
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.durable = Arc::clone(&state.rows);
        state.since.clear();
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn Read>, Error> {
        Ok(Box::new(MemorySnapshot(self.rows())))
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
