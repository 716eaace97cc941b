// SPDX-License-Identifier: Apache-2.0
//! The etcd server that tests run, and its client: Debian's packages, unpacked into the cache
//! where they are not installed.

use anyhow::Result;

use crate::cache;
use crate::debian::server;

/// Packages and where something of each lies. Its programs need nothing but the C library.
const PARTS: [(&str, &str); 2] = [
    ("etcd-server", "usr/bin/etcd"),
    ("etcd-client", "usr/bin/etcdctl"),
];

/// Fetches what is neither installed nor in the cache, and says so.
///
/// # Errors
///
/// When CI is set and the server cannot be had; else that is said.
pub(crate) fn setup() -> Result<()> {
    let root = cache::cache().join("servers/etcd-3.4/root");
    server("etcd", &PARTS, &root, "the store in etcd")
}
