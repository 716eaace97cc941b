// SPDX-License-Identifier: Apache-2.0
//! A store that does not check out is set aside, never deleted: it may hold what nobody else
//! has, and an operator may want to look at it.
//!
//! Everything in the store's directory moves into `damaged` inside it, with the reason: a
//! rename of the directory itself does not work where it is a mount. The last set is kept, and
//! as `damaged.1`, `damaged.2` and so on, the oldest first, each whose log has not been gone
//! through yet: on a bad disk the store that took its place may be damaged before that is done.
//! A crash half way is finished by the next open.
//!
//! A store that behaved as if it were damaged is *suspect*: a file says why, and the next open
//! reads all of it and checks every checksum before anything else is done with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where a damaged store is set aside, below its directory.
pub const DAMAGED: &str = "damaged";

/// What the names of earlier sets begin with; a number follows.
const EARLIER: &str = "damaged.";

/// The last set while it is being filled.
const FILLING: &str = "damaged.new";

/// Sets that may wait to be gone through; each takes as much of the disk as a store.
pub(crate) const WAITING_MAX: usize = 4;

/// Says why, in what is set aside.
pub const REASON: &str = "REASON";

/// Says that what was set aside gave all that it had.
const RESCUED: &str = "RESCUED";

/// Says that the store must be checked before it is used.
const SUSPECT: &str = "suspect";

/// Says that it is being checked: whoever finds it died of the check.
const CHECKING: &str = "suspect.checking";

/// Sets aside all that is in a store's directory. The caller holds the store's lock or is the
/// only one that knows of the directory.
///
/// # Errors
///
/// When a file cannot be moved; the next open goes on.
pub(crate) fn set_aside(dir: &Path, reason: &str) -> io::Result<PathBuf> {
    let filling = dir.join(FILLING);
    if !filling.exists() {
        fs::create_dir(&filling)?;
    }
    let mut file = File::create(filling.join(REASON))?;
    file.write_all(reason.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    finish(dir)?;
    Ok(dir.join(DAMAGED))
}

/// Whether a store was set aside, or is being set aside.
pub(crate) fn is_begun(dir: &Path) -> bool {
    [FILLING, DAMAGED]
        .iter()
        .any(|name| dir.join(name).exists())
}

/// Whether a crash came while a store was set aside.
pub(crate) fn is_unfinished(dir: &Path) -> bool {
    dir.join(FILLING).exists()
}

/// Finishes what [`set_aside`] began before a crash.
///
/// # Errors
///
/// When a file cannot be moved.
pub(crate) fn finish(dir: &Path) -> io::Result<()> {
    let filling = dir.join(FILLING);
    if !filling.exists() {
        return Ok(());
    }
    for item in fs::read_dir(dir)? {
        let name = item?.file_name();
        let is_set = name == DAMAGED || name == FILLING || number(&name).is_some();
        // A journal directory that was made anew only for its lock is no store.
        if is_set || filling.join(&name).exists() {
            continue;
        }
        fs::rename(dir.join(&name), filling.join(&name))?;
    }
    let sets = sets(dir)?;
    // ⚠ What waits may have acknowledged writes that are nowhere else.
    for (_, set) in sets.iter().filter(|(_, set)| !is_waiting(set)) {
        fs::remove_dir_all(set)?;
    }
    let last = dir.join(DAMAGED);
    if last.exists() {
        let earlier = sets.iter().filter_map(|(number, _)| *number).max();
        let number = earlier.unwrap_or(0) + 1;
        fs::rename(&last, dir.join(format!("{EARLIER}{number}")))?;
    }
    fs::rename(&filling, &last)?;
    File::open(dir)?.sync_all()
}

/// The number in the name of an earlier set; `None` for other names.
fn number(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_prefix(EARLIER)?.parse().ok()
}

/// All that was set aside, the oldest first; the last has no number.
fn sets(dir: &Path) -> io::Result<Vec<(Option<u64>, PathBuf)>> {
    let mut sets = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        let (name, path) = (item.file_name(), item.path());
        if name == DAMAGED {
            sets.push((None, path));
        } else if let Some(number) = number(&name) {
            sets.push((Some(number), path));
        }
    }
    sets.sort_by_key(|(number, _)| number.unwrap_or(u64::MAX));
    Ok(sets)
}

/// Whether a set has a log that was not gone through.
fn is_waiting(set: &Path) -> bool {
    set.join("journal").exists() && !set.join(RESCUED).exists()
}

/// Notes that a store must be checked before it is used again. An earlier reason stays.
///
/// # Errors
///
/// When the note cannot be written.
pub fn suspect(dir: &Path, why: &str) -> io::Result<()> {
    let path = dir.join(SUSPECT);
    if path.exists() {
        return Ok(());
    }
    let mut file = File::create(path)?;
    file.write_all(why.as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Checks of a store that are begun and not ended before it is taken for damaged.
const CHECKS_MAX: u32 = 3;

/// A check that a note asks for.
pub(crate) struct Check {
    dir: PathBuf,
    /// What the note says.
    pub(crate) why: String,
    /// Whether none of several checks came to an end.
    pub(crate) was_fatal: bool,
}

impl Check {
    /// The check that is asked for, if any. Until [`Check::passed`] it counts as one that did not
    /// come to an end: somebody who stopped it is not told from what the store does to it, so
    /// several count as damage.
    pub(crate) fn begin(dir: &Path) -> io::Result<Option<Self>> {
        let why = match fs::read_to_string(dir.join(SUSPECT)) {
            Ok(why) => why,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let checking = dir.join(CHECKING);
        let n_begun = match fs::read_to_string(&checking) {
            // Nothing, or no number: it was written by one that did not come to an end.
            Ok(text) => text.trim().parse().unwrap_or(1),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0_u32,
            Err(error) => return Err(error),
        };
        let was_fatal = n_begun >= CHECKS_MAX;
        let mut file = File::create(&checking)?;
        file.write_all(n_begun.saturating_add(1).to_string().as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Some(Self {
            dir: dir.to_owned(),
            why,
            was_fatal,
        }))
    }

    /// Where it is noted that one was begun.
    pub(crate) fn note(&self) -> PathBuf {
        self.dir.join(CHECKING)
    }

    /// Nothing was found.
    pub(crate) fn passed(self) -> io::Result<()> {
        // Order: a power loss that leaves `CHECKING` alone would have the next check, years
        // later, count as one that killed its process.
        for name in [CHECKING, SUSPECT] {
            fs::remove_file(self.dir.join(name))?;
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// What was set aside and has not given what it has yet, the oldest first.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn to_be_rescued(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let waiting = sets(dir)?.into_iter().map(|(_, set)| set);
    Ok(waiting.filter(|set| is_waiting(set)).collect())
}

/// What was set aside has given what it had.
///
/// # Errors
///
/// When that cannot be noted; then it is gone through once more, which changes nothing.
pub fn rescued(aside: &Path) -> io::Result<()> {
    File::create(aside.join(RESCUED))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(dir: &Path, round: &str) -> PathBuf {
        fs::create_dir_all(dir.join("journal")).unwrap();
        fs::write(dir.join("journal/x.seg"), round).unwrap();
        fs::write(dir.join("store.redb"), round).unwrap();
        set_aside(dir, round).unwrap()
    }

    fn holds(set: &Path, round: &str) {
        for (file, content) in [
            ("journal/x.seg", round),
            ("store.redb", round),
            (REASON, &format!("{round}\n")),
        ] {
            assert_eq!(fs::read_to_string(set.join(file)).unwrap(), content);
        }
    }

    #[test]
    fn all_of_a_store_is_set_aside_with_the_reason_and_the_last_that_gave_what_it_had_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for round in ["first", "second"] {
            let aside = damage(dir.path(), round);
            let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
            assert_eq!(left.len(), 1, "{left:?}");
            holds(&aside, round);
            rescued(&aside).unwrap();
            assert!(to_be_rescued(dir.path()).unwrap().is_empty());
        }
    }

    /// Bug: a store that took the place of a damaged one and was damaged itself, before the log
    /// of the first was gone through, had that log removed.
    #[test]
    fn what_has_not_given_what_it_has_is_kept_and_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let rounds = ["first", "second", "third"];
        for round in rounds {
            damage(dir, round);
        }
        let names = ["damaged.1", "damaged.2", "damaged"].map(|name| dir.join(name));
        assert_eq!(to_be_rescued(dir).unwrap(), names);
        for (set, round) in names.iter().zip(rounds) {
            holds(set, round);
        }
        // Only those that wait stay.
        rescued(&names[0]).unwrap();
        rescued(&names[2]).unwrap();
        let last = damage(dir, "fourth");
        assert_eq!(to_be_rescued(dir).unwrap(), [names[1].clone(), last]);
        assert!(!names[0].exists());
        holds(&names[1], "second");
    }

    #[test]
    fn no_more_wait_than_the_disk_has_room_for() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..WAITING_MAX {
            fs::create_dir_all(dir.path().join("journal")).unwrap();
            crate::quarantine(dir.path(), &round.to_string()).unwrap();
        }
        let refused = crate::quarantine(dir.path(), "one more").unwrap_err();
        assert!(
            matches!(refused, crate::OpenError::TooManyAside(WAITING_MAX)),
            "{refused}"
        );
        assert!(dir.path().join("journal").exists(), "left as it is");
        rescued(&dir.path().join("damaged.2")).unwrap();
        crate::quarantine(dir.path(), "one more").unwrap();
    }

    #[test]
    fn a_crash_half_way_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("store.redb"), "rows").unwrap();
        fs::create_dir(dir.path().join(FILLING)).unwrap();
        fs::write(dir.path().join(FILLING).join(REASON), "why").unwrap();
        fs::write(dir.path().join(FILLING).join("engine"), "redb").unwrap();
        finish(dir.path()).unwrap();
        let aside = dir.path().join(DAMAGED);
        for file in ["engine", "store.redb", REASON] {
            assert!(aside.join(file).exists(), "{file}");
        }
        assert!(!dir.path().join("store.redb").exists());
    }

    /// Upstream's old store beside it is not imported into its place.
    #[test]
    fn a_store_that_was_set_aside_is_one_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!crate::is_ours(dir.path()));
        fs::write(dir.path().join("engine"), "redb").unwrap();
        set_aside(dir.path(), "why").unwrap();
        assert!(!dir.path().join("engine").exists());
        assert!(crate::is_ours(dir.path()));
    }

    #[test]
    fn checks_that_do_not_end_count_as_damage() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Check::begin(dir.path()).unwrap().is_none());
        suspect(dir.path(), "it said so").unwrap();
        suspect(dir.path(), "another reason").unwrap();
        let check = Check::begin(dir.path()).unwrap().unwrap();
        assert_eq!((&check.why[..], check.was_fatal), ("it said so", false));
        // A service manager that loses its patience is no damage.
        for n in 2..=CHECKS_MAX {
            let again = Check::begin(dir.path()).unwrap().unwrap();
            assert!(!again.was_fatal, "check {n}");
        }
        let again = Check::begin(dir.path()).unwrap().unwrap();
        assert!(again.was_fatal);
        again.passed().unwrap();
        assert!(Check::begin(dir.path()).unwrap().is_none());
    }
}
