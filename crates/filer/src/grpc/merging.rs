// SPDX-License-Identifier: Apache-2.0
//! Events of all origins as one stream: in order of stamps up to the low watermark, each
//! exactly once. One page per origin waits in memory, whatever the backlog.

use std::collections::{BTreeMap, VecDeque};

use dulse_proto::filer::SubscribeMetadataResponse;
use dulse_types::{Origin, Stamp, Vector};

/// Where one subscriber stands.
#[derive(Default)]
pub(super) struct Merging {
    since: Stamp,
    /// Of each origin: what was read of its log, and the events that wait.
    lanes: BTreeMap<Origin, Lane>,
    /// `ts_ns` of the last event given.
    last: Stamp,
}

#[derive(Default)]
struct Lane {
    through: Stamp,
    waiting: VecDeque<(Stamp, SubscribeMetadataResponse)>,
}

impl Merging {
    /// A subscriber that wants every event at or above `since`.
    pub(super) fn new(since: Stamp) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    /// The stamp behind which the origin's log is to be read; `None` while events of it wait
    /// or all up to `last` was read. ⚠ An origin that appears later is read from `since` on,
    /// too: what a filer that was away did before the watermark comes late, not never.
    pub(super) fn wants(&mut self, origin: Origin, last: Stamp) -> Option<Stamp> {
        let before = Stamp(self.since.0.saturating_sub(1).max(0));
        let lane = self.lanes.entry(origin).or_insert_with(|| Lane {
            through: before,
            waiting: VecDeque::new(),
        });
        (lane.waiting.is_empty() && lane.through < last).then_some(lane.through)
    }

    /// Everything up to a vector was told in another way.
    pub(super) fn skip_to(&mut self, vector: &Vector) {
        for (origin, stamp) in vector.iter() {
            self.lanes.entry(origin).or_default().through = stamp;
        }
    }

    /// What was read of an origin, up to `reached`.
    pub(super) fn add(
        &mut self,
        origin: Origin,
        reached: Stamp,
        events: Vec<(Stamp, SubscribeMetadataResponse)>,
    ) {
        let lane = self.lanes.entry(origin).or_default();
        lane.through = lane.through.max(reached);
        // A change reserves a stamp per event: the first of them may lie before `since`.
        let wanted = events.into_iter().filter(|(stamp, _)| *stamp >= self.since);
        lane.waiting.extend(wanted);
    }

    /// The next event at or below the watermark; its `ts_ns` never goes back: one that comes
    /// late is raised to the last one's.
    pub(super) fn next(&mut self, limit: Stamp) -> Option<SubscribeMetadataResponse> {
        let fronts = self.lanes.iter().filter_map(|(origin, lane)| {
            let (stamp, _) = lane.waiting.front()?;
            Some((*stamp, *origin))
        });
        let (stamp, origin) = fronts.min()?;
        if stamp > limit {
            return None;
        }
        let (_, mut event) = self.lanes.get_mut(&origin)?.waiting.pop_front()?;
        if stamp < self.last {
            self.last = self.last.next();
            event.ts_ns = self.last.0;
            crate::metrics::EVENTS_LATE.add(1);
        } else {
            self.last = stamp;
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stamps: &[i64]) -> Vec<(Stamp, SubscribeMetadataResponse)> {
        let event = |stamp: &i64| SubscribeMetadataResponse {
            ts_ns: *stamp,
            ..SubscribeMetadataResponse::default()
        };
        stamps.iter().map(|s| (Stamp(*s), event(s))).collect()
    }

    fn drain(merging: &mut Merging, limit: i64) -> Vec<i64> {
        std::iter::from_fn(|| merging.next(Stamp(limit)))
            .map(|event| event.ts_ns)
            .collect()
    }

    #[test]
    fn events_of_all_origins_come_in_order_and_none_above_the_watermark() {
        let mut merging = Merging::new(Stamp(10));
        assert_eq!(merging.wants(Origin(1), Stamp(50)), Some(Stamp(9)));
        merging.add(Origin(1), Stamp(50), events(&[9, 10, 30, 50]));
        merging.add(Origin(2), Stamp(45), events(&[20, 45]));
        assert_eq!(drain(&mut merging, 40), [10, 20, 30]);
        assert_eq!(merging.wants(Origin(1), Stamp(60)), None, "one waits");
        assert_eq!(drain(&mut merging, 60), [45, 50]);
        assert_eq!(merging.wants(Origin(1), Stamp(60)), Some(Stamp(50)));
        assert_eq!(merging.wants(Origin(2), Stamp(45)), None, "all read");
    }

    #[test]
    fn what_comes_late_is_raised_and_not_dropped() {
        let mut merging = Merging::new(Stamp(1));
        merging.add(Origin(1), Stamp(100), events(&[100]));
        assert_eq!(drain(&mut merging, 100), [100]);
        merging.add(Origin(2), Stamp(60), events(&[50, 60]));
        merging.add(Origin(1), Stamp(101), events(&[101]));
        assert_eq!(drain(&mut merging, 200), [101, 102, 103]);
    }

    #[test]
    fn equal_stamps_of_two_origins_stay_equal() {
        let mut merging = Merging::new(Stamp(1));
        merging.add(Origin(1), Stamp(7), events(&[7]));
        merging.add(Origin(2), Stamp(7), events(&[7]));
        assert_eq!(drain(&mut merging, 7), [7, 7]);
    }
}
