// SPDX-License-Identifier: Apache-2.0
//! Segments, records and the checkpoint file.

use std::sync::Arc;

use dulse_journal::{Disk, Journal, JournalOptions, MemDisk};
use dulse_types::Stamp;

use super::merge::parts;
use crate::seeds;

/// How the journals of seeds are written.
pub(crate) const OPTIONS: JournalOptions = JournalOptions {
    store: 0x0102_0304_0506_0708,
    segment_size_bytes: 400,
};

/// A disk with these files: the first is the checkpoint, the others are segments in their order.
pub(crate) fn disk(input: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    let mut first = 0_u64;
    for (at, content) in parts(input).take(32).enumerate() {
        let name = match at {
            0 => "checkpoint".to_owned(),
            _ => format!("{first:020}.seg"),
        };
        if disk.append(&name, content).is_ok() && at > 0 {
            first += (content.len() as u64).saturating_sub(seeds::SEGMENT_HEADER_BYTES);
        }
    }
    disk
}

/// Opens what these files are, reads all of it, and writes on.
pub(crate) fn journal(input: &[u8]) {
    let disk = disk(input);
    let Ok((journal, _)) = Journal::open(Arc::new(disk.clone()), OPTIONS) else {
        return;
    };
    let Ok(records) = journal.read(journal.begin(), journal.end(), usize::MAX) else {
        return;
    };
    for (record, _) in records.iter().take(4) {
        let _ = journal.read_origin_after(record.origin, Stamp(record.prev.0), 1 << 20);
    }
    let record = seeds::record(99, b"written after it".to_vec());
    journal
        .append(&[record])
        .expect("append to an open journal");
    journal.sync().expect("sync an open journal");
    let end = journal.end();
    drop(journal);
    let (again, _) = Journal::open(Arc::new(disk), OPTIONS).expect("open it again");
    assert_eq!(
        again.end(),
        end,
        "an opened journal ends elsewhere the next time"
    );
}
