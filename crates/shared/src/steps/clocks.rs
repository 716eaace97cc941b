// SPDX-License-Identifier: Apache-2.0
//! Order between filers where the database has no clock for all: a number per filer in the
//! database, raised to a change's stamp before its first row is written.
//!
//! Of two writes of one row, by two filers, the later is told with the greater stamp in the end.
//! A filer that has written reads the others' numbers. None is above its stamp: whoever wrote
//! the row before it has a lower one. One is above: it takes a new stamp above all of them,
//! raises its own number to that and reads its rows again. Where they are still as it left them,
//! what came before has a lower stamp, and whoever writes over them later meets the raised
//! number and does the same. Where they are not, whoever wrote them is told later than both.
//!
//! A clock that is ahead drags stamps along and breaks nothing; no two clocks are compared.

use std::sync::atomic::{AtomicI64, Ordering};

use dulse_store::Error;
use dulse_types::{Origin, Stamp};
use tokio::sync::Mutex;

use crate::log::Log;
use crate::rows::{Rows, wall_clock_ns};

/// What one filer knows of all.
#[derive(Default)]
pub(crate) struct Clocks {
    /// This filer's number in the database.
    own: Mutex<i64>,
    /// The greatest of all that was seen.
    seen: AtomicI64,
}

impl Clocks {
    /// Learns the numbers of an earlier run, and of others.
    pub(crate) async fn open<R: Rows>(&self, rows: &R) -> Result<(), Error> {
        for (_, stamp) in rows.raised().await? {
            self.seen.fetch_max(stamp, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Where the next stamp begins.
    pub(crate) fn floor(&self) -> i64 {
        let seen = self.seen.load(Ordering::SeqCst);
        wall_clock_ns().max(seen.saturating_add(1))
    }

    /// Raises this filer's number to a stamp that was given, and to those given since: one call
    /// of the database serves all that wait.
    pub(crate) async fn raise<R: Rows>(
        &self,
        rows: &R,
        log: &Log,
        stamp: Stamp,
    ) -> Result<(), Error> {
        let mut own = self.own.lock().await;
        if *own >= stamp.0 {
            return Ok(());
        }
        let target = log.last().0.max(stamp.0);
        rows.raise(slot(log.origin()), target).await?;
        *own = target;
        Ok(())
    }

    /// The greatest number of another filer; zero where there is none.
    pub(crate) async fn others<R: Rows>(&self, rows: &R, own: Origin) -> Result<i64, Error> {
        let all = rows.raised().await?;
        let others = all.into_iter().filter(|(filer, _)| *filer != slot(own));
        let greatest = others.map(|(_, stamp)| stamp).max().unwrap_or(0);
        self.seen.fetch_max(greatest, Ordering::SeqCst);
        Ok(greatest)
    }
}

/// What tells filers on one store apart.
fn slot(origin: Origin) -> u32 {
    (origin.0 >> 32) as u32
}
