// SPDX-License-Identifier: Apache-2.0
//! Ids for new chunks, asked of the master in small batches.
//!
//! A batch lies on one volume and its token lives for ten seconds, so batches
//! follow demand: they double while they are used up in time and halve when
//! some expire. One caller per placement asks, the others wait for its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dulse_types::FileId;
use parking_lot::Mutex;

use crate::Error;
use crate::control::{Control, Location, Placement};

/// Largest batch: a volume does not fill by surprise, and the loss at expiry is small.
const BATCH_MAX: u64 = 64;

/// How long a batch is used; half of the life of upstream's upload tokens.
const BATCH_AGE_MAX: Duration = Duration::from_secs(5);

/// Placements remembered; above it all are dropped, which costs one question each.
const PLACEMENTS_MAX: usize = 1024;

/// A place for one chunk.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// The id as entries store it.
    pub(crate) id: FileId,
    /// The id as the upload's path spells it; with a token it names the batch's first id.
    pub(crate) path: String,
    /// All copies; the first takes the upload.
    pub(crate) locations: Arc<[Location]>,
    /// Token; empty when none is needed.
    pub(crate) auth: Arc<str>,
}

/// Hands out slots.
pub(crate) struct Assigner {
    control: Arc<dyn Control>,
    pools: Mutex<HashMap<Placement, Arc<tokio::sync::Mutex<Pool>>>>,
}

struct Pool {
    slots: VecDeque<Slot>,
    since: Instant,
    batch: u64,
}

impl Assigner {
    pub(crate) fn new(control: Arc<dyn Control>) -> Self {
        Self {
            control,
            pools: Mutex::default(),
        }
    }

    /// A slot, from the batch at hand or from the master.
    pub(crate) async fn slot(&self, placement: &Placement) -> Result<Slot, Error> {
        let pool = self.pool(placement);
        let mut pool = pool.lock().await;
        pool.adapt();
        if let Some(slot) = pool.slots.pop_front() {
            return Ok(slot);
        }
        let assigned = self.control.assign(placement, pool.batch).await?;
        let locations: Arc<[Location]> = assigned.locations.into();
        let auth: Arc<str> = assigned.auth.into();
        pool.since = Instant::now();
        for delta in 0..assigned.count.clamp(1, BATCH_MAX) {
            let id = FileId {
                key: assigned.base.key.saturating_add(delta),
                ..assigned.base
            };
            let path = match delta {
                1.. if !auth.is_empty() => format!("{}_{delta}", assigned.base),
                _ => id.to_string(),
            };
            pool.slots.push_back(Slot {
                id,
                path,
                locations: locations.clone(),
                auth: auth.clone(),
            });
        }
        pool.slots
            .pop_front()
            .ok_or_else(|| Error::Assign("the master assigned no id".to_owned()))
    }

    /// Drops what is left of a batch whose volume refused an upload.
    pub(crate) async fn discard(&self, placement: &Placement, volume_id: u32) {
        let pool = self.pool(placement);
        let mut pool = pool.lock().await;
        pool.slots.retain(|slot| slot.id.volume_id != volume_id);
    }

    fn pool(&self, placement: &Placement) -> Arc<tokio::sync::Mutex<Pool>> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(placement) {
            return pool.clone();
        }
        if pools.len() >= PLACEMENTS_MAX {
            pools.clear();
        }
        let pool = Arc::new(tokio::sync::Mutex::new(Pool {
            slots: VecDeque::new(),
            since: Instant::now(),
            batch: 1,
        }));
        pools.insert(placement.clone(), pool.clone());
        pool
    }
}

impl Pool {
    /// Drops an expired batch and sizes the next one by how this one was used.
    fn adapt(&mut self) {
        let is_old = self.since.elapsed() > BATCH_AGE_MAX;
        if is_old {
            self.batch = (self.batch / 2).max(1);
            self.slots.clear();
        } else if self.slots.is_empty() {
            self.batch = (self.batch * 2).min(BATCH_MAX);
        }
    }
}
