// SPDX-License-Identifier: Apache-2.0
//! Which dropped chunks may be freed, and by whom; and which are. No clock, no network: the
//! filer and the simulation run the same.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dulse_kv::ReadExt;
use dulse_merge::Txn;
use dulse_merge::apply::DroppedRow;
use dulse_merge::forget::{Ends, is_dropped};
use dulse_merge::holders::{Listing, Resolving};
use dulse_merge::keys::{self, Space};
use dulse_store::{Error, Operation};
use dulse_types::{FileId, Identity, Origin, Vector, Version};

use crate::error;
use crate::shared::{EngineRows, Shared};

/// Most chunks that one question may name: 144 kB of them.
pub const ASKED_MAX: usize = 4_000;

/// Parts of a grace that are told apart: it lasts at most this part longer than asked for.
const PARTS: u32 = 64;

/// What has been stable for a while.
///
/// ⚠ The grace of a chunk begins when it is known here that every member has dropped it, not
/// when it was dropped: whoever read its file at a member that was behind by more than the
/// grace would find it gone, and a write of such a client that still names it would bring
/// back what is freed. Counted from when a process knows it, so a restart begins anew, and
/// wall clocks do not matter.
#[derive(Debug)]
pub struct Grace {
    length: Duration,
    /// What was stable when, oldest first; the first is what counts.
    known: VecDeque<(Duration, Vector)>,
}

impl Grace {
    /// Nothing is known to be stable yet.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            known: VecDeque::new(),
        }
    }

    /// Notes what is stable at `now`, a monotonic time; gives what has been stable for the
    /// whole grace. Memory: some sixty vectors.
    pub fn pass(&mut self, now: Duration, stable: Vector) -> Vector {
        let is_new = match self.known.back() {
            Some((at, last)) => *last != stable && now.saturating_sub(*at) >= self.length / PARTS,
            None => true,
        };
        if is_new {
            self.known.push_back((now, stable));
        }
        let is_over = |at: &Duration| now.saturating_sub(*at) >= self.length;
        while self.known.get(1).is_some_and(|(at, _)| is_over(at)) {
            self.known.pop_front();
        }
        let first = self.known.front().filter(|(at, _)| is_over(at));
        first.map(|(_, stable)| stable.clone()).unwrap_or_default()
    }
}

/// A chunk that the present data lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Garbage {
    /// The inode that dropped it.
    pub inode: Identity,
    /// Where it lies.
    pub chunk: FileId,
    /// The data that named it and lost, or the delete.
    pub cause: Version,
    /// What ended whoever made that, once it is no member any more.
    pub end: Option<Version>,
    /// The data that lacks it.
    pub winner: Version,
    /// Whether it moved to another inode, which frees it.
    pub is_moved: bool,
    /// Whether a conflict pins it: then nobody may free it.
    pub is_pinned: bool,
    /// Whether it is a manifest, or the inode has manifests, which may list it: what may go
    /// is known once they are read ([`Shared::resolving`]).
    pub has_manifests: bool,
}

/// What is to be done with dropped chunks whose grace is over.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Share {
    /// This filer frees them on the volume servers, then forgets them.
    pub free: Vec<Garbage>,
    /// By inode: this filer frees what no manifest of the inode lists that it still has, and
    /// with a manifest what that lists ([`Shared::resolving`]).
    pub resolve: BTreeMap<Identity, Vec<Garbage>>,
    /// By who frees them: kept until that filer says that they are freed.
    pub asked: BTreeMap<Origin, Vec<Garbage>>,
    /// They are another inode's: forgotten here.
    pub forget: Vec<Garbage>,
}

/// Sorts dropped chunks; those that must wait are in no part.
///
/// ⚠ A chunk goes when the data that named it, or the delete, and the data that lacks it have
/// both been stable for the grace (`aged`, see [`Grace`]). The inode's birth origin frees it, or, when
/// that is no member any more, the smallest of the `live` ones; of those that moved to
/// another inode, the one they moved to. ⚠ None goes while a conflict pins it: whoever
/// restores what was lost finds its content. ⚠ Who does not free it keeps its row until it
/// hears that it is freed ([`Shared::freed`]): a machine that is lost just then would
/// otherwise take with it the last knowledge of the chunk. ⚠ Whoever is no member frees
/// nothing: it does not hear any more which conflicts pin what. ⚠ What a manifest may
/// list goes only once that was read: rows do not say what it holds.
#[must_use]
pub fn share(rows: Vec<Garbage>, aged: &Vector, own: Origin, live: &[Origin]) -> Share {
    let mut share = Share::default();
    let Some(smallest) = live.iter().min().copied().filter(|_| live.contains(&own)) else {
        return share;
    };
    let is_over = |g: &Garbage| is_dropped(aged, (g.cause, g.winner), g.end) && !g.is_pinned;
    for row in rows.into_iter().filter(is_over) {
        let birth = row.inode.origin;
        let frees = if live.contains(&birth) {
            birth
        } else {
            smallest
        };
        if row.is_moved {
            share.forget.push(row);
        } else if frees == own && row.has_manifests {
            share.resolve.entry(row.inode).or_default().push(row);
        } else if frees == own {
            share.free.push(row);
        } else {
            share.asked.entry(frees).or_default().push(row);
        }
    }
    share
}

impl Shared {
    /// Dropped chunks, at most `limit`, from the first one behind `after`.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn garbage(&self, after: Option<Garbage>, limit: usize) -> Result<Vec<Garbage>, Error> {
        let (mut from, to) = (Space::Garbage.key(b""), keys::garbage_end());
        if let Some(after) = after {
            from = keys::garbage(after.inode, after.chunk);
            from.push(0);
        }
        let rows = self.engine.scan(&from, &to, limit);
        let rows = rows.map_err(|e| error::engine(Operation::List, e))?;
        let ends = Ends::read(&Txn::new(&EngineRows(&*self.engine)));
        let ends = ends.map_err(|e| error::read(Operation::List, e))?;
        let mut parsed = Vec::with_capacity(rows.len());
        // Rows of one inode lie together.
        let mut last: Option<(Identity, bool)> = None;
        for (key, value) in rows {
            let Some((inode, chunk)) = keys::parse_garbage(&key) else {
                continue;
            };
            let Ok(row) = DroppedRow::decode(&value) else {
                continue;
            };
            let has_manifests = match last {
                Some((of, has_manifests)) if of == inode => has_manifests,
                _ => {
                    let held = self.engine.get(&keys::held(inode));
                    held.map_err(|e| error::engine(Operation::List, e))?
                        .is_some()
                }
            };
            last = Some((inode, has_manifests));
            parsed.push(Garbage {
                inode,
                chunk,
                cause: row.cause,
                end: ends.of(row.cause),
                winner: row.winner,
                is_moved: self.owner(chunk)?.is_some_and(|owner| owner != inode),
                is_pinned: self.is_pinned(chunk)?,
                has_manifests: has_manifests || row.manifest.is_some(),
            });
        }
        Ok(parsed)
    }

    fn is_pinned(&self, chunk: FileId) -> Result<bool, Error> {
        let rows = EngineRows(&*self.engine);
        let pinned = dulse_merge::apply::is_pinned(&Txn::new(&rows), chunk);
        pinned.map_err(|e| error::read(Operation::List, e))
    }

    /// The inode that a chunk moved to last.
    fn owner(&self, chunk: FileId) -> Result<Option<Identity>, Error> {
        let row = self.engine.get(&keys::chunk_owner(chunk));
        let row = row.map_err(|e| error::engine(Operation::List, e))?;
        let owner = row.map(|row| dulse_merge::apply::decode_owner(&row));
        let owner = owner.transpose();
        let owner = owner.map_err(|e| error::corrupt(Operation::List, e))?;
        Ok(owner.map(|(_, inode)| inode))
    }

    /// Begins to decide which dropped chunks of an inode with manifests may go: who calls it
    /// reads the manifests that it asks for.
    ///
    /// - `rows`: those of one inode in [`Share::resolve`].
    /// - `aged`: what they were found due by.
    /// - Cost: a scan of the inode's dropped chunks, and of all conflicts.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn resolving(&self, rows: &[Garbage], aged: &Vector) -> Result<Resolving, Error> {
        let operation = Operation::List;
        let Some(inode) = rows.first().map(|row| row.inode) else {
            return Ok(Resolving::default());
        };
        // One snapshot: a manifest that is dropped meanwhile, or is back, must be in one
        // place or the other.
        let snapshot = self.engine.snapshot();
        let snapshot = snapshot.map_err(|e| error::engine(operation, e))?;
        let engine = EngineRows(&*snapshot);
        let due: Vec<_> = rows.iter().map(|g| (g.chunk, g.cause, g.winner)).collect();
        let txn = Txn::new(&engine);
        let ends = Ends::read(&txn).map_err(|e| error::read(operation, e))?;
        let is_over = |cause, winner| is_dropped(aged, (cause, winner), ends.of(cause));
        let begun = Resolving::begin(&txn, inode, &due, &is_over);
        begun.map_err(|e| error::read(operation, e))
    }

    /// Gives what a manifest lists to [`Resolving::read`].
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn listed(&self, resolving: &mut Resolving, listing: Listing) -> Result<bool, Error> {
        let rows = EngineRows(&*self.engine);
        let read = resolving.read(&Txn::new(&rows), listing);
        read.map_err(|e| error::read(Operation::List, e))
    }

    /// Of chunks that another filer holds for dropped, the ones that are freed, or named again
    /// by something that it will hear of: places in `chunks`. Whoever asked may forget them.
    ///
    /// ⚠ Having no row says so only of what was applied here, so nothing is said before `asked`
    /// is covered: what makes all of those rows.
    ///
    /// - `chunks`: at most [`ASKED_MAX`]; what is behind is not looked at.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn freed(
        &self,
        asked: &Vector,
        chunks: &[(Identity, FileId)],
    ) -> Result<Vec<usize>, Error> {
        // Order: the vector first. What comes in between makes rows and frees none that counts.
        if !self.vector().includes(asked) {
            return Ok(Vec::new());
        }
        let mut freed = Vec::new();
        for (at, (inode, chunk)) in chunks.iter().take(ASKED_MAX).enumerate() {
            let row = self.engine.get(&keys::garbage(*inode, *chunk));
            if row
                .map_err(|e| error::engine(Operation::Find, e))?
                .is_none()
            {
                freed.push(at);
            }
        }
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use dulse_types::Stamp;

    use super::*;

    const A: Origin = Origin(1);
    const B: Origin = Origin(2);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn vector(of: &[(Origin, i64)]) -> Vector {
        of.iter().map(|(o, s)| (*o, Stamp(*s))).collect()
    }

    fn dropped(inode: Origin, by: Origin, stamp: i64) -> Garbage {
        let version = |origin| Version {
            stamp: Stamp(stamp),
            origin,
        };
        Garbage {
            inode: Identity {
                stamp: Stamp(1),
                origin: inode,
                index: 0,
            },
            chunk: FileId {
                volume_id: 1,
                key: 1,
                cookie: 1,
            },
            cause: version(by),
            end: None,
            winner: version(by),
            is_moved: false,
            is_pinned: false,
            has_manifests: false,
        }
    }

    /// A filer was away for longer than the grace and hears of the drop only now: whoever
    /// read the file there a moment ago has the whole grace to come.
    #[test]
    fn the_grace_begins_when_the_drop_is_stable() {
        let mut grace = Grace::new(HOUR);
        let row = dropped(A, A, 10);
        let early = grace.pass(HOUR * 5, vector(&[(A, 5)]));
        assert_eq!(share(vec![row], &early, A, &[A]), Share::default());
        let aged = grace.pass(HOUR * 9, vector(&[(A, 10)]));
        assert_eq!(share(vec![row], &aged, A, &[A]), Share::default());
        let aged = grace.pass(HOUR * 10, vector(&[(A, 10)]));
        assert_eq!(share(vec![row], &aged, A, &[A]).free, [row]);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let mut grace = Grace::new(HOUR);
        for second in 0..20_000 {
            grace.pass(Duration::from_secs(second), vector(&[(A, second as i64)]));
        }
        assert!(
            grace.known.len() <= PARTS as usize + 2,
            "{}",
            grace.known.len()
        );
        let aged = grace.pass(Duration::from_secs(20_000), vector(&[(A, 20_000)]));
        let behind = 20_000 - 3_600 - aged.get(A).0;
        assert!((0..120).contains(&behind), "{behind}");
    }

    #[test]
    fn the_birth_origin_frees_the_others_ask_it_and_what_is_pinned_stays() {
        let aged = vector(&[(A, 10), (B, 10)]);
        let (own, other) = (dropped(A, B, 10), dropped(B, A, 10));
        let late = dropped(B, B, 11).cause;
        let late_cause = Garbage { cause: late, ..own };
        let late_winner = Garbage {
            winner: late,
            ..own
        };
        let moved = Garbage {
            is_moved: true,
            ..own
        };
        let pinned = Garbage {
            is_pinned: true,
            ..own
        };
        let listed = Garbage {
            has_manifests: true,
            ..own
        };
        let rows = vec![own, other, late_cause, late_winner, moved, pinned, listed];
        let shared = share(rows.clone(), &aged, A, &[A, B]);
        assert_eq!(shared.free, [own]);
        assert_eq!(shared.resolve, [(own.inode, vec![listed])].into());
        assert_eq!(shared.asked, [(B, vec![other])].into());
        assert_eq!(shared.forget, [moved]);
        let alone = share(rows.clone(), &aged, A, &[A]);
        assert_eq!(alone.free, [own, other], "nobody else is left to do it");
        let larger = share(rows.clone(), &aged, Origin(3), &[A, Origin(3)]);
        assert_eq!(larger.free, [], "the smallest of the live ones does");
        assert_eq!(larger.asked, [(A, vec![own, other, listed])].into());
        let gone = Garbage {
            end: Some(own.cause),
            ..late_cause
        };
        let lost = Garbage {
            end: Some(late),
            ..late_cause
        };
        let shared = share(vec![gone, lost], &aged, A, &[A, B]);
        assert_eq!(
            shared.free,
            [gone],
            "it comes to nobody, once that is stable"
        );
        let out = share(rows, &aged, A, &[B, Origin(3)]);
        assert_eq!(out, Share::default(), "who is no member frees nothing");
    }
}
