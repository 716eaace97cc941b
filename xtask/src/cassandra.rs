// SPDX-License-Identifier: Apache-2.0
//! The Cassandra server that tests run.

use anyhow::Result;

use crate::{cache, maven};

/// The release.
const SERVER: maven::Server = maven::Server {
    name: "Cassandra",
    group: "org.apache.cassandra",
    artifact: "cassandra-all",
    release: "5.0.8",
};

/// Fetches it where it is not in the cache, and says so.
///
/// # Errors
///
/// As [`maven::setup`].
pub(crate) fn setup() -> Result<()> {
    maven::setup(&SERVER, &cache::cassandra())
}

/// Why what needs it cannot run; `None` when it is there.
pub(crate) fn lacks() -> Option<String> {
    maven::lacks(&SERVER, &cache::cassandra())
}
