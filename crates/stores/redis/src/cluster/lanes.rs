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
        let mut parts: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            // Order: a server that does not answer holds up no lanes of others.
            let server = nodes.node_of(slot_of(&row.key));
            parts.entry(server).or_default().push(i);
        }
        let writes = parts.into_values().map(|which| async move {
            let part: Vec<_> = which.iter().map(|i| &rows[*i]).collect();
            let made = self.write_part(nodes, places, &part).await;
            which.into_iter().zip(made).collect::<Vec<_>>()
        });
        let made = futures::future::join_all(writes).await;
        let mut made: Vec<_> = made.into_iter().flatten().collect();
        made.sort_by_key(|(i, _)| *i);
        made.into_iter().map(|(_, made)| made).collect()
    }

    /// The same of rows that one server is thought to have.
    async fn write_part(
        &self,
        nodes: &Nodes,
        places: &Places,
        rows: &[&LaneWrite<'_>],
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
            marks.push(Mark {
                slot: *slot,
                lane,
                number,
            });
        }
        let answers = nodes.ask_each(Operation::Commit, commands).await;
        assert_eq!(answers.len(), rows.len(), "each write has an answer");
        let is_lost = |answer: &Result<Value, Failed>| matches!(answer, Err(f) if f.was_sent);
        let mut lost = Vec::new();
        for (mark, answer) in marks.iter().zip(&answers) {
            match is_lost(answer) {
                true => lost.push(mark),
                false => drop(held.remove(&mark.slot)),
            }
        }
        // Order: their lanes are held until what became of the lost ones is known.
        let mut settled = settle(nodes, &lost).await.into_iter();
        let told = answers.into_iter().map(|answer| match is_lost(&answer) {
            true => outcome(answer, settled.next().flatten()),
            false => outcome(answer, None),
        });
        told.collect()
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

/// Where it is told what became of a write.
struct Mark {
    slot: u16,
    /// The key.
    lane: Vec<u8>,
    number: String,
}

/// What became of a write, by its answer or, where that was lost, by what its lane says.
fn outcome(answer: Result<Value, Failed>, settled: Option<bool>) -> Result<bool, Error> {
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
    match settled {
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

/// Whether each of some writes was made; if not, it never will be. `None` when no server says so
/// in time. All are asked for together: servers that do not answer are waited for once.
async fn settle(nodes: &Nodes, lost: &[&Mark]) -> Vec<Option<bool>> {
    let mut settled = vec![None; lost.len()];
    let mut open: Vec<usize> = (0..lost.len()).collect();
    let began = Instant::now();
    while !open.is_empty() {
        tracing::debug!(
            n_writes = open.len(),
            "answers to writes were lost; asking what became of them"
        );
        let commands = open.iter().map(|i| {
            let mut command = redis::cmd("EVAL");
            command.arg(scripts::SETTLE).arg(1).arg(&lost[*i].lane);
            command.arg(&lost[*i].number).arg(LANE_TIME_S);
            let slot = lost[*i].slot;
            Routed { slot, command }
        });
        let answers = nodes.ask_each(Operation::Commit, commands.collect()).await;
        let mut left = Vec::new();
        for (i, answer) in open.into_iter().zip(answers) {
            match answer {
                Ok(Value::Int(made)) => settled[i] = Some(made == 1),
                Ok(other) => tracing::debug!(?other, "a lane says something else"),
                Err(failed) => {
                    tracing::debug!(error = %failed.error, "what became of a write is not known");
                    left.push(i);
                }
            }
        }
        if began.elapsed() >= ASK_TIME_MAX {
            break;
        }
        if !left.is_empty() {
            tokio::time::sleep(ASK_PAUSE).await;
        }
        open = left;
    }
    settled
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
