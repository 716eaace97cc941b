// SPDX-License-Identifier: Apache-2.0
//! The walk through a tree that is moved or removed: depth first, names of a directory in
//! byte order, as upstream's events come.
//!
//! It goes on behind what it visited last, so a tree of any size is read once, however many
//! parts it is done in. What is kept between parts is one name for each open directory;
//! pages of rows live for one part only, since others write in between.
//!
//! Keys alone would do as a cursor, too: a directory's key is less than those below it. But
//! then the events of one directory would come far from those of the directory itself.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::keys::{self, Space, join_path, split_path};
use crate::row::NameRow;
use crate::txn::{ReadError, Txn, decode_name};
use crate::view::is_dir;

/// Rows read at once: few, as the page of each open directory is read anew by each part.
const PAGE_ROWS: usize = 256;

/// Where a walk through a tree stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeWalk {
    top: Bytes,
    /// Whether directories come before what is in them, or behind.
    is_top_down: bool,
    has_begun: bool,
    /// The directories whose names are being visited, the top first.
    open: Vec<Level>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Level {
    dir: Bytes,
    /// The name visited last; empty at the front.
    after: Bytes,
}

impl TreeWalk {
    /// For a move: directories come before what is in them.
    #[must_use]
    pub fn top_down(top: Bytes) -> Self {
        Self {
            top,
            is_top_down: true,
            has_begun: false,
            open: Vec::new(),
        }
    }

    /// For a delete: directories come behind what is in them.
    #[must_use]
    pub fn bottom_up(top: Bytes) -> Self {
        Self {
            is_top_down: false,
            ..Self::top_down(top)
        }
    }

    /// The path of its top.
    #[must_use]
    pub fn path(&self) -> &Bytes {
        &self.top
    }

    /// Whether it has yet to come by more than so many paths.
    pub(super) fn has_more_than(&self, n_paths: usize, txn: &Txn<'_>) -> Result<bool, ReadError> {
        let mut ahead = self.clone();
        let mut steps = Steps::new(&mut ahead);
        for _ in 0..=n_paths {
            if steps.next(txn)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn open(&mut self, dir: &Bytes) {
        self.open.push(Level {
            dir: dir.clone(),
            after: Bytes::new(),
        });
    }
}

/// A walk while nobody else writes.
pub(super) struct Steps<'w> {
    walk: &'w mut TreeWalk,
    /// What was read of each open directory and not visited yet.
    pages: Vec<VecDeque<NameRow>>,
}

impl<'w> Steps<'w> {
    pub(super) fn new(walk: &'w mut TreeWalk) -> Self {
        let pages = vec![VecDeque::new(); walk.open.len()];
        Self { walk, pages }
    }

    /// What shows at the next path; `None` at the end.
    pub(super) fn next(&mut self, txn: &Txn<'_>) -> Result<Option<NameRow>, ReadError> {
        if !self.walk.has_begun {
            self.walk.has_begun = true;
            let Some(top) = txn.shown(&self.walk.top)? else {
                return Ok(None);
            };
            if self.is_visit(&top) {
                return Ok(Some(top));
            }
        }
        while let Some(level) = self.walk.open.last_mut() {
            let page = self.pages.last_mut();
            if let Some(row) = take(txn, level, page)? {
                if self.is_visit(&row) {
                    return Ok(Some(row));
                }
                continue;
            }
            self.pages.pop();
            let closed = self.walk.open.pop();
            if let Some(closed) = closed.filter(|_| !self.walk.is_top_down)
                && let Some(row) = txn.shown(&closed.dir)?
            {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Opens a directory; tells whether its turn is now.
    fn is_visit(&mut self, row: &NameRow) -> bool {
        if !is_dir(row) {
            return true;
        }
        self.walk.open(&row.path);
        self.pages.push(VecDeque::new());
        self.walk.is_top_down
    }
}

/// The next name of a directory.
fn take(
    txn: &Txn<'_>,
    level: &mut Level,
    page: Option<&mut VecDeque<NameRow>>,
) -> Result<Option<NameRow>, ReadError> {
    let Some(page) = page else { return Ok(None) };
    if page.is_empty() {
        let (mut from, to) = keys::children(Space::Entries, &level.dir);
        if !level.after.is_empty() {
            from.extend_from_slice(&level.after);
            from.push(0);
        }
        let name_at = level.dir.len() + 2;
        for (key, value) in txn.scan(&from, &to, PAGE_ROWS)? {
            let path = join_path(&level.dir, key.get(name_at..).unwrap_or_default());
            page.push_back(decode_name(Space::Entries, &value, &path)?);
        }
    }
    let row = page.pop_front();
    if let Some(row) = &row {
        level.after = Bytes::copy_from_slice(split_path(&row.path).1);
    }
    Ok(row)
}
