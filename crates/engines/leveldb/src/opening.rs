// SPDX-License-Identifier: Apache-2.0
//! Opening the files: a new store, one that was closed, one that a crash left.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dulse_kv::Error;
use dulse_kv::files::sync_dir;
use dulse_leveldb::{Db, Options};

use crate::error::{NAME, corrupt, fail};
use crate::recovery::{self, at};

/// The file that says that a directory is such a store, and what must not be done with it. It is
/// made last.
pub const MARKER: &str = "STORE";

/// What [`MARKER`] holds. It is compared as a whole: another text is another format.
const MARKED: &str = "\
Dulse, engine leveldb, format 1.

The files in this directory are one LevelDB database: the state of one filer
as of some place in its log, which is in the directory `journal` beside it.
They are written unsynced between checkpoints; after a crash the filer cuts
what does not follow before LevelDB sees it. Another program that opens them
would take the remains of a crash for whole, and a filer would not notice.
To look at them, copy the directory while the filer is stopped, and open the
copy. To get rid of a damaged store, stop the filer and remove all of its
directory, not single files in it: it is filled again from the other filers.
";

/// The second name of what opening may delete begins with this.
const SPARE: &str = "before.";

/// Says that all files have their second names.
const SPARES_COMPLETE: &str = "before.complete";

/// Opens what is there or makes it. The caller holds the lock.
///
/// # Errors
///
/// `Corrupt`, `DiskFull`, `Locked`, `Io`.
pub(crate) fn open(dir: &Path, options: &Options) -> Result<Db, Error> {
    let marker = dir.join(MARKER);
    match fs::read(&marker) {
        Ok(text) if text == MARKED.as_bytes() => reopen(dir, options),
        Ok(_) => Err(corrupt(format!(
            "`{}` does not say that this is a store of this version",
            marker.display()
        ))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => make(dir, options),
        Err(e) => Err(at("read", &marker, e)),
    }
}

/// Makes a store. It gets its marker last, so half of one is made anew.
fn make(dir: &Path, options: &Options) -> Result<Db, Error> {
    let files = files(dir)?;
    // Order: all are looked at before the first goes.
    for path in &files {
        let name = name(path);
        let len = fs::metadata(path)
            .map_err(|e| at("look at", path, e))?
            .len();
        let is_table = name.ends_with(".ldb") || name.ends_with(".sst");
        if is_table || (name.ends_with(".log") && len > 0) {
            let context = format!(
                "open `{}`: there is no `{MARKER}` beside it",
                path.display()
            );
            return Err(corrupt(context));
        }
    }
    for path in &files {
        let name = name(path);
        let is_half = ["CURRENT", "STORE.half", "LOG", "LOG.old"].contains(&&*name)
            || name.starts_with("MANIFEST-")
            || [".log", ".dbtmp"].iter().any(|end| name.ends_with(end));
        if is_half {
            fs::remove_file(path).map_err(|e| at("remove", path, e))?;
        }
    }
    let options = Options {
        create_if_missing: true,
        ..*options
    };
    let db = Db::open(dir, &options).map_err(|e| fail("make the store", e))?;
    // Order: what the marker vouches for before the marker, and its content before its name.
    sync_dir(NAME, dir)?;
    let half = dir.join("STORE.half");
    let written = File::create(&half).and_then(|mut file| {
        file.write_all(MARKED.as_bytes())?;
        file.sync_all()?;
        fs::rename(&half, dir.join(MARKER))
    });
    written.map_err(|e| at("write", &half, e))?;
    sync_dir(NAME, dir)?;
    Ok(db)
}

/// Opens a store that was there.
fn reopen(dir: &Path, options: &Options) -> Result<Db, Error> {
    restore(dir)?;
    let live = recovery::recover(dir)?;
    spare(dir, &live.files)?;
    let db = Db::open(dir, options).map_err(|e| fail("open the store", e))?;
    // Order: the new `CURRENT` is on disk before anything the old one needs has no name.
    sync_dir(NAME, dir)?;
    forget_spares(dir)?;
    Ok(db)
}

/// Gives back what a power loss took while the store was opened: files whose deletion reached
/// the disk although `CURRENT` still needs them. One it does not need LevelDB deletes again.
fn restore(dir: &Path) -> Result<(), Error> {
    if !dir.join(SPARES_COMPLETE).exists() {
        return forget_spares(dir);
    }
    let mut is_changed = false;
    for path in spares(dir)? {
        let name = name(&path).split_off(SPARE.len());
        let place = dir.join(&name);
        if place.exists() || path.ends_with(SPARES_COMPLETE) {
            continue;
        }
        tracing::warn!(file = %place.display(), "given back: a crash came while it was opened");
        second_name(&path, &place).map_err(|e| at("give back", &place, e))?;
        is_changed = true;
    }
    if is_changed {
        sync_dir(NAME, dir)
    } else {
        Ok(())
    }
}

/// Gives second names to what opening may delete.
fn spare(dir: &Path, live: &[PathBuf]) -> Result<(), Error> {
    forget_spares(dir)?;
    for path in live {
        let spare = dir.join(format!("{SPARE}{}", name(path)));
        second_name(path, &spare).map_err(|e| at("keep", &spare, e))?;
    }
    // Order: all of them are on disk before that is said.
    sync_dir(NAME, dir)?;
    let complete = dir.join(SPARES_COMPLETE);
    File::create(&complete).map_err(|e| at("make", &complete, e))?;
    sync_dir(NAME, dir)
}

/// A link, or a copy where the file system has none. Nobody writes to these files any more.
fn second_name(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => {
            // Order: whole before it has the name by which it is found.
            let half = to.with_added_extension("half");
            fs::copy(from, &half)?;
            File::open(&half)?.sync_all()?;
            fs::rename(half, to)
        }
    }
}

fn forget_spares(dir: &Path) -> Result<(), Error> {
    let remove = |path: &Path| fs::remove_file(path).map_err(|e| at("remove", path, e));
    let complete = dir.join(SPARES_COMPLETE);
    if complete.exists() {
        // Order: that they are complete is taken back before the first of them goes.
        remove(&complete)?;
        sync_dir(NAME, dir)?;
    }
    for path in spares(dir)? {
        remove(&path)?;
    }
    Ok(())
}

fn spares(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = files(dir)?;
    found.retain(|path| name(path).starts_with(SPARE));
    Ok(found)
}

/// The files of a directory.
pub(crate) fn files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = fs::read_dir(dir).map_err(|e| at("list", dir, e))?;
    let paths = listed.map(|item| item.map(|item| item.path()));
    paths
        .collect::<io::Result<_>>()
        .map_err(|e| at("list", dir, e))
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
