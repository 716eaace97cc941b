// SPDX-License-Identifier: Apache-2.0
//! Which entries expire when: hints beside the rows, so that nobody scans a store for them.
//!
//! Every row with a time to live that is written leaves a hint under its last second, in
//! the same batch. Hints are never taken back by later writes: who follows one looks at the
//! row, and when that is gone or lives longer (then it left a later hint) the hint is
//! forgotten. So a hint costs one small row, entries without a time to live cost nothing,
//! and a look costs as many reads as there are hints that are due. Hints are derived, in
//! no digest and in no transfer: the receiver notes its own. A periodic scan of all
//! entries was the alternative; at 10^9 entries it takes days or the machine.

use bytes::Bytes;
use dulse_kv::{Batch, ReadExt};
use dulse_merge::keys::{self, Space};
use dulse_merge::row::Content;
use dulse_merge::txn::{Writes, decode_name};
use dulse_merge::{InodeRow, NameRow, Txn};
use dulse_store::{Error, Operation};
use dulse_types::wire::Reader;
use dulse_types::{FullPath, Identity, Origin, entry};

use crate::error;
use crate::sequencer::Replica;
use crate::shared::{EngineRows, Shared};

/// Behind the time in a hint's key: an entries key without its space follows.
const OF_PATH: u8 = 1;
/// An inode's identity follows.
const OF_INODE: u8 = 2;
/// Bytes of the space and the time in a hint's key.
const HEAD_LEN: usize = 9;

/// A hint whose time is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// Its key, for [`crate::ReplicaStore::hints_followed`] and for going on behind it.
    pub hint: Bytes,
    /// What has expired: a path, or every live path of an inode. None when nothing has,
    /// and the hint may be forgotten.
    pub paths: Vec<FullPath>,
    /// Who wrote the data, and so removes it.
    pub judge: Origin,
    /// Whether nothing refers to the hint any more.
    pub is_stale: bool,
}

/// Whether the filer `own` removes the expired data of `judge`: its origin does, and for one
/// that is no member any more the smallest live origin.
#[must_use]
pub fn removes_expired(own: Origin, judge: Origin, live: &[Origin]) -> bool {
    if judge == own {
        return true;
    }
    let smallest = live.iter().min().copied().unwrap_or(own);
    !live.contains(&judge) && smallest == own
}

/// Adds the hints of the rows that are written.
pub(crate) fn note(writes: &mut Writes) {
    let hints: Vec<Vec<u8>> = writes
        .iter()
        .filter_map(|(key, value)| hint(key, value.as_ref()?))
        .collect();
    let mark = Bytes::from_static(&[1]);
    writes.extend(hints.into_iter().map(|key| (key, Some(mark.clone()))));
}

fn hint(key: &[u8], value: &Bytes) -> Option<Vec<u8>> {
    let (content, tag) = if key.first() == Some(&(Space::Entries as u8)) {
        (NameRow::decode(value, b"").ok()?.content, OF_PATH)
    } else if key.first() == Some(&(Space::Inodes as u8)) {
        (InodeRow::decode(value).ok()?.content, OF_INODE)
    } else {
        return None;
    };
    let last = last_second(&content)?;
    let mut hint = Vec::with_capacity(HEAD_LEN + key.len());
    hint.push(Space::Expiry as u8);
    hint.extend_from_slice(&last.to_be_bytes());
    hint.push(tag);
    hint.extend_from_slice(&key[1..]);
    Some(hint)
}

fn last_second(content: &Content) -> Option<u64> {
    if entry::ttl_of(&content.attributes) <= 0 {
        return None;
    }
    let last = content.entry().expires_after_s()?;
    Some(u64::try_from(last).unwrap_or(0))
}

impl Shared {
    /// Hints whose time is over at `now_s`, at most `limit`, from the first behind `after`.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub fn due(&self, now_s: i64, after: Option<&Bytes>, limit: usize) -> Result<Vec<Due>, Error> {
        let until = u64::try_from(now_s).unwrap_or(0);
        let to = Space::Expiry.key(&until.to_be_bytes());
        let from = match after {
            Some(after) => [after, &[0][..]].concat(),
            None => Space::Expiry.range().0,
        };
        if from >= to {
            return Ok(Vec::new());
        }
        let rows = self.engine.scan(&from, &to, limit);
        let rows = rows.map_err(|e| error::engine(Operation::List, e))?;
        rows.into_iter()
            .map(|(hint, _)| self.follow(hint, now_s))
            .collect()
    }

    fn follow(&self, hint: Bytes, now_s: i64) -> Result<Due, Error> {
        let target = hint.slice(HEAD_LEN.min(hint.len())..);
        let expired = match target.first() {
            Some(&OF_PATH) => self.expired_path(&target[1..], now_s)?,
            Some(&OF_INODE) => self.expired_inode(&target[1..], now_s)?,
            _ => None,
        };
        let is_stale = expired.is_none();
        let (paths, judge) = expired.unwrap_or_default();
        Ok(Due {
            hint,
            paths,
            judge,
            is_stale,
        })
    }

    fn expired_path(
        &self,
        key: &[u8],
        now_s: i64,
    ) -> Result<Option<(Vec<FullPath>, Origin)>, Error> {
        let key = Space::Entries.key(key);
        let Some(path) = keys::path_of(&key) else {
            return Ok(None);
        };
        let value = self.engine.get(&key);
        let Some(value) = value.map_err(|e| error::engine(Operation::Find, e))? else {
            return Ok(None);
        };
        let row = decode_name(Space::Entries, &value, &path)
            .map_err(|e| error::read(Operation::Find, e))?;
        if row.is_implied || row.is_linked || !row.content.entry().is_expired(now_s) {
            return Ok(None);
        }
        let judge = row.content.data_version.origin;
        Ok(parse(&path).map(|path| (vec![path], judge)))
    }

    fn expired_inode(
        &self,
        key: &[u8],
        now_s: i64,
    ) -> Result<Option<(Vec<FullPath>, Origin)>, Error> {
        let Ok(inode) = Identity::read(&mut Reader::new(key)) else {
            return Ok(None);
        };
        let rows = EngineRows(&*self.engine);
        let txn = Txn::new(&rows);
        let read = |e| error::read(Operation::Find, e);
        let Some(row) = txn.inode(inode).map_err(read)? else {
            return Ok(None);
        };
        if !row.content.entry().is_expired(now_s) {
            return Ok(None);
        }
        let names = dulse_merge::apply::live_names(&txn, inode).map_err(read)?;
        let paths = names.iter().filter_map(|name| parse(&name.path)).collect();
        Ok(Some((paths, row.content.data_version.origin)))
    }
}

impl Replica {
    /// Forgets hints that were followed.
    ///
    /// # Errors
    ///
    /// `DiskFull`, `Io`.
    pub fn hints_followed(&mut self, hints: &[Bytes]) -> Result<(), Error> {
        let writes = hints.iter().map(|hint| (hint.to_vec(), None)).collect();
        let written = self.shared.engine.write(Batch { writes });
        written.map_err(|e| error::engine(Operation::Apply, e))
    }
}

fn parse(path: &[u8]) -> Option<FullPath> {
    FullPath::parse(std::str::from_utf8(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datas_origin_removes_it_and_else_the_smallest_live_one() {
        let live = [Origin(2), Origin(3)];
        let removes = |own, judge| removes_expired(Origin(own), Origin(judge), &live);
        assert!(removes(3, 3) && !removes(2, 3));
        assert!(removes(2, 9) && !removes(3, 9));
    }
}
