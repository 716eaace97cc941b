// SPDX-License-Identifier: Apache-2.0
//! The manifest, in which RocksDB says which tables there are: records as in LevelDB's files.
//!
//! RocksDB syncs it with each record, so only the last may be torn. A torn one whose length is
//! there and whose bytes are not reads as corruption, and RocksDB would not open the store.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dulse_kv::Error;
use dulse_leveldb::records::{Records, goes_on_behind};

use crate::error::{at, corrupt};

/// Cuts what a crash left of the last record; the file is synced then.
///
/// # Errors
///
/// `Corrupt` when the manifest is damaged before its last record or cannot be found, `Io`.
pub(crate) fn cut_torn_end(dir: &Path) -> Result<(), Error> {
    let path = current(dir)?;
    let content = match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(corrupt(format!("`{}` is gone", path.display())));
        }
        read => read.map_err(|e| at("read", &path, e))?,
    };
    let end = Records::of(&content).last().map_or(0, |record| record.end);
    if end == content.len() {
        return Ok(());
    }
    if end == 0 || goes_on_behind(&content, end) {
        let context = format!("read `{}`: it is damaged at {end}", path.display());
        return Err(corrupt(context));
    }
    tracing::warn!(manifest = %path.display(), at = end, len = content.len(), "cut");
    let opened = File::options().write(true).open(&path);
    let cut = opened.and_then(|file| {
        file.set_len(end as u64)?;
        file.sync_all()
    });
    cut.map_err(|e| at("cut", &path, e))
}

/// The manifest that `CURRENT` names.
fn current(dir: &Path) -> Result<PathBuf, Error> {
    let current = dir.join("CURRENT");
    let named = match fs::read_to_string(&current) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(corrupt(format!("`{}` is gone", current.display())));
        }
        read => read.map_err(|e| at("read", &current, e))?,
    };
    let name = named.strip_suffix('\n').unwrap_or_default();
    let number = name.strip_prefix("MANIFEST-").unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        let context = format!("`{}` names no manifest: `{name}`", current.display());
        return Err(corrupt(context));
    }
    Ok(dir.join(name))
}
