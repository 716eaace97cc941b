// SPDX-License-Identifier: Apache-2.0
//! Where the rows of a table are: regions, each a range of rows at one server.
//!
//! A row of `hbase:meta` is a region: `table,first row,id.hash.`, its range in `info:regioninfo`
//! (`"PBUF"`, then a message), its server in `info:server` (`host:port`). One scan backwards from
//! `table,row,:` finds the region of a row, since `:` is behind every digit of an id.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;

use crate::pb;
use crate::zookeeper::{Address, MESSAGE_MAGIC};

/// The one region of `hbase:meta`.
pub(crate) const META_REGION: &[u8] = b"hbase:meta,,1";

/// Columns of a region in `hbase:meta`.
pub(crate) const INFO_FAMILY: &[u8] = b"info";
pub(crate) const INFO: &[u8] = b"regioninfo";
pub(crate) const SERVER: &[u8] = b"server";

/// Regions that are remembered.
const REGIONS_MAX: usize = 100_000;

/// A range of rows of the table, and who serves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// As servers know it.
    pub name: Bytes,
    /// First row.
    pub start: Bytes,
    /// First row behind it; empty is the end of the table.
    pub end: Bytes,
    /// Its server.
    pub server: Address,
}

/// Why a row of `hbase:meta` names no region that can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegionError {
    /// It does not decode.
    #[error("a row of hbase:meta does not decode")]
    Damaged,
    /// It was split, or is taken offline.
    #[error("the region was split or is offline")]
    Offline,
    /// No server has it now.
    #[error("no server has the region now")]
    Unassigned,
}

impl Region {
    /// Whether a row lies in it.
    #[must_use]
    pub fn holds(&self, row: &[u8]) -> bool {
        self.start[..] <= *row && (self.end.is_empty() || *row < self.end[..])
    }
}

/// The region of a row of `hbase:meta`.
///
/// # Errors
///
/// [`RegionError`] when it cannot be asked, or the bytes are none of a region.
pub fn region_of_row(name: Bytes, info: Bytes, server: &[u8]) -> Result<Region, RegionError> {
    if !info.starts_with(MESSAGE_MAGIC) {
        return Err(RegionError::Damaged);
    }
    let message = pb::RegionInfo::decode(info.slice(MESSAGE_MAGIC.len()..));
    let message = message.map_err(|_| RegionError::Damaged)?;
    if message.offline == Some(true) || message.split == Some(true) {
        return Err(RegionError::Offline);
    }
    if server.is_empty() {
        return Err(RegionError::Unassigned);
    }
    let server = std::str::from_utf8(server).map_err(|_| RegionError::Damaged)?;
    let (host, port) = server.rsplit_once(':').ok_or(RegionError::Damaged)?;
    let (start, end) = (
        message.start_key.unwrap_or_default(),
        message.end_key.unwrap_or_default(),
    );
    if !end.is_empty() && end <= start {
        return Err(RegionError::Damaged);
    }
    Ok(Region {
        name,
        start,
        end,
        server: Address {
            host: host.to_owned(),
            port: port.parse().map_err(|_| RegionError::Damaged)?,
        },
    })
}

/// The first row to look for backwards, and the last: both names of regions that do not exist.
pub(crate) fn meta_range(table: &str, row: &[u8]) -> (Bytes, Bytes) {
    let from = [table.as_bytes(), b",", row, b",:"].concat();
    let to = [table.as_bytes(), b",,"].concat();
    (from.into(), to.into())
}

/// Regions that are known.
#[derive(Default)]
pub(crate) struct Known(Mutex<BTreeMap<Bytes, Arc<Region>>>);

impl Known {
    /// The region of a row, as far as is known.
    pub(crate) fn of(&self, row: &[u8]) -> Option<Arc<Region>> {
        let known = self.0.lock();
        let (_, region) = known
            .range::<[u8], _>((std::ops::Bound::Unbounded, std::ops::Bound::Included(row)))
            .next_back()?;
        region.holds(row).then(|| Arc::clone(region))
    }

    /// Remembers a region, instead of all that it overlaps.
    pub(crate) fn put(&self, region: Arc<Region>) {
        let mut known = self.0.lock();
        if known.len() >= REGIONS_MAX {
            known.clear();
        }
        let overlaps = |other: &Region| {
            (region.end.is_empty() || other.start < region.end)
                && (other.end.is_empty() || region.start < other.end)
        };
        // Only the one before the first row, and those from there on, can overlap it.
        let before = known.range(..region.start.clone()).next_back();
        let mut gone: Vec<Bytes> = before.map(|(start, _)| start.clone()).into_iter().collect();
        let behind = known.range(region.start.clone()..).map(|(start, _)| start);
        let end = &region.end;
        gone.extend(
            behind
                .take_while(|start| end.is_empty() || *start < end)
                .cloned(),
        );
        for start in gone {
            if known.get(&start).is_some_and(|other| overlaps(other)) {
                known.remove(&start);
            }
        }
        known.insert(region.start.clone(), region);
    }

    /// Forgets a region, if it is still the one that is known.
    pub(crate) fn forget(&self, region: &Arc<Region>) {
        let mut known = self.0.lock();
        if known
            .get(&region.start)
            .is_some_and(|it| Arc::ptr_eq(it, region))
        {
            known.remove(&region.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: &'static str, end: &'static str, port: u16) -> Arc<Region> {
        Arc::new(Region {
            name: Bytes::from_static(b"t"),
            start: Bytes::from_static(start.as_bytes()),
            end: Bytes::from_static(end.as_bytes()),
            server: Address {
                host: "h".to_owned(),
                port,
            },
        })
    }

    fn port(known: &Known, row: &str) -> Option<u16> {
        known.of(row.as_bytes()).map(|region| region.server.port)
    }

    #[test]
    fn a_row_is_looked_for_in_its_region_only() {
        let known = Known::default();
        known.put(region("b", "d", 1));
        known.put(region("f", "", 2));
        for (row, expect) in [
            ("", None),
            ("a", None),
            ("b", Some(1)),
            ("c\u{7f}", Some(1)),
            ("d", None),
            ("e", None),
            ("f", Some(2)),
            ("z", Some(2)),
        ] {
            assert_eq!(port(&known, row), expect, "{row}");
        }
    }

    #[test]
    fn a_region_replaces_what_it_overlaps() {
        let known = Known::default();
        // One that was split, and two that were merged.
        known.put(region("", "", 1));
        known.put(region("m", "", 2));
        assert_eq!((port(&known, "a"), port(&known, "m")), (None, Some(2)));
        known.put(region("", "m", 3));
        assert_eq!((port(&known, "a"), port(&known, "m")), (Some(3), Some(2)));
        known.put(region("", "", 4));
        assert_eq!((port(&known, "a"), port(&known, "z")), (Some(4), Some(4)));
    }

    #[test]
    fn only_the_region_that_failed_is_forgotten() {
        let known = Known::default();
        let old = region("", "", 1);
        known.put(Arc::clone(&old));
        known.put(region("", "", 2));
        known.forget(&old);
        assert_eq!(port(&known, "a"), Some(2));
        known.forget(&known.of(b"a").unwrap());
        assert_eq!(port(&known, "a"), None);
    }

    #[test]
    fn rows_of_meta_are_regions_or_say_why_not() {
        let info = |info: pb::RegionInfo| -> Bytes {
            [&MESSAGE_MAGIC[..], &info.encode_to_vec()].concat().into()
        };
        let name = Bytes::from_static(b"t,,1.x.");
        let whole = info(pb::RegionInfo::default());
        let read = region_of_row(name.clone(), whole.clone(), b"h:16020").unwrap();
        assert!(read.holds(b"") && read.holds(b"\xff"));
        let offline = pb::RegionInfo {
            offline: Some(true),
            ..Default::default()
        };
        let turned = pb::RegionInfo {
            start_key: Some(Bytes::from_static(b"b")),
            end_key: Some(Bytes::from_static(b"a")),
            ..Default::default()
        };
        for (bytes, server, expect) in [
            (Bytes::new(), &b"h:1"[..], RegionError::Damaged),
            (whole.clone(), b"", RegionError::Unassigned),
            (whole.clone(), b"h", RegionError::Damaged),
            (whole.clone(), b"h:70000", RegionError::Damaged),
            (whole, b"\xff:1", RegionError::Damaged),
            (info(offline), b"h:1", RegionError::Offline),
            (info(turned), b"h:1", RegionError::Damaged),
        ] {
            assert_eq!(region_of_row(name.clone(), bytes, server), Err(expect));
        }
    }
}
