// SPDX-License-Identifier: Apache-2.0
//! Whether this filer's wall clock may be believed: a fast one would drag every filer's stamps
//! along with it, for as long as it was ahead.
//!
//! Asked are the clocks of the members that were heard lately, the master's, and this filer's
//! own estimate: what the wall clock said when others last agreed with it, and the monotonic
//! time since. ⚠ More than half of those asked must be behind by more than [`LEAD_MAX`] before
//! writes are refused: with an even number the doubt is the wall clock's benefit, so that one
//! slow clock stops nobody. That settles every case of two filers while they run, since the
//! own estimate is the third voice. At a start there is no estimate: then whoever is ahead of
//! the only other voice refuses, since a refusal can be taken back and a stamp cannot, and the
//! other filer goes on taking writes; a master that answers is one voice more.
//!
//! What is heard late looks slow. So of each voice the furthest of the last seconds counts, and
//! messages that waited behind a backlog are not taken (the caller sees to that).

use std::collections::BTreeMap;
use std::time::Duration;

use dulse_types::Origin;

use crate::Now;

/// How far a wall clock may lead before local writes are refused.
pub const LEAD_MAX: Duration = Duration::from_millis(500);

/// How long a start waits for somebody else's clock before the own one is taken for right: as
/// long as readiness waits for members that are silent.
pub const HELD_MAX: Duration = Duration::from_secs(10);

/// A voice silent for this long does not count.
const FRESH: Duration = Duration::from_secs(15);

/// Of a voice the furthest within this time and the same before it counts.
const WINDOW: Duration = Duration::from_secs(5);

/// Most voices that are kept; a cluster has a handful of filers.
const VOICES_MAX: usize = 1_024;

/// Who tells a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Voter {
    /// Another filer.
    Peer(Origin),
    /// The master.
    Master,
}

/// How this filer stands to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has no history yet: it stamps nothing, and must promise nothing by a wrong clock.
    Fresh,
    /// It is the only member, so it drags nobody, or is about to found the cluster.
    Alone,
    /// There are others.
    Among,
}

/// What is to be made of the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Nobody is there to be dragged along.
    Free,
    /// Not known yet: local writes wait, promises stay where they are.
    Held,
    /// What the time is by the others, and how far the wall clock leads it, both in
    /// nanoseconds; negative where it is behind.
    Known {
        /// Since 1970.
        reference_ns: i64,
        /// Of the wall clock.
        lead_ns: i64,
    },
}

impl Judgement {
    /// Whether local writes are refused.
    #[must_use]
    pub fn refuses(self) -> bool {
        match self {
            Self::Free => false,
            Self::Held => true,
            Self::Known { lead_ns, .. } => lead_ns > nanos(LEAD_MAX),
        }
    }
}

/// What one voice said of late, as the difference to this filer's monotonic clock, in
/// nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Voice {
    heard: Now,
    begun: Now,
    furthest: i64,
    before: Option<i64>,
}

impl Voice {
    fn new(now: Now, offset: i64) -> Self {
        Self {
            heard: now,
            begun: now,
            furthest: offset,
            before: None,
        }
    }

    fn heard(&mut self, now: Now, offset: i64) {
        let age = now.saturating_sub(self.begun);
        if age >= WINDOW {
            let is_recent = age < WINDOW * 2;
            self.before = is_recent.then_some(self.furthest);
            (self.begun, self.furthest) = (now, offset);
        }
        self.furthest = self.furthest.max(offset);
        self.heard = now;
    }

    fn offset(&self, now: Now) -> Option<i64> {
        let is_fresh = now.saturating_sub(self.heard) < FRESH;
        let furthest = self.before.unwrap_or(i64::MIN).max(self.furthest);
        is_fresh.then_some(furthest)
    }
}

/// The own estimate.
#[derive(Clone, Copy, Debug)]
struct Own {
    offset: i64,
    /// Others agreed with it once.
    is_confirmed: bool,
}

/// Judges one filer's wall clock. Time is an argument.
#[derive(Clone, Default, Debug)]
pub struct Timekeeper {
    own: Option<Own>,
    voices: BTreeMap<Voter, Voice>,
}

impl Timekeeper {
    /// Somebody's clock said so, `now` or a little before it.
    pub fn told(&mut self, now: Now, who: Voter, clock_ns: i64) {
        let offset = clock_ns.saturating_sub(nanos(now));
        if let Some(voice) = self.voices.get_mut(&who) {
            voice.heard(now, offset);
        } else if self.voices.len() < VOICES_MAX {
            self.voices.insert(who, Voice::new(now, offset));
        }
    }

    /// Judges what the wall clock says now. Cost: O(voices).
    pub fn judge(&mut self, now: Now, wall_ns: i64, standing: Standing) -> Judgement {
        match standing {
            Standing::Fresh => return Judgement::Held,
            Standing::Alone => {
                // Whoever comes later shall be asked before this is believed.
                self.own = None;
                return Judgement::Free;
            }
            Standing::Among => {}
        }
        let wall = wall_ns.saturating_sub(nanos(now));
        let others = self.voices.values().filter_map(|voice| voice.offset(now));
        let others: Vec<i64> = others.collect();
        if others.is_empty() && self.own.is_none() {
            if now < HELD_MAX {
                return Judgement::Held;
            }
            self.own = Some(Own {
                offset: wall,
                is_confirmed: false,
            });
        }
        // An estimate that nobody confirmed says what the wall clock said: no voice of its own
        // where there are others.
        let own = self.own.filter(|own| own.is_confirmed || others.is_empty());
        let mut votes: Vec<i64> = others
            .iter()
            .copied()
            .chain(own.map(|o| o.offset))
            .collect();
        votes.sort_unstable();
        let Some(median) = votes.get(votes.len() / 2).copied() else {
            return Judgement::Held;
        };
        let judgement = Judgement::Known {
            reference_ns: median.saturating_add(nanos(now)),
            lead_ns: wall.saturating_sub(median),
        };
        let agrees = |offset: &&i64| wall.abs_diff(**offset) <= nanos(LEAD_MAX).unsigned_abs();
        let n_agree = others.iter().filter(agrees).count();
        if !judgement.refuses() && n_agree > 0 && n_agree * 2 >= others.len() {
            self.own = Some(Own {
                offset: wall,
                is_confirmed: true,
            });
        }
        judgement
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const TODAY: i64 = 1_800_000_000_000_000_000;
    const PEER: Voter = Voter::Peer(Origin(2));
    const THIRD: Voter = Voter::Peer(Origin(3));

    /// A filer's clock and those of others, as offsets from the right time; one step is 200 ms.
    #[derive(Default)]
    struct World {
        keeper: Timekeeper,
        now: Now,
        wall: i64,
        others: BTreeMap<Voter, i64>,
    }

    impl World {
        fn new(wall: i64, others: &[(Voter, i64)]) -> Self {
            Self {
                wall,
                others: others.iter().copied().collect(),
                ..Self::default()
            }
        }

        fn right(&self) -> i64 {
            TODAY + nanos(self.now)
        }

        /// Whether writes are refused after so many seconds.
        fn after(&mut self, seconds: u64) -> bool {
            for _ in 0..(seconds * 5).max(1) {
                self.now += Duration::from_millis(200);
                for (who, offset) in self.others.clone() {
                    self.keeper.told(self.now, who, self.right() + offset);
                }
                self.judged();
            }
            self.judged().refuses()
        }

        fn judged(&mut self) -> Judgement {
            let wall = self.right() + self.wall;
            self.keeper.judge(self.now, wall, Standing::Among)
        }
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_refused_at_once_until_it_is_right_again() {
        for others in [
            vec![(PEER, 0)],
            vec![(Voter::Master, 0)],
            vec![(PEER, 0), (Voter::Master, 0)],
            vec![(PEER, 0), (THIRD, 0)],
        ] {
            let mut world = World::new(0, &others);
            assert!(!world.after(5), "{others:?}");
            world.wall = HOUR;
            assert!(world.judged().refuses(), "{others:?}");
            assert!(world.after(60), "{others:?}");
            let Judgement::Known {
                reference_ns,
                lead_ns,
            } = world.judged()
            else {
                panic!("it is known");
            };
            assert!(reference_ns.abs_diff(world.right()) < 1_000_000);
            assert!(lead_ns.abs_diff(HOUR) < 1_000_000);
            world.wall = 0;
            assert!(!world.judged().refuses(), "{others:?}");
        }
    }

    #[test]
    fn half_a_second_is_no_lead() {
        let mut world = World::new(0, &[(PEER, 0)]);
        assert!(!world.after(5));
        world.wall = nanos(LEAD_MAX) - 1_000_000;
        assert!(!world.judged().refuses());
        let mut world = World::new(0, &[(PEER, 0)]);
        assert!(!world.after(5));
        world.wall = nanos(LEAD_MAX) + 1_000_000;
        assert!(world.judged().refuses());
    }

    #[test]
    fn a_clock_that_is_behind_is_never_refused() {
        let mut world = World::new(0, &[(PEER, 0), (Voter::Master, 0)]);
        assert!(!world.after(5));
        world.wall = -HOUR;
        assert!(!world.after(60));
        let mut started = World::new(-HOUR, &[(PEER, 0), (Voter::Master, 0)]);
        assert!(!started.after(60));
        // Corrected, it is a jump ahead for the own estimate, and right for all others.
        started.wall = 0;
        assert!(!started.after(1));
    }

    #[test]
    fn of_two_filers_the_one_that_jumped_is_the_one_refused() {
        // The other one jumped back: this one leads it by an hour and is right.
        let mut world = World::new(0, &[(PEER, 0)]);
        assert!(!world.after(5));
        world.others.insert(PEER, -HOUR);
        assert!(!world.after(60));
        // The other one jumped ahead: nothing to refuse here.
        world.others.insert(PEER, HOUR);
        assert!(!world.after(60));
        // Both say the same: a step that the estimate missed, such as a machine that slept.
        world.wall = HOUR;
        assert!(!world.after(1));
    }

    #[test]
    fn at_a_start_of_two_the_one_ahead_refuses_unless_the_master_sides_with_it() {
        assert!(World::new(HOUR, &[(PEER, 0)]).after(5));
        assert!(!World::new(0, &[(PEER, HOUR)]).after(5), "the other does");
        assert!(World::new(0, &[(PEER, -HOUR)]).after(5));
        let with_master = |wall, peer, master| {
            let voices = [(PEER, peer), (Voter::Master, master)];
            World::new(wall, &voices).after(5)
        };
        assert!(with_master(HOUR, 0, 0));
        assert!(!with_master(0, -HOUR, 0));
        assert!(!with_master(0, 0, -HOUR), "one slow master stops nobody");
    }

    #[test]
    fn of_three_filers_the_majority_is_believed() {
        let mut world = World::new(HOUR, &[(PEER, 0), (THIRD, 0)]);
        assert!(world.after(5));
        let mut world = World::new(0, &[(PEER, -HOUR), (THIRD, 0)]);
        assert!(!world.after(5));
        world.others.insert(Voter::Master, -HOUR);
        assert!(!world.after(5));
    }

    #[test]
    fn without_a_voice_a_start_waits_a_while_and_then_trusts_itself() {
        let mut world = World::new(HOUR, &[]);
        assert_eq!(world.judged(), Judgement::Held);
        assert!(world.judged().refuses());
        assert!(!world.after(11));
        // From then on a jump is one, though nobody else is there.
        world.wall += HOUR;
        assert!(world.judged().refuses());
        world.wall -= HOUR;
        // Others come and are asked first.
        world.others.insert(PEER, 0);
        assert!(world.after(1));
    }

    #[test]
    fn who_is_alone_drags_nobody_and_who_is_fresh_promises_nothing() {
        let mut keeper = Timekeeper::default();
        keeper.told(Now::ZERO, Voter::Master, TODAY);
        let ahead = TODAY + HOUR;
        let judged = keeper.judge(Now::ZERO, ahead, Standing::Alone);
        assert_eq!(judged, Judgement::Free);
        let judged = keeper.judge(Now::ZERO, ahead, Standing::Fresh);
        assert_eq!(judged, Judgement::Held);
        assert!(keeper.judge(Now::ZERO, ahead, Standing::Among).refuses());
    }

    #[test]
    fn late_messages_and_silent_filers_refuse_nothing() {
        let mut world = World::new(0, &[(PEER, 0)]);
        assert!(!world.after(5));
        // Some come three seconds late.
        let late = world.right() - 3_000_000_000;
        world.keeper.told(world.now, PEER, late);
        assert!(!world.judged().refuses());
        // Two do: that is more than half of all that are asked.
        let mut both = World::new(0, &[(PEER, 0), (THIRD, 0)]);
        assert!(!both.after(3));
        let late = both.right() - 3_000_000_000;
        both.keeper.told(both.now, PEER, late);
        both.keeper.told(both.now, THIRD, late);
        assert!(!both.judged().refuses());
        // Silent for a minute, it has no voice, and the estimate is asked alone.
        world.others.clear();
        assert!(!world.after(60));
        world.wall = HOUR;
        assert!(world.judged().refuses());
    }

    #[test]
    fn a_voice_that_jumps_back_is_believed_after_ten_seconds() {
        let mut voice = Voice::new(Now::ZERO, 100);
        for second in 1..=10 {
            voice.heard(Duration::from_secs(second), 50);
        }
        assert_eq!(voice.offset(Duration::from_secs(10)), Some(50));
        assert_eq!(voice.offset(Duration::from_secs(24)), Some(50));
        assert_eq!(voice.offset(Duration::from_secs(25)), None);
    }

    #[test]
    fn any_numbers_are_taken_without_a_panic() {
        let mut keeper = Timekeeper::default();
        for ns in [i64::MIN, i64::MAX, 0, -1] {
            keeper.told(Duration::MAX, PEER, ns);
            keeper.told(Now::ZERO, THIRD, ns);
            for wall in [i64::MIN, i64::MAX, 0] {
                keeper.judge(Duration::MAX, wall, Standing::Among);
                keeper.judge(Now::ZERO, wall, Standing::Among);
            }
        }
    }
}
