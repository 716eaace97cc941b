// SPDX-License-Identifier: Apache-2.0
//! LevelDB's logs and manifests, as they are read before LevelDB sees them.

use dulse_engine_leveldb::log_number;
use dulse_leveldb::records::{Records, goes_on_behind};

/// Reads a file; cut where its records end, it says the same.
pub(crate) fn files(input: &[u8]) {
    let mut end = 0;
    let mut n = 0;
    for record in Records::of(input) {
        let _ = log_number(&record.bytes);
        assert!(
            record.end > end && record.end <= input.len(),
            "it ends elsewhere"
        );
        end = record.end;
        n += 1;
    }
    assert_eq!(
        Records::of(&input[..end]).count(),
        n,
        "a cut file holds other records"
    );
    // What is cut off is no whole record.
    let _ = goes_on_behind(input, end);
}
