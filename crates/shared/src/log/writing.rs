// SPDX-License-Identifier: Apache-2.0
//! The thread that writes the journal: one sync for all that wait.

use std::sync::mpsc;

use dulse_journal::{Journal, Record};
use dulse_store::Error;
use tokio::sync::oneshot;

use super::{intent_at, journal};
use crate::record::Payload;

/// Requests that one sync serves, at most.
const GROUP_MAX: usize = 1_024;

/// Answered when the records are on disk, with the position of the first.
pub(super) type Answer = oneshot::Sender<Result<u64, Error>>;

/// What is to be written together.
pub(super) struct Job {
    pub(super) records: Vec<Record>,
    /// Where the intent is whose outcome the record is.
    pub(super) outcome_of: Option<u64>,
    pub(super) answer: Answer,
}

/// Appends what is asked for, until nobody can ask.
pub(super) fn write(journal: &Journal, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        while jobs.len() < GROUP_MAX
            && let Ok(next) = queue.try_recv()
        {
            jobs.push(next);
        }
        let positions: Vec<_> = jobs.iter_mut().map(|job| append(journal, job)).collect();
        let mut failed = None;
        if let Err(error) = journal.sync() {
            tracing::error!(%error, "the journal cannot be written; changes are refused");
            failed = Some(self::journal(error));
        }
        for (job, position) in jobs.into_iter().zip(positions) {
            let result = match &failed {
                Some(error) => Err(error.repeated()),
                None => position,
            };
            // Who asked may have gone.
            let _ = job.answer.send(result);
        }
    }
}

/// Appends a job's records; gives the position of the first.
fn append(journal: &Journal, job: &mut Job) -> Result<u64, Error> {
    if let Some(position) = job.outcome_of {
        stand_alone(journal, &mut job.records, position)?;
    }
    let size: u64 = job.records.iter().map(Record::size).sum();
    let end = journal.append(&job.records).map_err(self::journal)?;
    Ok(end - size)
}

/// ⚠ An outcome that would come into another segment than its intent has what is told in itself:
/// segments are dropped whole, oldest first, and that of the intent before that of the outcome.
fn stand_alone(journal: &Journal, records: &mut [Record], position: u64) -> Result<(), Error> {
    if position >= journal.next_segment() {
        return Ok(());
    }
    for record in records {
        let payload = Payload::decode(&record.payload).map_err(super::corrupt)?;
        if let Payload::Applied { position } = payload {
            let announced = intent_at(journal, position)?;
            let whole = Payload::Seen {
                position,
                announced,
            };
            record.payload = whole.encode();
        }
    }
    Ok(())
}
