// SPDX-License-Identifier: Apache-2.0
//! One subscription's way through the log, without IO of its own: the service asks it for
//! events, and so does the simulation.

use dulse_proto::filer::SubscribeMetadataResponse;
use dulse_store::Error;
use dulse_types::{Origin, Stamp, Vector};

use super::hub::{Head, Hub};
use super::merging::Merging;

/// See the module.
pub struct Reading {
    since: Stamp,
    merging: Merging,
    /// Only these origins' events are wanted; all when there are none.
    only: Vec<Origin>,
    /// What was to be read next is no longer kept.
    cut: Option<(Origin, Stamp)>,
}

impl Reading {
    /// A subscription of every event at or above `since`: inclusive, an event at exactly
    /// `since` may be repeated, never skipped.
    ///
    /// - `only`: whose; everybody's when empty.
    #[must_use]
    pub fn new(since: Stamp, only: Vec<Origin>) -> Self {
        Self {
            since,
            merging: Merging::new(since),
            only,
            cut: None,
        }
    }

    /// Has events told that came after others had been told up to its cursor. Not for a
    /// subscription that gets the state instead.
    pub fn take_late(&mut self, hub: &Hub) {
        for (origin, from) in hub.late_since(self.since) {
            if !self.wants(origin) {
                continue;
            }
            self.merging.begin_at(origin, from);
        }
    }

    /// Whether the state may be taken in place of the log. ⚠ Once it holds all that there is up to
    /// the cursor: what came later and belongs below it would never be told.
    #[must_use]
    pub fn may_take_state(&self, limit: Stamp) -> bool {
        limit >= self.since
    }

    /// Everything up to a vector was told in another way, the last at `ts`.
    pub fn skip_to(&mut self, vector: &Vector, ts: Stamp) {
        self.merging.skip_to(vector, ts);
    }

    /// The next event at or below `limit`; `None` when there is none, or what follows is no
    /// longer kept: [`Reading::is_cut`].
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn next(
        &mut self,
        hub: &Hub,
        head: &Head,
        limit: Stamp,
    ) -> Result<Option<SubscribeMetadataResponse>, Error> {
        self.fill(hub, head)?;
        if self.is_cut() {
            return Ok(None);
        }
        Ok(self.merging.next(limit))
    }

    /// Whether what follows is no longer kept.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// Whose changes, up to which stamp, are no longer kept.
    pub fn take_cut(&mut self) -> Option<(Origin, Stamp)> {
        self.cut.take()
    }

    fn wants(&self, origin: Origin) -> bool {
        self.only.is_empty() || self.only.contains(&origin)
    }

    /// Reads on where nothing waits. ⚠ Before every event: one of an origin that was not
    /// read so far may come first.
    fn fill(&mut self, hub: &Hub, head: &Head) -> Result<(), Error> {
        for (origin, last) in head.durable.iter() {
            if !self.wants(origin) {
                continue;
            }
            while let Some(after) = self.merging.wants(origin, last) {
                let page = hub.log.page(origin, after, last, hub.page_bytes())?;
                if let Some(at) = page.cut {
                    self.cut = Some((origin, at));
                    return Ok(());
                }
                self.merging.add(origin, page);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subscriber took the state of a filer that had yet to get a change below its cursor, and
    /// was never told of that.
    #[test]
    fn the_state_is_taken_once_it_holds_all_up_to_the_cursor() {
        let reading = Reading::new(Stamp(9), Vec::new());
        assert!(!reading.may_take_state(Stamp(8)));
        assert!(reading.may_take_state(Stamp(9)));
    }
}
