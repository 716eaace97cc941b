// SPDX-License-Identifier: Apache-2.0
//! The announcements of every filer on the store as upstream's events, for subscribers.

use dulse_namespace::Happened;
use dulse_proto::filer::SubscribeMetadataResponse;
use dulse_shared::Announcement;
use dulse_store::{Error, ListRange, Listed};
use dulse_types::{FullPath, Origin, Stamp, Vector};

use super::OnShared;
use crate::grpc::convert;
use crate::grpc::subscribe::{Page, Source, Told};

/// Bytes that an announcement counts beside its entries.
const OVERHEAD_BYTES: usize = 64;

/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;

impl Source for OnShared {
    fn origin(&self) -> Origin {
        self.store.origin()
    }

    fn read(
        &self,
        origin: Origin,
        after: Stamp,
        until: Stamp,
        max_bytes: usize,
    ) -> Result<Page, Error> {
        let announcements = self.announcements(origin, after, max_bytes)?;
        // I9: behind the cursor, and not the next: what lies between is not kept.
        if let Some((first, _)) = announcements.first()
            && first.prev > after
            && self.whole_behind(origin)? > after
        {
            return Ok(Page::cut(first.prev.max(self.whole_behind(origin)?)));
        }
        let mut changes = Vec::with_capacity(announcements.len());
        let mut reached = if announcements.is_empty() {
            until
        } else {
            after
        };
        for (announcement, bytes) in announcements {
            if announcement.stamp > until {
                reached = until;
                break;
            }
            reached = announcement.stamp;
            changes.push(Told::new(reached, events(origin, &announcement), bytes));
        }
        Ok(Page::whole(changes, reached))
    }

    fn durable(&self) -> Vector {
        self.readable()
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        self.store.list(directory, range)
    }

    fn is_older_than_log(&self, since: Stamp, is_local: bool) -> Result<bool, Error> {
        let own = self.origin();
        let mut origins = vec![own];
        if !is_local {
            let others = self.gathered.origins().into_iter();
            origins.extend(others.filter(|origin| *origin != own));
        }
        // What others announced before this filer knew them, and died with them, is nowhere.
        let begun = self.gathered.floor(own);
        if !is_local && begun > Stamp::ZERO && since <= begun {
            return Ok(true);
        }
        for origin in origins {
            let begin = self.whole_behind(origin)?;
            if begin > Stamp::ZERO && since <= begin {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl OnShared {
    /// Announcements of an origin behind a stamp, in order, with about their bytes.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub(crate) fn announcements(
        &self,
        origin: Origin,
        after: Stamp,
        max_bytes: usize,
    ) -> Result<Vec<(Announcement, usize)>, Error> {
        if origin != self.store.origin() {
            return self.gathered.read(origin, after, max_bytes);
        }
        let own = self.store.announcements(after, max_bytes)?.into_iter();
        Ok(own
            .map(|one| {
                let n = size(&one);
                (one, n)
            })
            .collect())
    }

    fn whole_behind(&self, origin: Origin) -> Result<Stamp, Error> {
        if origin != self.store.origin() {
            return self.gathered.whole_behind(origin);
        }
        // Order: before it is read what there is. None left of what was announced: it was dropped.
        let last = *self.store.announced().borrow();
        let first = self.store.announcements(Stamp::ZERO, 1)?;
        Ok(first.first().map_or(last, |first| first.prev))
    }
}

/// Reads on in what everybody announced.
pub(crate) struct Cursor {
    since: Stamp,
    at: Vector,
}

impl Cursor {
    /// Begins behind a stamp, with every origin.
    pub(crate) fn behind(since: Stamp) -> Self {
        Self {
            since,
            at: Vector::new(),
        }
    }

    /// Up to where an origin was read.
    pub(crate) fn at(&self, origin: Origin) -> Stamp {
        self.at.get(origin).max(self.since)
    }

    /// Some that follow, this filer's own first; none at the end. Blocks.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub(crate) fn next(&mut self, on: &OnShared) -> Result<Vec<(Origin, Announcement)>, Error> {
        let others = on.gathered.origins().into_iter();
        let others = others.filter(|origin| *origin != on.origin());
        for origin in std::iter::once(on.origin()).chain(others) {
            let page = on.announcements(origin, self.at(origin), READ_BYTES)?;
            if let Some((last, _)) = page.last() {
                self.at.set(origin, last.stamp);
                return Ok(page.into_iter().map(|(one, _)| (origin, one)).collect());
            }
        }
        Ok(Vec::new())
    }
}

fn size(of: &Announcement) -> usize {
    let events = of.announced.events.iter();
    let entries = events.flat_map(|event| [&event.old, &event.new]).flatten();
    let bytes: usize = entries.map(|(_, entry)| entry.raw().len()).sum();
    bytes + OVERHEAD_BYTES
}

/// The events of one announcement with their stamps.
fn events(origin: Origin, of: &Announcement) -> Vec<(Stamp, SubscribeMetadataResponse)> {
    let events = of.announced.events.iter().enumerate();
    let told = events.map(|(n, event)| {
        let stamp = of.stamp_of(n);
        let happened = Happened {
            stamp,
            old: event.old.clone(),
            new: event.new.clone(),
            delete_chunks: event.delete_chunks,
        };
        let (signatures, is_from_other) =
            (&of.announced.signatures, of.announced.is_from_other_cluster);
        let message = convert::event(&happened, origin, signatures, is_from_other);
        (stamp, message)
    });
    told.collect()
}
