// SPDX-License-Identifier: Apache-2.0
//! The Redis server that tests run: Debian's packages, unpacked into the cache where they are
//! not installed.

use anyhow::Result;

use crate::cache;
use crate::debian::server;

/// Packages and where something of each lies. They are unpacked over one another: the programs
/// find what they need beside themselves. `redis-server` and `redis-sentinel` are names of one
/// program, which lies in `redis-tools` with `redis-cli`.
const PARTS: [(&str, &str); 7] = [
    ("redis-server", "usr/bin/redis-server"),
    ("redis-sentinel", "usr/bin/redis-sentinel"),
    ("redis-tools", "usr/bin/redis-cli"),
    ("liblzf1", "usr/lib/x86_64-linux-gnu/liblzf.so.1"),
    ("libjemalloc2", "usr/lib/x86_64-linux-gnu/libjemalloc.so.2"),
    ("libatomic1", "usr/lib/x86_64-linux-gnu/libatomic.so.1"),
    ("libssl3", "usr/lib/x86_64-linux-gnu/libssl.so.3"),
];

/// Fetches what is neither installed nor in the cache, and says so.
///
/// # Errors
///
/// When CI is set and the server cannot be had; else that is said.
pub(crate) fn setup() -> Result<()> {
    let root = cache::cache().join("servers/redis-7.0/root");
    server("redis", &PARTS, &root, "the stores in Redis")
}
