// SPDX-License-Identifier: Apache-2.0
//! What the other filers on the store announced: kept here, so that subscribers of this filer
//! resume at any point whoever is away.
//!
//! A journal of its own beside that of this filer, one record per announcement, and a small file
//! that says of each origin behind which stamp it is whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dulse_journal::{Journal, JournalError, JournalOptions, RealDisk, Record, RecordKind};
use dulse_shared::{Announced, Announcement, Payload};
use dulse_store::{Error, ErrorKind, Operation};
use dulse_types::{Origin, Stamp, Vector};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::notes::{floors_text, parse_floors};

/// Bytes of a segment.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Name of the file of floors.
const FLOORS: &str = "floors";

/// Origins that the file of floors holds at most: the oldest are members of the past.
const FLOORS_MAX: usize = 4_096;

/// See the module.
pub(crate) struct Gathered {
    journal: Journal,
    floors_path: PathBuf,
    /// Of each origin: everything behind it is here, up to the last.
    floors: Mutex<BTreeMap<Origin, Stamp>>,
    /// What is on disk. Written by `append` only.
    lasts: watch::Sender<Vector>,
    /// Held while records are appended: an origin may be heard at two addresses at once.
    writing: Mutex<()>,
}

/// One announcement as it travels.
pub(crate) struct Heard {
    pub(crate) stamp: Stamp,
    pub(crate) prev: Stamp,
    pub(crate) payload: Bytes,
}

impl Gathered {
    /// Opens or makes it. Blocks.
    ///
    /// - `store`: the store's id.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`, `Unavailable` when another process has it open.
    pub(crate) fn open(dir: &Path, store: u32) -> Result<Self, Error> {
        let disk = RealDisk::open(&dir.join("others")).map_err(|e| {
            let kind = match e.is_locked() {
                true => ErrorKind::Unavailable,
                false => ErrorKind::Io,
            };
            Error::new(Operation::Open, kind).source(e)
        })?;
        let options = JournalOptions {
            store: u64::from(store),
            segment_size_bytes: SEGMENT_BYTES,
        };
        let (journal, _) = Journal::open(Arc::new(disk), options).map_err(failed)?;
        let floors_path = dir.join(FLOORS);
        let floors = read_floors(&floors_path)?;
        let lasts = journal.lasts();
        Ok(Self {
            journal,
            floors_path,
            floors: Mutex::new(floors),
            lasts: watch::Sender::new(lasts),
            writing: Mutex::new(()),
        })
    }

    /// The last stamp of each origin that is on disk.
    pub(crate) fn lasts(&self) -> Vector {
        self.lasts.borrow().clone()
    }

    /// Told whenever more is on disk.
    pub(crate) fn arrivals(&self) -> watch::Receiver<Vector> {
        self.lasts.subscribe()
    }

    /// Notes behind which stamp an origin's announcements go on, when some are left out.
    /// Durable at return; blocks.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub(crate) fn begin_behind(&self, origin: Origin, floor: Stamp) -> Result<(), Error> {
        if floor <= self.lasts.borrow().get(origin) {
            return Ok(());
        }
        let mut floors = self.floors.lock();
        floors.insert(origin, floor);
        keep_newest(&mut floors, Some(origin));
        write_floors(&self.floors_path, &floors)
    }

    /// Notes, once, behind which stamp this filer itself knows what happened on the store: zero
    /// when it made the store. Durable at return; blocks.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub(crate) fn begin_self(&self, own: Origin, at: Stamp) -> Result<(), Error> {
        let mut floors = self.floors.lock();
        if floors.contains_key(&own) {
            return Ok(());
        }
        floors.insert(own, at);
        write_floors(&self.floors_path, &floors)
    }

    /// Behind which stamp an origin's announcements begin here.
    pub(crate) fn floor(&self, origin: Origin) -> Stamp {
        let floors = self.floors.lock();
        floors.get(&origin).copied().unwrap_or(Stamp::ZERO)
    }

    /// Takes in announcements of one origin, in order; those that are here already are passed
    /// over. On disk at return; blocks.
    ///
    /// # Errors
    ///
    /// `Corrupt` for bytes that are none, `DiskFull`, `Io`.
    pub(crate) fn append(&self, origin: Origin, heard: Vec<Heard>) -> Result<(), Error> {
        let _writing = self.writing.lock();
        let mut last = self.lasts.borrow().get(origin);
        let mut records = Vec::with_capacity(heard.len());
        for one in heard {
            if one.stamp <= last {
                continue;
            }
            // Checked before it is kept: nobody could read on behind it.
            Payload::decode(&one.payload).map_err(corrupt)?;
            records.push(Record {
                kind: RecordKind::Change,
                origin,
                stamp: one.stamp,
                prev: one.prev,
                payload: one.payload,
            });
            last = one.stamp;
        }
        if records.is_empty() {
            return Ok(());
        }
        self.journal.append(&records).map_err(failed)?;
        self.journal.sync().map_err(failed)?;
        self.lasts.send_modify(|lasts| lasts.set(origin, last));
        Ok(())
    }

    /// Announcements of an origin behind a stamp, in order, about `max_bytes` of them.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    pub(crate) fn read(
        &self,
        origin: Origin,
        after: Stamp,
        max_bytes: usize,
    ) -> Result<Vec<(Announcement, usize)>, Error> {
        let records = self.journal.read_origin_after(origin, after, max_bytes);
        let records = records.map_err(failed)?.into_iter();
        let decoded = records.map(|record| {
            let announced = match Payload::decode(&record.payload).map_err(corrupt)? {
                Payload::Seen { announced, .. } => announced,
                _ => Announced::default(),
            };
            let announcement = Announcement {
                stamp: record.stamp,
                prev: record.prev,
                announced,
            };
            Ok((announcement, record.payload.len()))
        });
        decoded.collect()
    }

    /// Behind which stamp all of an origin's announcements are here: what is older was left
    /// out or is no longer kept.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub(crate) fn whole_behind(&self, origin: Origin) -> Result<Stamp, Error> {
        let floor = self.floors.lock().get(&origin).copied();
        let floor = floor.unwrap_or(Stamp::ZERO);
        // Order: before the journal. None left of what was heard by then: it was dropped.
        let last = self.lasts.borrow().get(origin);
        let first = self.journal.read_origin_after(origin, floor, 1);
        let first = first.map_err(failed)?;
        let begin = first.first().map_or(last, |record| record.prev);
        Ok(begin.max(floor))
    }

    /// Origins that were ever heard.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        let mut origins: Vec<_> = self.floors.lock().keys().copied().collect();
        origins.extend(self.lasts.borrow().iter().map(|(origin, _)| origin));
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    /// Notes that what these name is dropped. Durable at return; blocks.
    fn begin_behind_all(&self, dropped: &Vector) -> Result<(), Error> {
        let mut floors = self.floors.lock();
        for (origin, last) in dropped.iter() {
            let floor = floors.entry(origin).or_insert(last);
            *floor = last.max(*floor);
        }
        keep_newest(&mut floors, None);
        write_floors(&self.floors_path, &floors)
    }

    /// Drops what is older than `oldest`, and the oldest above a budget.
    ///
    /// # Errors
    ///
    /// `Io`.
    pub(crate) fn trim(&self, oldest: Stamp, budget_bytes: u64) -> Result<u64, Error> {
        let mut n_freed = 0;
        while let Some(segment) = self.journal.oldest() {
            if segment.newest >= oldest && self.journal.size_bytes() <= budget_bytes {
                break;
            }
            self.begin_behind_all(&segment.lasts)?;
            n_freed += self.journal.drop_before(segment.end).map_err(failed)?;
        }
        Ok(n_freed)
    }

    /// What it takes on disk, in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.journal.size_bytes()
    }
}

/// Forgets the oldest where there are too many, but for one.
fn keep_newest(floors: &mut BTreeMap<Origin, Stamp>, but: Option<Origin>) {
    while floors.len() > FLOORS_MAX {
        let others = floors.iter().filter(|(origin, _)| Some(**origin) != but);
        let oldest = others.min_by_key(|(_, stamp)| **stamp);
        let Some(oldest) = oldest.map(|(origin, _)| *origin) else {
            break;
        };
        floors.remove(&oldest);
    }
}

fn read_floors(path: &Path) -> Result<BTreeMap<Origin, Stamp>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(Error::new(Operation::Open, ErrorKind::Io).source(e)),
    };
    parse_floors(&text).ok_or_else(|| {
        let what = format!("`{}` has lines that are no `origin stamp`", path.display());
        Error::new(Operation::Open, ErrorKind::Corrupt).with("because", what)
    })
}

fn write_floors(path: &Path, floors: &BTreeMap<Origin, Stamp>) -> Result<(), Error> {
    let text = floors_text(floors);
    let write = || {
        let beside = path.with_extension("new");
        let mut file = std::fs::File::create(&beside)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        match path.parent() {
            Some(dir) => std::fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|e: std::io::Error| Error::new(Operation::Apply, ErrorKind::Io).source(e))
}

fn failed(error: JournalError) -> Error {
    let kind = match &error {
        error if error.is_full() => ErrorKind::DiskFull,
        JournalError::Poisoned => ErrorKind::Unavailable,
        JournalError::Disk(_) => ErrorKind::Io,
        _ => ErrorKind::Corrupt,
    };
    Error::new(Operation::Apply, kind).source(error)
}

fn corrupt(error: dulse_types::wire::WireError) -> Error {
    Error::new(Operation::Apply, ErrorKind::Corrupt).source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(stamp: i64, prev: i64) -> Heard {
        let announced = Announced::default();
        let position = 0;
        Heard {
            stamp: Stamp(stamp),
            prev: Stamp(prev),
            payload: Payload::Seen {
                position,
                announced,
            }
            .encode(),
        }
    }

    #[test]
    fn what_was_heard_is_there_again_once_and_what_was_left_out_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Origin(1 << 32 | 7), Origin(2 << 32 | 7));
        {
            let gathered = Gathered::open(dir.path(), 7).unwrap();
            gathered.append(a, vec![heard(5, 0), heard(9, 5)]).unwrap();
            gathered.append(a, vec![heard(9, 5), heard(12, 9)]).unwrap();
            gathered.begin_behind(b, Stamp(100)).unwrap();
            gathered.append(b, vec![heard(110, 100)]).unwrap();
            let bad = Heard {
                payload: Bytes::from_static(b"x"),
                ..heard(13, 12)
            };
            assert!(gathered.append(a, vec![bad]).is_err());
        }
        let gathered = Gathered::open(dir.path(), 7).unwrap();
        let stamps = |origin, after| {
            let read = gathered.read(origin, Stamp(after), 1 << 20).unwrap();
            read.iter().map(|(one, _)| one.stamp.0).collect::<Vec<_>>()
        };
        assert_eq!(stamps(a, 0), [5, 9, 12]);
        assert_eq!(stamps(a, 5), [9, 12]);
        assert_eq!(gathered.lasts().get(b), Stamp(110));
        assert_eq!(gathered.whole_behind(a).unwrap(), Stamp::ZERO);
        assert_eq!(gathered.whole_behind(b).unwrap(), Stamp(100));
        // A later hole: what lies before it is no longer whole.
        gathered.begin_behind(a, Stamp(50)).unwrap();
        assert_eq!(gathered.whole_behind(a).unwrap(), Stamp(50));
        assert_eq!(gathered.origins(), [a, b]);
    }

    #[test]
    fn a_file_of_floors_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FLOORS), "what\n").unwrap();
        assert!(Gathered::open(dir.path(), 7).is_err());
    }
}
