// SPDX-License-Identifier: Apache-2.0
//! What an attempt leaves behind, so that it can be told later whether it was made.
//!
//! Each connection has a row of its own where a key `dulse.at` of the key-value space would be.
//! Its name is 64 random bits of the process in hexadecimal, a dot, and the connection's number:
//! rows are told apart by any collation. Its value is the attempt's ticket (i64) and when (u32,
//! seconds since 1970 by the database's clock), big-endian. Every attempt writes it last before
//! its commit. Upstream's filers never look there.

use std::hash::{BuildHasher, RandomState};

use dulse_shared::sql::{MAIN_TABLE, Place, key_row};
use mysql_async::Value;

/// First bytes of the keys, all of which are hashed: one range of the index holds them.
const PREFIX: &[u8; 8] = b"dulse.at";

/// Rows of processes that are gone are removed after this long, in seconds: longer than a filer
/// is away and comes back to ask.
const KEPT_S: u64 = 90 * 24 * 60 * 60;

/// Rows removed at one start.
const REMOVED_MAX: usize = 10_000;

/// The traces of one process.
#[derive(Clone, Copy)]
pub(crate) struct Traces {
    process: u64,
}

impl Traces {
    /// Traces that no other process has.
    pub(crate) fn new() -> Self {
        // Seeded by the system, anew for each.
        let process = RandomState::new().hash_one((std::process::id(), std::time::Instant::now()));
        Self { process }
    }

    /// The row of a connection.
    pub(crate) fn row(&self, connection: u32) -> Place {
        Place {
            name: format!("{:016x}.{connection}", self.process),
            ..key_row(PREFIX)
        }
    }

    /// The name under which the server knows which connection has a number.
    pub(crate) fn lock(&self, connection: u32) -> String {
        format!("dulse.{:016x}.{connection}", self.process)
    }

    /// The statement that leaves a ticket. Names of rows need no escapes.
    pub(crate) fn leave(&self, connection: u32, ticket: i64) -> String {
        let at = self.row(connection);
        format!(
            "REPLACE INTO `{MAIN_TABLE}` (`dirhash`,`name`,`directory`,`meta`) VALUES \
             ({}, '{}', '{}', CONCAT(X'{:016x}', UNHEX(LPAD(HEX(UNIX_TIMESTAMP()), 8, '0'))))",
            at.dirhash,
            at.name,
            at.directory,
            ticket.cast_unsigned()
        )
    }
}

/// The statement that reads all rows of all processes once nothing is under way on them.
pub(crate) fn all() -> (String, Vec<Value>) {
    let at = key_row(PREFIX);
    let sql = format!(
        "SELECT `meta` FROM `{MAIN_TABLE}` WHERE `dirhash` = ? AND `directory` = ? \
         LOCK IN SHARE MODE"
    );
    (sql, vec![at.dirhash.into(), at.directory.into()])
}

/// The statement that reads one of them.
pub(crate) fn one(at: &Place) -> (String, Vec<Value>) {
    let sql = format!(
        "SELECT `meta` FROM `{MAIN_TABLE}` WHERE `dirhash` = ? AND `name` = ? \
         LOCK IN SHARE MODE"
    );
    (sql, vec![at.dirhash.into(), (&at.name).into()])
}

/// The statement that removes rows of processes that are gone.
pub(crate) fn remove_old() -> String {
    let at = key_row(PREFIX);
    format!(
        "DELETE FROM `{MAIN_TABLE}` WHERE `dirhash` = {} AND `directory` = '{}' \
         AND LENGTH(`meta`) = 12 \
         AND CONV(HEX(SUBSTRING(`meta`, 9)), 16, 10) + {KEPT_S} < UNIX_TIMESTAMP() \
         LIMIT {REMOVED_MAX}",
        at.dirhash, at.directory
    )
}

/// Whether a row says that this attempt was made.
pub(crate) fn says(value: &[u8], ticket: i64) -> bool {
    value.get(..8) == Some(&ticket.to_be_bytes()[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_processes_lie_together_and_apart() {
        let (a, b) = (Traces::new(), Traces::new());
        assert_eq!(a.row(1).dirhash, key_row(PREFIX).dirhash);
        assert_eq!(a.row(1).directory, b.row(2).directory);
        assert_ne!(a.row(1).name, a.row(2).name);
        assert_ne!(a.row(1).name, b.row(1).name);
    }

    #[test]
    fn a_row_speaks_of_one_attempt() {
        let value = [&(-5_i64).to_be_bytes()[..], &[0; 4]].concat();
        assert!(says(&value, -5));
        assert!(!says(&value, 5));
        assert!(!says(&value[..7], -5));
        assert!(Traces::new().leave(0, -5).contains("X'fffffffffffffffb'"));
    }
}
