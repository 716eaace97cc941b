// SPDX-License-Identifier: Apache-2.0
//! Events of all origins as one stream: in order of stamps up to the low watermark, each
//! exactly once. Some changes per origin wait in memory, shared with other subscribers,
//! whatever the backlog.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dulse_proto::filer::SubscribeMetadataResponse;
use dulse_types::{Origin, Stamp, Vector};

use super::log::{Page, Told};

/// Where one subscriber stands.
#[derive(Default)]
pub(super) struct Merging {
    since: Stamp,
    /// Of each origin: what was read of its log, and the changes that wait.
    lanes: BTreeMap<Origin, Lane>,
    /// `ts_ns` of the last event given, or the watermark told after it.
    told: Stamp,
}

#[derive(Default)]
struct Lane {
    /// Events below it were told before this subscription.
    since: Stamp,
    through: Stamp,
    waiting: VecDeque<Arc<Told>>,
    /// The next event of the first change that waits.
    at: usize,
}

impl Lane {
    /// The stamp of the next event; changes without one are passed over.
    fn front(&mut self) -> Option<Stamp> {
        loop {
            let told = self.waiting.front()?;
            match told.events.get(self.at) {
                Some((stamp, _)) if *stamp >= self.since => return Some(*stamp),
                Some(_) => self.at += 1,
                None => {
                    self.waiting.pop_front();
                    self.at = 0;
                }
            }
        }
    }
}

impl Merging {
    /// A subscriber that wants every event at or above `since`.
    pub(super) fn new(since: Stamp) -> Self {
        Self {
            since,
            ..Self::default()
        }
    }

    /// Has an origin's events told from behind `from` on, though they are below `since`:
    /// they came late and this subscriber may not have them.
    pub(super) fn begin_at(&mut self, origin: Origin, from: Stamp) {
        let lane = self.lane(origin);
        lane.through = lane.through.min(from);
        lane.since = lane.since.min(from.next());
        // They follow what the subscriber has seen.
        self.told = self.told.max(self.since);
    }

    /// The stamp behind which the origin's log is to be read; `None` while events of it wait
    /// or all up to `last` was read. ⚠ An origin that appears later is read from `since` on,
    /// too: what a filer that was away did before the watermark comes late, not never.
    pub(super) fn wants(&mut self, origin: Origin, last: Stamp) -> Option<Stamp> {
        let lane = self.lane(origin);
        (lane.front().is_none() && lane.through < last).then_some(lane.through)
    }

    fn lane(&mut self, origin: Origin) -> &mut Lane {
        let since = self.since;
        self.lanes.entry(origin).or_insert_with(|| Lane {
            since,
            through: Stamp(since.0.saturating_sub(1).max(0)),
            waiting: VecDeque::new(),
            at: 0,
        })
    }

    /// Everything up to a vector was told in another way, the last at `ts`.
    pub(super) fn skip_to(&mut self, vector: &Vector, ts: Stamp) {
        for (origin, stamp) in vector.iter() {
            let lane = self.lane(origin);
            lane.through = stamp;
            lane.since = stamp.next();
        }
        self.told = self.told.max(ts);
    }

    /// What was read of an origin.
    pub(super) fn add(&mut self, origin: Origin, page: Page) {
        let lane = self.lane(origin);
        lane.through = lane.through.max(page.reached);
        lane.waiting.extend(page.changes);
    }

    /// The next event at or below the watermark; its `ts_ns` never goes back: one that comes
    /// late is raised above everything told before.
    pub(super) fn next(&mut self, limit: Stamp) -> Option<SubscribeMetadataResponse> {
        let fronts = self
            .lanes
            .iter_mut()
            .filter_map(|(origin, lane)| Some((lane.front()?, *origin)));
        let Some((stamp, origin)) = fronts.min().filter(|(stamp, _)| *stamp <= limit) else {
            self.told = self.told.max(limit);
            return None;
        };
        let lane = self.lanes.get_mut(&origin)?;
        let (_, event) = lane.waiting.front()?.events.get(lane.at)?;
        let mut event = event.clone();
        lane.at += 1;
        if stamp < self.told {
            self.told = self.told.next();
            event.ts_ns = self.told.0;
            crate::metrics::EVENTS_LATE.add(1);
        } else {
            self.told = stamp;
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(stamps: &[i64]) -> Page {
        let told = |stamp: &i64| {
            let event = SubscribeMetadataResponse {
                ts_ns: *stamp,
                ..SubscribeMetadataResponse::default()
            };
            Arc::new(Told::of(Stamp(*stamp), vec![(Stamp(*stamp), event)]))
        };
        Page {
            changes: stamps.iter().map(told).collect(),
            reached: Stamp(stamps.last().copied().unwrap_or(0)),
            cut: None,
        }
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
        merging.add(Origin(1), page(&[9, 10, 30, 50]));
        merging.add(Origin(2), page(&[20, 45]));
        assert_eq!(drain(&mut merging, 40), [10, 20, 30]);
        assert_eq!(merging.wants(Origin(1), Stamp(60)), None, "one waits");
        assert_eq!(drain(&mut merging, 60), [45, 50]);
        assert_eq!(merging.wants(Origin(1), Stamp(60)), Some(Stamp(50)));
        assert_eq!(merging.wants(Origin(2), Stamp(45)), None, "all read");
    }

    #[test]
    fn what_comes_late_is_raised_above_what_was_told_and_not_dropped() {
        let mut merging = Merging::new(Stamp(1));
        merging.add(Origin(1), page(&[100]));
        assert_eq!(drain(&mut merging, 100), [100]);
        assert_eq!(merging.wants(Origin(2), Stamp(60)), Some(Stamp(0)));
        merging.add(Origin(2), page(&[50, 60]));
        merging.add(Origin(1), page(&[101]));
        assert_eq!(drain(&mut merging, 200), [101, 102, 103]);
        merging.add(Origin(2), page(&[150]));
        assert_eq!(drain(&mut merging, 300), [201], "200 was promised");
    }

    #[test]
    fn a_resumed_subscriber_is_told_again_what_came_late() {
        let mut merging = Merging::new(Stamp(500));
        merging.begin_at(Origin(2), Stamp(40));
        assert_eq!(merging.wants(Origin(2), Stamp(600)), Some(Stamp(40)));
        merging.add(Origin(2), page(&[50, 60, 600]));
        merging.add(Origin(1), page(&[400, 700]));
        assert_eq!(drain(&mut merging, 700), [501, 502, 600, 700]);
    }

    #[test]
    fn equal_stamps_of_two_origins_stay_equal() {
        let mut merging = Merging::new(Stamp(1));
        merging.add(Origin(1), page(&[7]));
        merging.add(Origin(2), page(&[7]));
        assert_eq!(drain(&mut merging, 7), [7, 7]);
    }
}
