// SPDX-License-Identifier: Apache-2.0
//! What becomes of a skip list when names come and go: which batches, which names in which.

use std::collections::{BTreeMap, BTreeSet};

use crate::rows::NameChanges;
use crate::skip_list::{BATCH_NAMES_MAX, Batch, batch_of};

/// What is known of the names of one batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cards {
    /// How many there are; 0 for batches that nothing touches.
    pub(crate) n_names: u64,
    /// Those that go and are in it.
    pub(crate) removed: BTreeSet<String>,
    /// Whether the batch is watched, so that it may go when nothing is left.
    pub(crate) may_go: bool,
}

/// Names that move to a batch of their own, when one is full: those behind a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Split {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) behind: String,
}

/// A changed list; sets are changed in the order of these fields.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    /// Names that go, by batch.
    pub(crate) removed: BTreeMap<i64, BTreeSet<String>>,
    /// Batches that are divided.
    pub(crate) splits: Vec<Split>,
    /// Names that come, by batch.
    pub(crate) added: BTreeMap<i64, BTreeSet<String>>,
    /// Batches that go, with their names.
    pub(crate) dropped: Vec<i64>,
    /// The list afterwards.
    pub(crate) batches: Vec<Batch>,
}

impl Cards {
    /// Whether nothing is left.
    pub(crate) fn is_emptied(&self) -> bool {
        !self.removed.is_empty() && self.n_names <= self.removed.len() as u64
    }
}

impl Plan {
    /// A list that goes as a whole.
    pub(crate) fn dropping(batches: &[Batch]) -> Self {
        Self {
            dropped: batches.iter().map(|batch| batch.id).collect(),
            ..Self::default()
        }
    }

    /// The batches that changes touch, and the names that go which may be in each.
    pub(crate) fn touched(
        batches: &[Batch],
        changes: &NameChanges,
    ) -> BTreeMap<usize, BTreeSet<String>> {
        let mut touched: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for name in &changes.removed {
            for at in places_of(batches, name) {
                touched.entry(at).or_default().insert(name.clone());
            }
        }
        for name in &changes.added {
            touched
                .entry(batch_of(batches, name).unwrap_or(0))
                .or_default();
        }
        touched.retain(|at, _| *at < batches.len());
        touched
    }

    /// - `cards`: of each batch.
    /// - `new_id`: a number that no element has.
    pub(crate) fn of(
        batches: &[Batch],
        cards: &[Cards],
        changes: &NameChanges,
        mut new_id: impl FnMut() -> i64,
    ) -> Self {
        let mut plan = Self::default();
        let is_added_to = |at: usize| {
            let mut added = changes.added.iter();
            added.any(|name| batch_of(batches, name) == Some(at))
        };
        let mut n_names: BTreeMap<i64, u64> = BTreeMap::new();
        for (at, (batch, cards)) in batches.iter().zip(cards).enumerate() {
            if cards.is_emptied() && cards.may_go && !is_added_to(at) {
                plan.dropped.push(batch.id);
                continue;
            }
            if !cards.removed.is_empty() {
                plan.removed.insert(batch.id, cards.removed.clone());
            }
            let n_left = cards.n_names.saturating_sub(cards.removed.len() as u64);
            n_names.insert(batch.id, n_left);
            plan.batches.push(batch.clone());
        }
        for name in &changes.added {
            plan.add(name, &mut n_names, &mut new_id);
        }
        plan
    }

    fn add(
        &mut self,
        name: &str,
        n_names: &mut BTreeMap<i64, u64>,
        new_id: &mut impl FnMut() -> i64,
    ) {
        let full = |batch: &Batch, n_names: &BTreeMap<i64, u64>| {
            n_names
                .get(&batch.id)
                .is_some_and(|n| *n >= BATCH_NAMES_MAX)
        };
        let is_above = |batch: &Batch| batch.key.as_slice() > name.as_bytes();
        let at = batch_of(&self.batches, name);
        let into = match at.and_then(|at| Some((at, self.batches.get(at)?))) {
            None => self.insert(0, name, new_id()),
            // In front of all.
            Some((at, batch)) if is_above(batch) => {
                if full(batch, n_names) {
                    self.insert(at, name, new_id())
                } else {
                    let id = batch.id;
                    if let Some(batch) = self.batches.get_mut(at) {
                        batch.key = name.as_bytes().to_vec();
                    }
                    id
                }
            }
            Some((at, batch)) if full(batch, n_names) => {
                let (from, to) = (batch.id, new_id());
                self.splits.push(Split {
                    from,
                    to,
                    behind: name.to_owned(),
                });
                // How many are in which is not known any more, and that both have room is.
                n_names.insert(from, 0);
                self.insert(at + 1, name, to)
            }
            Some((_, batch)) => batch.id,
        };
        *n_names.entry(into).or_default() += 1;
        self.added.entry(into).or_default().insert(name.to_owned());
    }

    fn insert(&mut self, at: usize, name: &str, id: i64) -> i64 {
        let batch = Batch {
            id,
            level: 0,
            key: name.as_bytes().to_vec(),
        };
        self.batches.insert(at, batch);
        id
    }
}

/// The batches that may hold a name: its own, and the one before where upstream divided it.
fn places_of(batches: &[Batch], name: &str) -> Vec<usize> {
    let Some(at) = batch_of(batches, name) else {
        return Vec::new();
    };
    let is_first = batches
        .get(at)
        .is_some_and(|batch| batch.key == name.as_bytes());
    match at.checked_sub(1).filter(|_| is_first) {
        Some(before) => vec![before, at],
        None => vec![at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: i64, key: &str) -> Batch {
        Batch {
            id,
            level: 0,
            key: key.as_bytes().to_vec(),
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn plan(batches: &[Batch], cards: &[Cards], added: &[&str]) -> Plan {
        let changes = NameChanges {
            added: set(added),
            ..NameChanges::default()
        };
        let mut id = 100;
        Plan::of(batches, cards, &changes, || {
            id += 1;
            id
        })
    }

    fn keys(plan: &Plan) -> Vec<&str> {
        plan.batches
            .iter()
            .map(|batch| std::str::from_utf8(&batch.key).unwrap())
            .collect()
    }

    fn of(n_names: u64) -> Cards {
        Cards {
            n_names,
            ..Cards::default()
        }
    }

    #[test]
    fn the_first_names_make_a_batch() {
        let plan = plan(&[], &[], &["b", "a", "c"]);
        assert_eq!(keys(&plan), ["a"]);
        assert_eq!(plan.added[&101], set(&["a", "b", "c"]));
    }

    #[test]
    fn a_name_in_front_of_all_is_the_first_batchs_key() {
        let row = [batch(1, "b"), batch(2, "d")];
        let made = plan(&row, &[of(1), of(1)], &["a", "e"]);
        assert_eq!(keys(&made), ["a", "d"]);
        assert_eq!(made.added[&1], set(&["a"]));
        assert_eq!(made.added[&2], set(&["e"]));
        let made = plan(&row, &[of(BATCH_NAMES_MAX), of(1)], &["a"]);
        assert_eq!(keys(&made), ["a", "b", "d"]);
        assert!(made.splits.is_empty());
    }

    #[test]
    fn a_full_batch_is_divided_at_the_new_name() {
        let row = [batch(1, "b"), batch(2, "m")];
        let made = plan(&row, &[of(BATCH_NAMES_MAX), of(0)], &["f", "g"]);
        assert_eq!(keys(&made), ["b", "f", "m"]);
        let split = Split {
            from: 1,
            to: 101,
            behind: "f".to_owned(),
        };
        assert_eq!(made.splits, [split]);
        assert_eq!(made.added[&101], set(&["f", "g"]));
    }

    #[test]
    fn a_batch_goes_with_its_last_name_only_where_nobody_can_add_one() {
        let row = [batch(1, "a"), batch(2, "d")];
        let changes = NameChanges {
            removed: set(&["a", "b"]),
            ..NameChanges::default()
        };
        let mut cards = [
            Cards {
                n_names: 2,
                removed: set(&["a", "b"]),
                may_go: false,
            },
            of(0),
        ];
        assert!(cards[0].is_emptied());
        let kept = Plan::of(&row, &cards, &changes, || 7);
        assert_eq!(kept.batches.len(), 2);
        assert_eq!(kept.removed[&1], set(&["a", "b"]));
        cards[0].may_go = true;
        let gone = Plan::of(&row, &cards, &changes, || 7);
        assert_eq!((keys(&gone), &gone.dropped[..]), (vec!["d"], &[1][..]));
        // One that comes at the same time keeps it.
        let changes = NameChanges {
            added: set(&["c"]),
            ..changes
        };
        let kept = Plan::of(&row, &cards, &changes, || 7);
        assert_eq!(keys(&kept), ["a", "d"]);
    }

    #[test]
    fn the_name_at_which_upstream_divided_a_batch_is_looked_for_in_both() {
        let row = [batch(1, "a"), batch(2, "d")];
        let changes = NameChanges {
            removed: set(&["d", "e"]),
            ..NameChanges::default()
        };
        let touched = Plan::touched(&row, &changes);
        assert_eq!(touched[&0], set(&["d"]));
        assert_eq!(touched[&1], set(&["d", "e"]));
    }
}
