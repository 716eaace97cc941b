// SPDX-License-Identifier: Apache-2.0
//! Members that were shut out and answer all the same: they went on apart from the others, and
//! so did whoever followed the changes at them.

use std::collections::BTreeMap;
use std::time::Duration;

use dulse_merge::{MemberRow, Txn};
use dulse_store::Error;
use dulse_types::{Origin, Stamp};
use parking_lot::Mutex;

use crate::sequencer::member;
use crate::shared::{EngineRows, Shared};

/// One that answers goes on telling its subscribers until it has heard that it is out, and its
/// clock may be ahead.
const GOES_ON: Duration = Duration::from_secs(2);

/// Of each such member: since when, and until when, it was apart. One row of the log each, so
/// there are no more than of those. Gone with the process.
#[derive(Default, Debug)]
pub(crate) struct Apart(Mutex<BTreeMap<Origin, (Stamp, Stamp)>>);

impl Shared {
    /// A filer answers, or asks. ⚠ One that was shut out and is alive may have shut out the
    /// others in turn, or left them out after a while: what it has told since to be complete
    /// lacks what they wrote.
    /// Cost: one row.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn met(&self, origin: Origin) -> Result<(), Error> {
        let row = member(&Txn::new(&EngineRows(&*self.engine)), origin)?;
        let is_out = |row: MemberRow| matches!(row.state, MemberRow::FENCED | MemberRow::REMOVED);
        if origin == self.origin || !row.is_some_and(is_out) {
            return Ok(());
        }
        let vector = self.vector();
        let now = Stamp(self.now_ns()).max(vector.get(self.origin));
        let goes_on = i64::try_from(GOES_ON.as_nanos()).unwrap_or(i64::MAX);
        let until = Stamp(now.0.saturating_add(goes_on));
        // What is here of its log it wrote before it was apart.
        let from = vector.get(origin);
        self.apart.0.lock().insert(origin, (from, until));
        Ok(())
    }

    /// Whether a scalar cursor may be that of a subscriber which followed the changes at a
    /// member that went on apart from the others: what these wrote below it that one did not
    /// have. False after a restart, until that one is met again.
    #[must_use]
    pub fn is_from_apart(&self, since: Stamp) -> bool {
        let apart = self.apart.0.lock();
        let mut stretches = apart.values();
        stretches.any(|(from, until)| since > *from && since <= *until)
    }
}
