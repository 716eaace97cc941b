// SPDX-License-Identifier: Apache-2.0
//! The PostgreSQL server that tests run: Debian's packages, unpacked into the cache where they
//! are not installed.

use anyhow::Result;

use crate::cache;
use crate::debian::server;

/// Packages and where something of each lies. They are unpacked over one another: the programs
/// find what they need beside themselves.
const PARTS: [(&str, &str); 3] = [
    ("postgresql-15", "usr/lib/postgresql/15/bin/postgres"),
    ("postgresql-client-15", "usr/lib/postgresql/15/bin/psql"),
    ("libpq5", "usr/lib/x86_64-linux-gnu/libpq.so.5"),
];

/// Fetches what is neither installed nor in the cache, and says so.
///
/// # Errors
///
/// When CI is set and the server cannot be had; else that is said.
pub(crate) fn setup() -> Result<()> {
    let root = cache::cache().join("debian").join(PARTS[0].0).join("root");
    server("postgres", &PARTS, &root, "the store in PostgreSQL")
}
