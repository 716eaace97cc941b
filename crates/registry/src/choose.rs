// SPDX-License-Identifier: Apache-2.0
//! From `filer.toml` to an engine and a directory.
//!
//! Upstream's data and ours never lie in one directory: a section that names `DIR` has ours in
//! `DIR.dulse`. So nothing of upstream's is ever written over, the way back stays open, and a
//! directory with upstream's data and none of ours beside it is seen for what it is.

use std::path::{Path, PathBuf};

use dulse_config::Stores;
use dulse_config::stores::{PathStore, Section};
use dulse_types::FullPath;

use crate::shared::{self, LocatedChoice, SharedChoice, shared_stores};
use crate::{ENGINES, build_with};

/// What a directory of ours is called, behind the name of upstream's.
const SUFFIX: &str = ".dulse";

/// A file in a directory of ours while an import into it is not finished.
const UNFINISHED: &str = "import-unfinished";

/// Where upstream's program keeps its entries in its directory when nothing says otherwise.
const UPSTREAM_DEFAULT: (UpstreamKind, &str) = (UpstreamKind::LevelDb2, "filerldb2");

/// What a `filer.toml` asks for.
#[derive(Debug)]
pub enum Choice {
    /// A store of this filer's own, kept in step with the others'.
    Embedded(Chosen),
    /// A database that several filers use.
    Shared(SharedChoice),
}

/// An engine and where its store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// Name of the engine.
    pub engine: &'static str,
    /// Directory of our store.
    pub dir: PathBuf,
    /// What the section means to upstream's filer.
    pub upstream: UpstreamStore,
}

/// A store of upstream's filer that is files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamStore {
    /// Which.
    pub kind: UpstreamKind,
    /// Its directory or file.
    pub place: PathBuf,
}

/// Which of upstream's stores that are files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamKind {
    /// One LevelDB.
    LevelDb,
    /// Eight of them: upstream's default.
    LevelDb2,
    /// One for each bucket.
    LevelDb3,
    /// One RocksDB.
    RocksDb,
    /// An SQLite file.
    Sqlite,
}

/// Why no store can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// A store that this version cannot use.
    #[error(
        "{place}[{section}] is enabled, and this version has no {what}; expected one of \
         [leveldb2], [leveldb3], [leveldb], [rocksdb] or [sqlite] with an engine that is there \
         ({engines}), one of {shared}, or no enabled section for redb",
        engines = ENGINES.join(", "), shared = in_brackets()
    )]
    Missing {
        /// File and line.
        place: String,
        /// Name of the section.
        section: String,
        /// What is missing.
        what: String,
    },
    /// A value that cannot be followed.
    #[error("{place}[{section}]: {why}")]
    Setting {
        /// File and line.
        place: String,
        /// Name of the section.
        section: String,
        /// Which value, and what was expected.
        why: String,
    },
    /// Stores of some directories.
    #[error(
        "{place}[{section}] is enabled for `{location}`, and {why}; expected one of {shared}: a \
         directory can have a shared store of its own. Take the section out, and what that store \
         holds is not shown",
        shared = in_brackets()
    )]
    OfPath {
        /// File and line.
        place: String,
        /// Name of the section.
        section: String,
        /// The directory.
        location: String,
        /// Why not.
        why: String,
    },
    /// Upstream's data is there and none of ours.
    #[error(
        "`{}` holds what upstream's filer wrote, and `{}` is not there yet. To go on with those \
         entries, stop upstream's filer and run\n  dulse import --from {}:{} --engine {engine} --dir {}\n\
         Import at one filer; the others start empty, with their old store moved away, and take \
         all from it. To begin without them, move it away",
        .upstream.place.display(), .dir.display(), .upstream.kind.name(),
        .upstream.place.display(), .dir.display()
    )]
    NotImported {
        /// Upstream's store.
        upstream: UpstreamStore,
        /// Where ours would be.
        dir: PathBuf,
        /// Of ours.
        engine: String,
    },
    /// An import was interrupted.
    #[error(
        "the import into `{}` was not finished; run it again, it goes on where it stopped:\n  {command}",
        .dir.display()
    )]
    Unfinished {
        /// Our store.
        dir: PathBuf,
        /// What was run.
        command: String,
    },
}

impl UpstreamKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::LevelDb,
        Self::LevelDb2,
        Self::LevelDb3,
        Self::RocksDb,
        Self::Sqlite,
    ];

    /// As the section in `filer.toml` is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LevelDb => "leveldb",
            Self::LevelDb2 => "leveldb2",
            Self::LevelDb3 => "leveldb3",
            Self::RocksDb => "rocksdb",
            Self::Sqlite => "sqlite",
        }
    }

    /// Our engine for it.
    #[must_use]
    pub fn engine(self) -> &'static str {
        match self {
            Self::LevelDb | Self::LevelDb2 | Self::LevelDb3 => "leveldb",
            Self::RocksDb => "rocksdb",
            Self::Sqlite => "sqlite",
        }
    }
}

impl UpstreamStore {
    /// Whether upstream's filer wrote there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let place = &self.place;
        match self.kind {
            UpstreamKind::LevelDb | UpstreamKind::RocksDb => place.join("CURRENT").is_file(),
            UpstreamKind::LevelDb2 => place.join("00/CURRENT").is_file(),
            UpstreamKind::LevelDb3 => place.join("_main/CURRENT").is_file(),
            UpstreamKind::Sqlite => place.metadata().is_ok_and(|m| m.is_file() && m.len() > 0),
        }
    }

    /// Where ours lies beside it.
    #[must_use]
    pub fn beside(&self) -> PathBuf {
        // Components drop a slash at the end, behind which the suffix would be a file in it.
        let place: PathBuf = self.place.components().collect();
        let mut name = place.into_os_string();
        name.push(SUFFIX);
        name.into()
    }
}

/// The store that a `filer.toml` asks for; `None` leaves it to the flags.
///
/// # Errors
///
/// `Missing`, `OfPath` and `Setting` for what this version cannot do.
pub fn choose(stores: &Stores) -> Result<Option<Choice>, ChooseError> {
    let Some(section) = &stores.store else {
        return Ok(None);
    };
    if let Some(prepared) = shared::prepare(section, &stores.options) {
        let wrong = |why: Box<dyn std::error::Error + Send + Sync>| ChooseError::Setting {
            place: place_of(stores, section),
            section: section.name().to_owned(),
            why: why.to_string(),
        };
        let shared = prepared.map_err(wrong)?;
        let located = located(stores)?;
        return Ok(Some(Choice::Shared(match are_one(&shared, &located) {
            true => shared.with_located(located),
            false => shared,
        })));
    }
    let missing = |what: String| ChooseError::Missing {
        place: place_of(stores, section),
        section: section.name().to_owned(),
        what,
    };
    let kind = UpstreamKind::ALL.into_iter();
    let Some(kind) = kind.into_iter().find(|kind| kind.name() == section.name()) else {
        return Err(missing(format!("store `{}`", section.name())));
    };
    let wanted = kind.engine();
    let engine = ENGINES.iter().find(|engine| **engine == wanted);
    let engine = engine.ok_or_else(|| {
        let elsewhere = build_with(wanted).unwrap_or_default();
        missing(format!("engine `{wanted}`{elsewhere}"))
    })?;
    let key = match kind {
        UpstreamKind::Sqlite => "dbFile",
        _ => "dir",
    };
    let upstream = UpstreamStore {
        kind,
        place: section.text(key).into(),
    };
    Ok(Some(Choice::Embedded(Chosen {
        engine,
        dir: upstream.beside(),
        upstream,
    })))
}

/// The stores of directories beside the default store; without those that [`choose`] has put
/// under one journal with that.
///
/// - `is_embedded`: whether the default store is an embedded one, whatever the file says.
///
/// # Errors
///
/// `OfPath` and `Setting` for what this version cannot do.
pub fn choose_located(
    stores: &Stores,
    is_embedded: bool,
) -> Result<Vec<LocatedChoice>, ChooseError> {
    let located = located(stores)?;
    let default = stores.store.as_ref().filter(|_| !is_embedded);
    let default = default.and_then(|section| shared::prepare(section, &stores.options));
    match default {
        Some(Ok(default)) if are_one(&default, &located) => Ok(Vec::new()),
        _ => Ok(located),
    }
}

/// Whether one journal and one clock can be those of a default store and of all directories'.
fn are_one(default: &SharedChoice, located: &[LocatedChoice]) -> bool {
    let mut all = located.iter().map(|one| &one.choice);
    !located.is_empty() && default.has_transactions() && all.all(SharedChoice::has_transactions)
}

/// The stores of directories.
fn located(stores: &Stores) -> Result<Vec<LocatedChoice>, ChooseError> {
    let mut out = Vec::new();
    for path in &stores.paths {
        let name = path.section.name();
        let Some(prepared) = shared::prepare(&path.section, &stores.options) else {
            let why = format!("[{name}] is no shared store of this version");
            return Err(refused(stores, path, why));
        };
        let section = format!("{name}.{}", path.id);
        let wrong = |why: String| ChooseError::Setting {
            place: place_of(stores, &path.section),
            section: section.clone(),
            why,
        };
        let choice = prepared.map_err(|e| wrong(e.to_string()))?;
        out.push(LocatedChoice {
            path: FullPath::parse(&path.location).map_err(|e| wrong(e.to_string()))?,
            section,
            choice,
        });
    }
    Ok(out)
}

fn refused(stores: &Stores, path: &PathStore, why: String) -> ChooseError {
    ChooseError::OfPath {
        place: place_of(stores, &path.section),
        section: format!("{}.{}", path.section.name(), path.id),
        location: path.location.clone(),
        why,
    }
}

/// Refuses to begin an empty store beside one of upstream's that was not imported.
///
/// # Errors
///
/// `NotImported`.
pub fn check_imported(chosen: &Chosen) -> Result<(), ChooseError> {
    not_imported(&chosen.upstream, &chosen.dir, chosen.engine)
}

/// The same where neither file nor flags say anything: upstream's program would take up what it
/// left in its default place, which is in `upstreams`.
///
/// # Errors
///
/// `NotImported`.
pub fn check_default(engine: &str, dir: &Path, upstreams: &Path) -> Result<(), ChooseError> {
    let (kind, name) = UPSTREAM_DEFAULT;
    let place = upstreams.join(name);
    not_imported(&UpstreamStore { kind, place }, dir, engine)
}

fn not_imported(upstream: &UpstreamStore, dir: &Path, engine: &str) -> Result<(), ChooseError> {
    if upstream.is_there() && !is_ours(dir) {
        return Err(ChooseError::NotImported {
            upstream: upstream.clone(),
            dir: dir.to_owned(),
            engine: engine.to_owned(),
        });
    }
    Ok(())
}

/// Whether a directory holds a store of ours, or one that was set aside and is to be made anew.
#[must_use]
pub fn is_ours(dir: &Path) -> bool {
    dir.join("engine").is_file() || crate::quarantine::is_begun(dir)
}

/// Refuses a store that an import has not filled yet.
///
/// # Errors
///
/// `Unfinished`.
pub fn check_finished(dir: &Path) -> Result<(), ChooseError> {
    match std::fs::read_to_string(dir.join(UNFINISHED)) {
        Ok(command) => Err(ChooseError::Unfinished {
            dir: dir.to_owned(),
            command,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        // Whatever it says, it is there.
        Err(error) => Err(ChooseError::Unfinished {
            dir: dir.to_owned(),
            command: format!("(its note cannot be read: {error})"),
        }),
    }
}

/// Notes that an import into a directory begins; `command` goes on with it. Durable at return.
///
/// # Errors
///
/// When it cannot be written.
pub fn begin_import(dir: &Path, command: &str) -> std::io::Result<()> {
    dulse_journal::make_durably(dir)?;
    crate::write_durably(&dir.join(UNFINISHED), command, dir)
}

/// What an unfinished import into a directory was called with.
#[must_use]
pub fn unfinished_import(dir: &Path) -> Option<String> {
    std::fs::read_to_string(dir.join(UNFINISHED)).ok()
}

/// Notes that the import into a directory is finished. Durable at return.
///
/// # Errors
///
/// When the note cannot be removed.
pub fn finish_import(dir: &Path) -> std::io::Result<()> {
    std::fs::remove_file(dir.join(UNFINISHED))?;
    std::fs::File::open(dir)?.sync_all()
}

fn in_brackets() -> String {
    let names: Vec<_> = shared_stores().map(|name| format!("[{name}]")).collect();
    names.join(", ")
}

fn place_of(stores: &Stores, section: &Section) -> String {
    match &stores.path {
        Some(path) => format!("{}, line {}: ", path.display(), section.line()),
        None => "environment: ".to_owned(),
    }
}
