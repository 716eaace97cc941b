// SPDX-License-Identifier: Apache-2.0
//! The memory engine: for tests and the simulation, with a crash model.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::{Batch, Engine, Error, Order, Read, Usage, Visitor};

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
    /// One reference for each snapshot that is alive, and this one.
    snapshots: Arc<()>,
}

impl MemoryEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another engine with what this one holds now: a backup, or a store that was copied.
    #[must_use]
    pub fn copied(&self) -> Self {
        let rows = self.rows();
        Self {
            state: Arc::new(RwLock::new(State {
                durable: Arc::clone(&rows),
                rows,
                ..State::default()
            })),
        }
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
struct MemorySnapshot {
    rows: Arc<Rows>,
    _counted: Arc<()>,
}

fn visit(
    rows: &Rows,
    range: Range<&[u8]>,
    order: Order,
    visitor: &mut Visitor<'_>,
) -> Result<(), Error> {
    if range.start >= range.end {
        return Ok(());
    }
    let bounds = (Bound::Included(range.start), Bound::Excluded(range.end));
    let mut range = rows.range::<[u8], _>(bounds);
    while let Some((key, value)) = match order {
        Order::Ascending => range.next(),
        Order::Descending => range.next_back(),
    } {
        if visitor(key, value).is_break() {
            break;
        }
    }
    Ok(())
}

impl Read for MemorySnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.rows.get(key).cloned())
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        visit(&self.rows, range, order, visitor)
    }
}

impl Read for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Ok(state.rows.get(key).cloned())
    }

    fn visit(
        &self,
        range: Range<&[u8]>,
        order: Order,
        visitor: &mut Visitor<'_>,
    ) -> Result<(), Error> {
        visit(&self.rows(), range, order, visitor)
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
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(MemorySnapshot {
            rows: Arc::clone(&state.rows),
            _counted: Arc::clone(&state.snapshots),
        }))
    }

    fn usage(&self) -> Result<Usage, Error> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Usage {
            disk_bytes: 0,
            n_snapshots: Arc::strong_count(&state.snapshots) - 1,
        })
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
