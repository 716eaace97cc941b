// SPDX-License-Identifier: Apache-2.0
//! What a crash left of manifest and logs, cut so that LevelDB finds whole batches up to some
//! point and nothing behind it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use dulse_kv::Error;
use dulse_kv::files::sync_dir;
use dulse_leveldb::records::{Records, goes_on_behind};

use crate::error::{NAME, corrupt, io as io_error};

/// What a store that is about to be opened is made of, besides its tables.
pub(crate) struct Live {
    /// The manifest and the logs that are in use.
    pub(crate) files: Vec<PathBuf>,
}

/// Cuts what does not follow; cut files and the directory are synced.
///
/// Order of the manifest: LevelDB syncs it with each record, so only its last may be torn. One
/// that is damaged before others is no crash's work, and refused.
///
/// # Errors
///
/// `Corrupt` when the manifest cannot be read, `Io`.
pub(crate) fn recover(dir: &Path) -> Result<Live, Error> {
    let manifest = manifest(dir)?;
    let content = read(&manifest)?;
    let (mut end, mut number) = (0, None);
    for record in Records::of(&content) {
        number = log_number(&record.bytes)
            .map_err(|what| corrupt(format!("read `{}`: {what}", manifest.display())))?
            .or(number);
        end = record.end;
    }
    let Some(number) = number else {
        let context = format!("read `{}`: it names no log", manifest.display());
        return Err(corrupt(context));
    };
    if end < content.len() {
        if goes_on_behind(&content, end) {
            let context = format!("read `{}`: it is damaged at {end}", manifest.display());
            return Err(corrupt(context));
        }
        cut(&manifest, end)?;
    }
    let mut files = vec![manifest];
    files.extend(logs_that_follow(dir, number)?);
    Ok(Live { files })
}

/// The logs from the manifest's on, each as long as its batches follow one another.
fn logs_that_follow(dir: &Path, first: u64) -> Result<Vec<PathBuf>, Error> {
    let mut kept = Vec::new();
    // The number that the next batch must have, once one is known.
    let mut expected = None;
    let mut is_broken = false;
    let mut is_changed = false;
    for (number, path) in logs(dir)?.range(first..) {
        // A log is begun when the one before holds something; the first is the manifest's.
        is_broken = is_broken || (*number != first && expected.is_none());
        if is_broken {
            tracing::warn!(log = %path.display(), "removed: what came before it is lost");
            fs::remove_file(path).map_err(|e| at("remove", path, e))?;
            is_changed = true;
            continue;
        }
        let content = read(path)?;
        let mut end = 0;
        for record in Records::of(&content) {
            let Some((batch, behind)) = batch_numbers(&record.bytes) else {
                break;
            };
            if expected.is_some_and(|expected| expected != batch) {
                is_broken = true;
                break;
            }
            expected = Some(behind);
            end = record.end;
        }
        if end < content.len() {
            tracing::warn!(log = %path.display(), at = end, len = content.len(), "cut");
            cut(path, end)?;
            is_broken = true;
        }
        kept.push(path.clone());
    }
    if is_changed {
        sync_dir(NAME, dir)?;
    }
    Ok(kept)
}

/// The number of a batch's first write, and that of the write behind its last.
fn batch_numbers(record: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = record.split_first_chunk::<8>()?;
    let (n, _) = rest.split_first_chunk::<4>()?;
    let first = u64::from_le_bytes(*first);
    Some((first, first.checked_add(u64::from(u32::from_le_bytes(*n)))?))
}

/// Which log a record of a manifest names as the first that is in use, if it names one.
///
/// # Errors
///
/// What is wrong, when it is no such record.
pub fn log_number(record: &[u8]) -> Result<Option<u64>, &'static str> {
    let mut rest = record;
    let mut found = None;
    while !rest.is_empty() {
        match varint(&mut rest)? {
            // The comparator's name.
            1 => bytes(&mut rest)?,
            2 => found = Some(varint(&mut rest)?),
            // Next file, last batch, a log before the present one.
            3 | 4 | 9 => drop(varint(&mut rest)?),
            // A level and the key where compaction goes on.
            5 => {
                varint(&mut rest)?;
                bytes(&mut rest)?;
            }
            // A deleted table: level and number.
            6 => {
                varint(&mut rest)?;
                varint(&mut rest)?;
            }
            // A new table: level, number, size, least and greatest key.
            7 => {
                for _ in 0..3 {
                    varint(&mut rest)?;
                }
                bytes(&mut rest)?;
                bytes(&mut rest)?;
            }
            _ => return Err("it holds a field of an unknown kind"),
        }
    }
    Ok(found)
}

fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first().ok_or("it ends within a number")?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("it holds a number of more than 64 bits")
}

fn bytes(rest: &mut &[u8]) -> Result<(), &'static str> {
    let len = usize::try_from(varint(rest)?).map_err(|_| "it holds a key that is too long")?;
    *rest = rest.get(len..).ok_or("it ends within a key")?;
    Ok(())
}

/// The manifest that `CURRENT` names.
fn manifest(dir: &Path) -> Result<PathBuf, Error> {
    let current = dir.join("CURRENT");
    let named = match fs::read_to_string(&current) {
        Ok(named) => named,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(corrupt(format!("`{}` is gone", current.display())));
        }
        Err(e) => return Err(at("read", &current, e)),
    };
    let name = named.strip_suffix('\n').unwrap_or_default();
    let number = name.strip_prefix("MANIFEST-").unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        let context = format!("`{}` names no manifest: `{name}`", current.display());
        return Err(corrupt(context));
    }
    Ok(dir.join(name))
}

/// The logs in a directory, by their numbers.
pub(crate) fn logs(dir: &Path) -> Result<BTreeMap<u64, PathBuf>, Error> {
    let listed = fs::read_dir(dir).map_err(|e| at("list", dir, e))?;
    let mut logs = BTreeMap::new();
    for item in listed {
        let path = item.map_err(|e| at("list", dir, e))?.path();
        let is_log = path.extension().is_some_and(|e| e == "log");
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        if let Some(number) = number.filter(|_| is_log) {
            logs.insert(number, path);
        }
    }
    Ok(logs)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(corrupt(format!("`{}` is gone", path.display())))
        }
        read => read.map_err(|e| at("read", path, e)),
    }
}

fn cut(path: &Path, len: usize) -> Result<(), Error> {
    let opened = File::options().write(true).open(path);
    let cut = opened.and_then(|file| {
        file.set_len(len as u64)?;
        file.sync_all()
    });
    cut.map_err(|e| at("cut", path, e))
}

pub(crate) fn at(verb: &str, path: &Path, error: io::Error) -> Error {
    io_error(format!("{verb} `{}`", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifests_records_name_the_first_log_in_use() {
        let comparator = b"\x01\x1aleveldb.BytewiseComparator";
        for (record, expect) in [
            (&comparator[..], Ok(None)),
            (b"\x02\x07", Ok(Some(7))),
            (b"\x09\x00\x03\x09\x04\xac\x02\x02\x85\x01", Ok(Some(133))),
            (
                b"\x06\x00\x05\x07\x01\x09\x80\x20\x01a\x01b\x02\x03",
                Ok(Some(3)),
            ),
            (b"\x05\x01\x02kk", Ok(None)),
            (b"", Ok(None)),
            (b"\x08\x01", Err("it holds a field of an unknown kind")),
            (b"\x02", Err("it ends within a number")),
            (b"\x01\x05abc", Err("it ends within a key")),
            (
                b"\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                Err("it holds a number of more than 64 bits"),
            ),
        ] {
            assert_eq!(log_number(record), expect, "{record:?}");
        }
    }
}
