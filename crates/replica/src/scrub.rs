// SPDX-License-Identifier: Apache-2.0
//! Looking through what is stored for what does not fit: a little at a time.
//!
//! Digest rows are kept up by each change and never read back from the rows they sum, so they
//! are a witness of their own: an entry that was flipped, lost or doubled by a disk leaves its
//! directory's digest row as it was. A pass counts every directory anew and tells those whose
//! rows and digest row disagree, and every row that does not decode. It repairs nothing: what
//! is right is known only by comparing with others.

use bytes::Bytes;
use dulse_merge::NameRow;
use dulse_merge::digest::{CONFLICTS_DIR, INODES_DIR, KV_DIR, Sum};
use dulse_merge::keys::{self, Space};
use dulse_merge::repair::is_row;
use dulse_merge::view::is_dir;
use dulse_store::Error;

use crate::items::Census;
use crate::shared::Shared;

/// Damage told by one call; more is found again by the next pass.
const FOUND_MAX: usize = 10_000;

/// Where a pass stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScrubCursor {
    stage: Stage,
    from: Vec<u8>,
}

/// The stages of a pass, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Directories that have entries.
    Entries,
    /// Directories that have shadows; those without entries are looked at.
    Shadows,
    /// Directories that have a digest row; those without rows are looked at.
    Digests,
    /// What counts in directories that no path can be.
    Special,
    /// Rows in no digest: they must decode.
    Others,
}

/// What one call found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Scrubbed {
    /// Rows looked at.
    pub n_rows: u64,
    /// Directories of the digest whose rows are not what their digest row says.
    pub directories: Vec<Bytes>,
    /// Keys of rows in no digest that do not decode.
    pub damaged: Vec<Bytes>,
    /// Paths at which what shows does not follow from the names there: derived rows, which are
    /// made again from them and need no peer.
    pub unsettled: Vec<Bytes>,
    /// Where the next call goes on; `None` when the pass is over.
    pub next: Option<ScrubCursor>,
}

impl Scrubbed {
    fn n_found(&self) -> usize {
        self.directories.len() + self.damaged.len() + self.unsettled.len()
    }
}

impl ScrubCursor {
    /// The beginning of a pass.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            stage: Stage::Entries,
            from: Space::Entries.range().0,
        }
    }

    fn at(stage: Stage, from: Vec<u8>) -> Option<Self> {
        Some(Self { stage, from })
    }
}

impl Shared {
    /// Looks at some more rows, about `max`, in whole directories: one of a million entries is
    /// one call, on one snapshot.
    ///
    /// # Errors
    ///
    /// `Corrupt` when the engine itself cannot read, `Io`.
    pub fn scrub(&self, cursor: &ScrubCursor, max: u64) -> Result<Scrubbed, Error> {
        let census = self.census()?;
        let mut out = Scrubbed::default();
        let mut at = Some(cursor.clone());
        while let Some(now) = at.take() {
            if out.n_rows >= max || out.n_found() >= FOUND_MAX {
                at = Some(now);
                break;
            }
            at = match now.stage {
                Stage::Entries => directory(&census, Space::Entries, now.from, &mut out)?,
                Stage::Shadows => directory(&census, Space::Shadows, now.from, &mut out)?,
                Stage::Digests => digest_row(&census, now.from, &mut out)?,
                Stage::Special => {
                    for dir in [INODES_DIR, KV_DIR, CONFLICTS_DIR] {
                        check(&census, dir, &mut out)?;
                    }
                    ScrubCursor::at(Stage::Others, Space::Moved.range().0)
                }
                Stage::Others => others(&census, &now.from, &mut out)?,
            };
        }
        out.next = at;
        Ok(out)
    }
}

/// The next directory in the space of entries or of shadows.
fn directory(
    census: &Census,
    space: Space,
    from: Vec<u8>,
    out: &mut Scrubbed,
) -> Result<Option<ScrubCursor>, Error> {
    let (stage, behind) = match space {
        Space::Entries => (
            Stage::Entries,
            ScrubCursor::at(Stage::Shadows, Space::Shadows.range().0),
        ),
        _ => (
            Stage::Shadows,
            ScrubCursor::at(Stage::Digests, Space::Digest.range().0),
        ),
    };
    let rows = census.scan(&from, &space.range().1, 1)?;
    let Some((key, _)) = rows.first() else {
        return Ok(behind);
    };
    let Some(end) = key.iter().position(|byte| *byte == 0) else {
        // Its key is damaged: no name can lie there.
        out.n_rows += 1;
        out.damaged.push(key.clone());
        return Ok(ScrubCursor::at(stage, [key, &[0][..]].concat()));
    };
    let dir = key.slice(1..end);
    let (first, behind) = keys::children(space, &dir);
    let (entries, entries_end) = keys::children(Space::Entries, &dir);
    // With its entries it was looked at already.
    if space == Space::Entries || census.scan(&entries, &entries_end, 1)?.is_empty() {
        check(census, &dir, out)?;
    }
    debug_assert!(first <= key.to_vec());
    Ok(ScrubCursor::at(stage, behind))
}

/// The next digest row: of a directory that has no rows at all.
fn digest_row(
    census: &Census,
    from: Vec<u8>,
    out: &mut Scrubbed,
) -> Result<Option<ScrubCursor>, Error> {
    let rows = census.scan(&from, &Space::Digest.range().1, 1_000)?;
    let Some((last, _)) = rows.last() else {
        return Ok(ScrubCursor::at(Stage::Special, Vec::new()));
    };
    let next = [last, &[0][..]].concat();
    for (key, value) in &rows {
        out.n_rows += 1;
        let dir = key.slice(3.min(key.len())..);
        if keys::digest(&dir) != key[..] {
            out.damaged.push(key.clone());
            continue;
        }
        let is_special = [INODES_DIR, KV_DIR, CONFLICTS_DIR].contains(&&dir[..]);
        let any = |space| {
            let (from, to) = keys::children(space, &dir);
            Ok::<_, Error>(!census.scan(&from, &to, 1)?.is_empty())
        };
        if is_special || any(Space::Entries)? || any(Space::Shadows)? {
            continue;
        }
        if Sum::decode(value) != Ok(Sum::default()) {
            out.directories.push(dir);
        }
    }
    Ok(ScrubCursor::at(Stage::Digests, next))
}

fn check(census: &Census, dir: &[u8], out: &mut Scrubbed) -> Result<(), Error> {
    let (mut total, mut after, mut is_damaged) = (Sum::default(), None, false);
    loop {
        let page = census.items(dir, after.as_ref(), 1_000)?;
        out.n_rows += page.items.len().max(1) as u64;
        is_damaged |= page.items.iter().any(|item| item.hash.is_none());
        total.merge(crate::items::sum(&page.items));
        let paths = page.unsettled.iter();
        out.unsettled
            .extend(paths.map(|name| keys::join_path(dir, name).into()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if dir.first() == Some(&b'/') && dir.len() > 1 && !is_shown_as_directory(census, dir)? {
        out.unsettled.push(Bytes::copy_from_slice(dir));
    }
    if is_damaged || total != census.stored(dir)? {
        out.directories.push(Bytes::copy_from_slice(dir));
    }
    Ok(())
}

/// Whether what has entries is a directory (I5). One whose own row does not decode is told
/// with the directory that it lies in.
fn is_shown_as_directory(census: &Census, dir: &[u8]) -> Result<bool, Error> {
    if !census.has_children(dir)? {
        return Ok(true);
    }
    let row = census.get(&keys::entry(dir))?;
    Ok(row.is_some_and(|row| NameRow::decode(&row, b"").map_or(true, |row| is_dir(&row))))
}

/// The spaces whose rows count in no digest, or not all of them.
fn rest() -> [(Vec<u8>, Vec<u8>); 2] {
    [
        // Moved, partial, graves, inodes, links, kv, kv graves, conflicts, garbage.
        (Space::Moved.range().0, Space::Garbage.range().1),
        Space::Members.range(),
    ]
}

fn others(census: &Census, from: &[u8], out: &mut Scrubbed) -> Result<Option<ScrubCursor>, Error> {
    for (first, end) in rest() {
        let at = first.max(from.to_vec());
        if at >= end {
            continue;
        }
        let rows = census.scan(&at, &end, 1_000)?;
        let Some((last, _)) = rows.last() else {
            continue;
        };
        let next = [last, &[0][..]].concat();
        out.n_rows += rows.len() as u64;
        let bad = rows.iter().filter(|(key, value)| !is_row(key, value));
        out.damaged.extend(bad.map(|(key, _)| key.clone()));
        return Ok(ScrubCursor::at(Stage::Others, next));
    }
    Ok(None)
}
