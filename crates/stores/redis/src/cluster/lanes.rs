// SPDX-License-Identifier: Apache-2.0
//! What became of a write whose answer was lost: known, not guessed.
//!
//! Each process has one lane in every slot that it writes in: a key that the script which writes
//! a row sets to the number of that write, in the same go. Who wants to know about a lost one
//! asks for the lane: its number is there, or it is put there as one that was not made, and then
//! the lost one can never be made any more. One write at a time is on a lane.
//!
//! A ticket for each write, as where one server has all keys, was considered: it would be one key
//! more to set and to remove for every row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_shared::RowWrite;
use dulse_store::{Error, ErrorKind, Operation};
use futures::StreamExt;
use futures::stream;
use redis::{Cmd, Value};
use tokio::sync::{Mutex, MutexGuard};

use super::nodes::{Failed, Nodes, Routed};
use super::scripts;
use super::slots::{Places, SLOTS, slot_of};
use crate::error;

/// Seconds after which a lane goes that nobody writes on any more: longer than any connection
/// brings what was sent on it.
pub(super) const LANE_TIME_S: u32 = 3_600;

/// How long it is asked what became of a lost write.
const ASK_TIME_MAX: Duration = Duration::from_secs(10);

/// How long others of this process are waited for: one after another they write on a lane, or
/// change the names of a directory.
pub(super) const WAIT_TIME_MAX: Duration = Duration::from_secs(20);

/// Lost writes that are asked for at once.
const ASKS_MAX: usize = 16;

/// Pause before it is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(100);

/// The lanes of this process: of each slot, the number of its last write.
pub(super) struct Lanes {
    process: u64,
    slots: Vec<Mutex<u64>>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            process: rand::random(),
            slots: (0..SLOTS).map(|_| Mutex::new(0)).collect(),
        }
    }

    fn key(&self, places: &Places, slot: u16) -> Vec<u8> {
        places.key(slot, format!(".lane.{:016x}", self.process).as_bytes())
    }

    /// Writes rows, each if it is as it was read, in one go to all servers; knows of each whether
    /// it did, also when the answer is lost.
    ///
    /// - `rows`: at most one of each slot, since one write at a time is on a lane.
    pub(super) async fn write(
        &self,
        nodes: &Nodes,
        places: &Places,
        rows: &[LaneWrite<'_>],
    ) -> Vec<Result<bool, Error>> {
        let slots: Vec<u16> = rows.iter().map(|row| slot_of(&row.key)).collect();
        let mut held = match in_time(self.hold(&slots), WAIT_TIME_MAX).await {
            Ok(held) => held,
            Err(error) => return rows.iter().map(|_| Err(error.repeated())).collect(),
        };
        let (mut commands, mut marks) = (Vec::new(), Vec::new());
        for (row, slot) in rows.iter().zip(&slots) {
            let Some(last) = held.get_mut(slot) else {
                continue;
            };
            **last += 1;
            // Of as many digits as every other, so that their order is that of texts.
            let (lane, number) = (self.key(places, *slot), format!("{:020}", **last));
            let command = row.command(&lane, &number);
            commands.push(Routed {
                slot: *slot,
                command,
            });
            marks.push((*slot, lane, number));
        }
        let answers = nodes.ask_each(Operation::Commit, commands).await;
        assert_eq!(answers.len(), rows.len(), "each write has an answer");
        let began = Instant::now();
        let outcomes: Vec<_> = marks
            .iter()
            .zip(answers)
            .map(|(mark, answer)| outcome(nodes, mark, answer, began))
            .collect();
        // Order: the lanes are held until what became of every write is known.
        stream::iter(outcomes).buffered(ASKS_MAX).collect().await
    }

    /// The numbers of some lanes, which nobody else writes on meanwhile.
    async fn hold(&self, slots: &[u16]) -> BTreeMap<u16, MutexGuard<'_, u64>> {
        // Order: ascending, so that two never wait for one another.
        let slots: BTreeSet<u16> = slots.iter().copied().collect();
        let mut held = BTreeMap::new();
        for slot in slots {
            if let Some(lane) = self.slots.get(usize::from(slot)) {
                held.insert(slot, lane.lock().await);
            }
        }
        held
    }
}

/// One row to write.
pub(super) struct LaneWrite<'a> {
    /// Its key.
    pub(super) key: Vec<u8>,
    pub(super) write: &'a RowWrite,
    /// Seconds until the server takes it out; 0 for never.
    pub(super) ttl_s: i32,
}

impl LaneWrite<'_> {
    fn command(&self, lane: &[u8], number: &str) -> Cmd {
        let write = self.write;
        let nothing = Bytes::new();
        let (has_before, before) = match &write.before {
            Some(value) => ("1", value),
            None => ("0", &nothing),
        };
        let (does, after) = match &write.after {
            None => ("0", &nothing),
            after if *after == write.before => ("2", &nothing),
            Some(value) => ("1", value),
        };
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::WRITE).arg(2).arg(&self.key).arg(lane);
        command.arg(number).arg(has_before).arg(&before[..]);
        command
            .arg(does)
            .arg(&after[..])
            .arg(self.ttl_s)
            .arg(LANE_TIME_S);
        command
    }
}

/// What became of a write, by its answer or, where that was lost, by its lane.
async fn outcome(
    nodes: &Nodes,
    (slot, lane, number): &(u16, Vec<u8>, String),
    answer: Result<Value, Failed>,
    began: Instant,
) -> Result<bool, Error> {
    let failed = match answer {
        Ok(Value::Int(1)) => return Ok(true),
        // 2: one that was sent before met another row, and forbade the rest.
        Ok(Value::Int(0 | 2)) => return Ok(false),
        Ok(other) => {
            let error = error::answer(Operation::Commit, "0, 1 or 2", &other);
            return Err(error.unknown_outcome());
        }
        Err(failed) => failed,
    };
    if !failed.was_sent {
        return Err(failed.error);
    }
    tracing::debug!(error = %failed.error, "the answer to a write was lost; asking what became of it");
    match settle(nodes, *slot, lane, number, began).await {
        Some(true) => Ok(true),
        Some(false) => {
            let lost = Error::new(Operation::Commit, ErrorKind::Unavailable);
            Err(lost.source(failed.error))
        }
        // A later write on the lane forbids it.
        None => Err(failed.error.unknown_outcome()),
    }
}

/// What comes in time, such as a lock of this process.
pub(super) async fn in_time<T>(
    waiting: impl Future<Output = T>,
    limit: Duration,
) -> Result<T, Error> {
    let waited = tokio::time::timeout(limit, waiting).await;
    waited.map_err(|_| {
        let text = "other writes of this filer wait for the same server";
        let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
        error.with("because", text)
    })
}

/// Whether a write was made; if not, it never will be. `None` when no server says so in time.
///
/// - `began`: since when all that were lost together are asked for.
async fn settle(
    nodes: &Nodes,
    slot: u16,
    key: &[u8],
    number: &str,
    began: Instant,
) -> Option<bool> {
    loop {
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::SETTLE).arg(1).arg(key);
        command.arg(number).arg(LANE_TIME_S);
        match nodes.ask(Operation::Commit, slot, command).await {
            Ok(Value::Int(made)) => return Some(made == 1),
            Ok(other) => {
                tracing::debug!(?other, "a lane says something else");
                return None;
            }
            Err(failed) if began.elapsed() < ASK_TIME_MAX => {
                tracing::debug!(error = %failed.error, "what became of a write is not known yet");
                tokio::time::sleep(ASK_PAUSE).await;
            }
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use dulse_store::Outcome;

    use super::*;

    #[tokio::test]
    async fn a_lock_that_is_not_given_up_is_waited_for_no_longer_than_that() {
        let lock = Mutex::new(0);
        let held = in_time(lock.lock(), Duration::ZERO).await.unwrap();
        let refused = in_time(lock.lock(), Duration::from_millis(1)).await;
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.outcome(), Outcome::NotApplied);
        drop(held);
        drop(in_time(lock.lock(), Duration::ZERO).await.unwrap());
    }
}
