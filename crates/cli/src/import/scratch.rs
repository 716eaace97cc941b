// SPDX-License-Identifier: Apache-2.0
//! Where a LevelDB or RocksDB is copied to, to be opened: a directory beside the new store.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::exit::Usage;

/// Says that a directory was made here; locked while it is in use.
const MARK: &str = "dulse-import";

/// The directory; removed when dropped.
pub(super) struct Scratch {
    dir: PathBuf,
    /// Held for as long as the copy is read.
    _lock: File,
}

impl Scratch {
    /// Makes it, or takes over what a killed import left.
    ///
    /// # Errors
    ///
    /// `Usage` when something else is there, or another import uses it.
    pub(super) fn make(dir: PathBuf) -> Result<Self> {
        let shown = dir.display().to_string();
        let failed = || format!("make `{shown}`, where the source is copied to");
        fs::create_dir_all(&dir).with_context(failed)?;
        let mark = dir.join(MARK);
        // What is not ours stays: it may be the source itself.
        if !mark.is_file() && fs::read_dir(&dir).with_context(failed)?.next().is_some() {
            return Err(Usage(format!(
                "`{shown}` is where the source would be copied to, and it is there already and \
                 no copy of an import; expected --dir with another name, or that moved away"
            ))
            .into());
        }
        let lock = File::create(&mark).with_context(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Usage(format!("another import uses `{shown}`")).into());
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
        let made = Self { dir, _lock: lock };
        remove(&made.copy()).with_context(failed)?;
        Ok(made)
    }

    /// Where the copy goes; not there yet.
    pub(super) fn copy(&self) -> PathBuf {
        self.dir.join("copy")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Order: the mark last. Killed in between, the next import knows it for its own.
        if let Err(error) = remove(&self.copy()).and_then(|()| remove(&self.dir)) {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot remove the copy of the source");
        }
    }
}

fn remove(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Refuses a new store in the source, or around it.
///
/// # Errors
///
/// `Usage`.
pub(super) fn check_apart(source: &Path, dir: &Path) -> Result<()> {
    let (from, to) = (real(source), real(dir));
    if from.starts_with(&to) || to.starts_with(&from) {
        return Err(Usage(format!(
            "`{}` and the new store `{}` lie in one another; expected --dir with a directory \
             apart from the source",
            source.display(),
            dir.display()
        ))
        .into());
    }
    Ok(())
}

/// A path without links, also where its end is not there yet.
fn real(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        let here = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        if let (Ok(real), Ok(rest)) = (here.canonicalize(), path.strip_prefix(above)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_copy_of_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("x.source");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("CURRENT"), "theirs").unwrap();
        let error = Scratch::make(place.clone()).map(drop).unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        assert_eq!(fs::read_to_string(place.join("CURRENT")).unwrap(), "theirs");
    }

    #[test]
    fn what_a_killed_import_left_is_taken_over_and_one_that_runs_keeps_its_copy() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("x.source");
        let first = Scratch::make(place.clone()).unwrap();
        fs::create_dir(first.copy()).unwrap();
        let error = Scratch::make(place.clone()).map(drop).unwrap_err();
        assert!(error.to_string().contains("another import"), "{error}");
        assert!(first.copy().exists());
        drop(first);
        assert!(!place.exists());
        // One that was killed leaves its files, and no lock.
        fs::create_dir_all(place.join("copy")).unwrap();
        fs::write(place.join(MARK), "").unwrap();
        let next = Scratch::make(place).unwrap();
        assert!(!next.copy().exists());
    }

    #[test]
    fn a_new_store_is_apart_from_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("theirs");
        fs::create_dir(&source).unwrap();
        for inside in [source.clone(), source.join("new"), dir.path().to_owned()] {
            let error = check_apart(&source, &inside).unwrap_err();
            assert!(error.is::<Usage>(), "{error}");
        }
        check_apart(&source, &dir.path().join("theirs.dulse")).unwrap();
        check_apart(&source, &dir.path().join("not/there/yet")).unwrap();
    }
}
