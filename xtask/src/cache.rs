// SPDX-License-Identifier: Apache-2.0
//! Where the repository is and where fetched and built things go.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    // Asked at run time first: a shared target directory may hold what another checkout built.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().unwrap_or(&manifest).to_owned()
}

/// `~/.cache/dulse`, or what `DULSE_CACHE` says.
pub(crate) fn cache() -> PathBuf {
    if let Some(dir) = env::var_os("DULSE_CACHE") {
        return dir.into();
    }
    let home = env::var_os("HOME").unwrap_or_else(|| "/tmp".into());
    Path::new(&home).join(".cache/dulse")
}

/// The one target directory of test builds, outside the checkout so that it outlives it.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache().join("target"), PathBuf::from)
}

/// The `weed` program that upstream tests run.
pub(crate) fn weed() -> PathBuf {
    cache().join("servers/weed-4.48/weed")
}

/// Cassandra's archives.
pub(crate) fn cassandra() -> PathBuf {
    cache().join("servers/cassandra-5.0.8")
}

/// HBase's archives.
pub(crate) fn hbase() -> PathBuf {
    cache().join("servers/hbase-2.6.4-hadoop3")
}

/// The `dulse` program built with the test profile.
pub(crate) fn dulse() -> PathBuf {
    target().join("ci/dulse")
}

/// A program built for release.
pub(crate) fn released(name: &str) -> PathBuf {
    target().join("release").join(name)
}
