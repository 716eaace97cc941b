// SPDX-License-Identifier: Apache-2.0
//! Which filers are asked for what they freed, and how often.

use std::collections::{BTreeMap, BTreeSet};

use dulse_replica::Garbage;
use dulse_replication::Replicator;
use dulse_types::{Origin, Vector};

/// Most rounds between two questions to a filer that frees nothing: its volume servers may be
/// down for days, and each question names all that waits.
const PAUSE_MAX: u32 = 32;

/// Who is asked in this round. Memory: a few bytes for each filer.
#[derive(Default)]
pub(super) struct Asking {
    filers: BTreeMap<Origin, Pause>,
    /// Does not answer in this round.
    silent: BTreeSet<Origin>,
}

/// How a filer is asked.
#[derive(Clone, Copy, Default, Debug)]
struct Pause {
    /// Rounds that it is not asked in.
    left: u32,
    /// Rounds that it is not asked in when it freed little.
    next: u32,
    n_asked: usize,
    n_freed: usize,
}

impl Asking {
    /// A round over all rows begins.
    pub(super) fn begin(&mut self) {
        self.silent.clear();
        for pause in self.filers.values_mut() {
            pause.turn();
        }
    }

    /// Asks those that free some chunks; gives what is freed. Who does not answer is asked
    /// again in the next round.
    pub(super) async fn ask(
        &mut self,
        replicator: &Replicator,
        covers: &Vector,
        by_filer: BTreeMap<Origin, Vec<Garbage>>,
    ) -> Vec<Garbage> {
        let mut freed = Vec::new();
        for (origin, rows) in by_filer {
            let pause = self.filers.entry(origin).or_default();
            if pause.left > 0 || self.silent.contains(&origin) {
                continue;
            }
            match replicator.freed(origin, covers, &rows).await {
                Ok(told) => {
                    pause.n_asked += rows.len();
                    pause.n_freed += told.len();
                    freed.extend(told);
                }
                Err(error) => {
                    tracing::debug!(%origin, %error, "which chunks are freed is not known");
                    self.silent.insert(origin);
                }
            }
        }
        freed
    }
}

impl Pause {
    /// One round is over.
    fn turn(&mut self) {
        if self.left > 0 {
            self.left -= 1;
            return;
        }
        if self.n_asked > 0 {
            let is_little = self.n_freed * 2 < self.n_asked;
            self.next = match is_little {
                true => (self.next * 2).clamp(1, PAUSE_MAX),
                false => 0,
            };
            self.left = self.next;
        }
        (self.n_asked, self.n_freed) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_frees_nothing_is_asked_ever_more_rarely_and_at_once_again_when_it_does() {
        let mut pause = Pause::default();
        let mut asked_in = Vec::new();
        for round in 0..70 {
            pause.turn();
            if pause.left == 0 {
                asked_in.push(round);
                pause.n_asked = 10;
            }
        }
        assert_eq!(asked_in, [0, 2, 5, 10, 19, 36, 69]);
        (pause.n_asked, pause.n_freed) = (10, 9);
        pause.turn();
        assert_eq!((pause.left, pause.next), (0, 0));
    }
}
