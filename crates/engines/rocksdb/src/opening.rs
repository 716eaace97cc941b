// SPDX-License-Identifier: Apache-2.0
//! Opening the files: a new store, one that was closed, one that a crash left.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dulse_kv::Error;
use dulse_kv::files::sync_dir;
use rocksdb::DB;

use crate::error::{NAME, at, corrupt, fail};
use crate::manifest;
use crate::options::Options;

/// The file that says that a directory is such a store, and what must not be done with it. It is
/// made last.
pub const MARKER: &str = "STORE";

/// What [`MARKER`] holds. It is compared as a whole: another text is another format.
const MARKED: &str = "\
Dulse, engine rocksdb, format 1.

The files in this directory are one RocksDB database: the state of one filer
as of some place in its log, which is in the directory `journal` beside it.
It has no write-ahead log of its own: what is in no table yet is in that one.
Another program must not write to it; a filer would not notice what it wrote.
To look at them, copy the directory while the filer is stopped, and open the
copy. To get rid of a damaged store, stop the filer and remove all of its
directory, not single files in it: it is filled again from the other filers.
";

/// Opens what is there or makes it. The caller holds the lock.
///
/// # Errors
///
/// `Corrupt`, `DiskFull`, `Locked`, `Io`.
pub(crate) fn open(dir: &Path, options: Options) -> Result<DB, Error> {
    let marker = dir.join(MARKER);
    match fs::read(&marker) {
        Ok(text) if text == MARKED.as_bytes() => {
            manifest::cut_torn_end(dir)?;
            DB::open(&options.raw(false), dir).map_err(|e| fail("open the store", e))
        }
        Ok(_) => Err(corrupt(format!(
            "`{}` does not say that this is a store of this version",
            marker.display()
        ))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => make(dir, options),
        Err(e) => Err(at("read", &marker, e)),
    }
}

/// Makes a store. It gets its marker last, so half of one is made anew.
fn make(dir: &Path, options: Options) -> Result<DB, Error> {
    let files = files(dir)?;
    // Order: all are looked at before the first goes.
    for path in &files {
        let name = name(path);
        let len = fs::metadata(path)
            .map_err(|e| at("look at", path, e))?
            .len();
        if name.ends_with(".sst") || (name.ends_with(".log") && len > 0) {
            let context = format!(
                "open `{}`: there is no `{MARKER}` beside it",
                path.display()
            );
            return Err(corrupt(context));
        }
    }
    for path in &files {
        let name = name(path);
        let starts = ["MANIFEST-", "OPTIONS-", "LOG.old."];
        let is_half = ["CURRENT", "IDENTITY", "LOG", "STORE.half"].contains(&&*name)
            || starts.iter().any(|start| name.starts_with(start))
            || [".log", ".dbtmp"].iter().any(|end| name.ends_with(end));
        if is_half {
            fs::remove_file(path).map_err(|e| at("remove", path, e))?;
        }
    }
    let db = DB::open(&options.raw(true), dir).map_err(|e| fail("make the store", e))?;
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
