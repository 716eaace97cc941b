// SPDX-License-Identifier: Apache-2.0
//! The HBase server that tests run.

use anyhow::Result;

use crate::{cache, maven};

/// The release; one for Hadoop 3, whose local file system hands on what is flushed.
const SERVER: maven::Server = maven::Server {
    name: "HBase",
    group: "org.apache.hbase",
    artifact: "hbase-server",
    release: "2.6.4-hadoop3",
};

/// Fetches it where it is not in the cache, and says so.
///
/// # Errors
///
/// As [`maven::setup`].
pub(crate) fn setup() -> Result<()> {
    maven::setup(&SERVER, &cache::hbase())
}

/// Why what needs it cannot run; `None` when it is there.
pub(crate) fn lacks() -> Option<String> {
    maven::lacks(&SERVER, &cache::hbase())
}
