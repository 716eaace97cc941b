// SPDX-License-Identifier: Apache-2.0
//! What one file holds: in memory, on the disk, and on the way from one to the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What the system writes at once, in bytes.
pub(super) const PAGE: usize = 4096;

/// One page; shared by all that hold the same.
pub(super) type Page = Arc<[u8; PAGE]>;

/// Bytes, by pages; pages that are not there are zeros.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Content {
    /// By number.
    pub(super) pages: BTreeMap<u64, Page>,
    /// In bytes.
    pub(super) len: u64,
}

impl Content {
    /// At most `size` bytes from an offset on.
    #[must_use]
    pub(super) fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(size as u64));
        let mut out = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let within = (at % PAGE as u64) as usize;
            let n = (PAGE - within).min((end - at) as usize);
            match self.pages.get(&(at / PAGE as u64)) {
                Some(page) => out.extend_from_slice(&page[within..within + n]),
                None => out.resize(out.len() + n, 0),
            }
            at += n as u64;
        }
        out
    }

    /// A page as it is.
    #[must_use]
    pub(super) fn page(&self, number: u64) -> Page {
        let page = self.pages.get(&number);
        page.map_or_else(|| Arc::new([0; PAGE]), Arc::clone)
    }

    /// Cuts or extends it; what comes back later is zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        let within = (len % PAGE as u64) as usize;
        let last = len / PAGE as u64;
        self.pages.split_off(&len.div_ceil(PAGE as u64));
        if within > 0
            && let Some(page) = self.pages.get_mut(&last)
        {
            Arc::make_mut(page)[within..].fill(0);
        }
        self.len = len;
    }
}

/// Something that a sync makes durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// A page as it was after a write.
    Page {
        /// Which.
        number: u64,
        /// All of it.
        page: Page,
        /// Of the file, then.
        len: u64,
    },
    /// The file was cut or extended.
    Len(u64),
}

/// A file.
#[derive(Clone, Default, Debug)]
pub(super) struct File {
    /// What programs see.
    pub(super) cached: Content,
    /// What a power loss cannot take.
    pub(super) durable: Content,
    /// What became of it since, with the number of the request, in order.
    pub(super) pending: VecDeque<(u64, Change)>,
    /// Pages that a sync failed to write: in memory only, and no sync writes them any more.
    pub(super) forgotten: BTreeSet<u64>,
}

impl File {
    /// Writes; a request of this number.
    pub(super) fn write(&mut self, request: u64, offset: u64, data: &[u8]) {
        self.cached.len = self.cached.len.max(offset + data.len() as u64);
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let (number, within) = (at / PAGE as u64, (at % PAGE as u64) as usize);
            let n = rest.len().min(PAGE - within);
            let mut page = self.cached.page(number);
            Arc::make_mut(&mut page)[within..within + n].copy_from_slice(&rest[..n]);
            self.cached.pages.insert(number, Arc::clone(&page));
            self.forgotten.remove(&number);
            let len = self.cached.len.min(at + n as u64).max(self.len_before());
            self.pending
                .push_back((request, Change::Page { number, page, len }));
            rest = &rest[n..];
            at += n as u64;
        }
    }

    fn len_before(&self) -> u64 {
        match self.pending.back() {
            Some((_, Change::Page { len, .. } | Change::Len(len))) => *len,
            None => self.durable.len,
        }
    }

    /// Cuts or extends it.
    pub(super) fn set_len(&mut self, request: u64, len: u64) {
        self.cached.set_len(len);
        self.forgotten
            .retain(|number| *number < len.div_ceil(PAGE as u64));
        self.pending.push_back((request, Change::Len(len)));
    }

    /// Makes durable what was asked for up to a request.
    pub(super) fn sync(&mut self, until: u64) {
        while let Some((_, change)) = self.pending.pop_front_if(|(request, _)| *request <= until) {
            apply(&mut self.durable, change);
        }
    }

    /// What a failed sync leaves: the disk has nothing new, and the system holds what it could
    /// not write for written, as Linux's file systems do.
    pub(super) fn fail_sync(&mut self, request: u64) {
        for (_, change) in self.pending.drain(..) {
            if let Change::Page { number, .. } = change {
                self.forgotten.insert(number);
            }
        }
        // The length is in the inode, which is written again with the next sync.
        if self.cached.len != self.durable.len {
            let len = Change::Len(self.cached.len);
            self.pending.push_back((request, len));
        }
    }

    /// Bytes that wait for a sync.
    #[must_use]
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len() * PAGE
    }
}

/// Does to the disk what was done in memory.
pub(super) fn apply(to: &mut Content, change: Change) {
    match change {
        Change::Page { number, page, len } => {
            to.pages.insert(number, page);
            to.len = len;
        }
        Change::Len(len) => to.set_len(len),
    }
}
