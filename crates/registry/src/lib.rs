// SPDX-License-Identifier: Apache-2.0
//! Names to stores: the only crate that names engines and databases.
//!
//! `shared.rs` says how a shared store is plugged in.

mod choose;
pub mod metrics;
mod quarantine;
mod rescue;
mod shared;

pub use dulse_shared::{AnyShared, check_apart};

pub use choose::{
    Choice, ChooseError, Chosen, UpstreamKind, UpstreamStore, begin_import, check_default,
    check_finished, check_imported, choose, choose_located, finish_import, is_ours,
    unfinished_import,
};
pub use metrics::on_corrupt;
pub use quarantine::{DAMAGED, REASON, rescued, suspect, to_be_rescued};
pub use rescue::{Rescue, origin_aside};
pub use shared::{LocatedChoice, SharedChoice, shared_stores};

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics::{MeteredDisk, MeteredEngine};

use dulse_engine_leveldb::LeveldbEngine;
use dulse_engine_redb::RedbEngine;
#[cfg(feature = "rocksdb")]
use dulse_engine_rocksdb::RocksdbEngine;
use dulse_engine_sqlite::SqliteEngine;
use dulse_journal::{JournalError, RealDisk};
use dulse_kv::Engine;
use dulse_replica::{
    Clock, Durability, Levels, Limits, PEERS_WAIT, Replica, ReplicaOptions, ReplicaStore,
    SystemClock,
};
use dulse_store::ErrorKind;

/// The engines an embedded filer can use; the first is the default. `rocksdb` is among them
/// where the program was built with the feature of that name.
pub const ENGINES: &[&str] = &[
    "redb",
    "leveldb",
    "sqlite",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

/// Engines that are built only when asked for, and what asks for them.
const OPTIONAL: &[(&str, &str)] = &[("rocksdb", "--features rocksdb")];

/// What is to be said of an engine that this program lacks and another build of it has.
#[must_use]
pub fn build_with(engine: &str) -> Option<String> {
    let (_, how) = OPTIONAL.iter().find(|(name, _)| *name == engine)?;
    let lacks = !ENGINES.contains(&engine);
    lacks.then(|| format!("; a program built with `cargo build --release {how}` has it"))
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No engine has this name.
    #[error(
        "unknown engine `{0}`; expected one of {expected}{elsewhere}",
        expected = ENGINES.join(", "), elsewhere = build_with(.0).unwrap_or_default()
    )]
    UnknownEngine(String),
    /// The directory holds another engine's store.
    #[error("the directory holds a store of engine `{found}`, asked for `{asked}`")]
    OtherEngine {
        /// Whose store is there.
        found: String,
        /// Which engine was asked for.
        asked: String,
    },
    /// Another process has the store open.
    #[error(
        "the store in `{}` is in use by another process; stop that one, or choose another \
         directory", .0.display()
    )]
    InUse(PathBuf),
    /// The directory cannot be used.
    #[error("open the store's directory")]
    Dir(#[source] std::io::Error),
    /// The engine could not open its files.
    #[error("open the engine")]
    Engine(#[from] dulse_kv::Error),
    /// The journal could not be opened.
    #[error("open the journal")]
    Journal(#[from] dulse_journal::DiskError),
    /// The replica could not be recovered.
    #[error("recover the store")]
    Replica(#[from] dulse_store::Error),
    /// What is there cannot be a whole store.
    #[error("{0}")]
    Damaged(String),
    /// Damaged stores wait for the cluster to take what they have, and no more may.
    #[error(
        "{0} damaged stores that were set aside there (`damaged`, `damaged.1` …) have not given \
         what only they may have; mend the disk and move them elsewhere"
    )]
    TooManyAside(usize),
}

impl OpenError {
    /// Whether the store itself is damaged: what another copy can mend. A directory of another
    /// store, engine or version is not.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Engine(error) => error.kind() == dulse_kv::ErrorKind::Corrupt,
            Self::Replica(error) => {
                let cause = std::error::Error::source(error);
                let cause = cause.and_then(|e| e.downcast_ref::<JournalError>());
                let is_other = matches!(cause, Some(JournalError::OtherStore { .. }));
                error.kind() == ErrorKind::Corrupt && !is_other
            }
            _ => false,
        }
    }
}

/// Sets a damaged store aside, so that a new one can take its place; gives where it is.
///
/// # Errors
///
/// `InUse`; `TooManyAside`; `Dir` when a file cannot be moved, and opening the store goes on with
/// it.
pub fn quarantine(dir: &Path, reason: &str) -> Result<PathBuf, OpenError> {
    let _lock = lock(dir)?;
    let n_waiting = to_be_rescued(dir).map_err(OpenError::Dir)?.len();
    if n_waiting >= quarantine::WAITING_MAX {
        return Err(OpenError::TooManyAside(n_waiting));
    }
    let aside = quarantine::set_aside(dir, reason).map_err(OpenError::Dir)?;
    metrics::QUARANTINED.add(1);
    Ok(aside)
}

/// Whether a source file, as a panic names it, is an engine's.
#[must_use]
pub fn is_of_an_engine(file: &str) -> bool {
    ["/redb-", "/rusqlite-", "/rocksdb-"]
        .iter()
        .any(|name| file.contains(name))
}

fn lock(dir: &Path) -> Result<RealDisk, OpenError> {
    RealDisk::open(&dir.join("journal")).map_err(|error| {
        if error.is_locked() {
            return OpenError::InUse(dir.to_owned());
        }
        error.into()
    })
}

/// When writes are acknowledged, and how long they are kept in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Writes {
    /// How durable which of them are then.
    pub levels: Levels,
    /// How long an answer waits for other filers.
    pub peers_wait: Duration,
    /// Sizes and times of the log.
    pub limits: Limits,
}

impl From<Durability> for Writes {
    fn from(level: Durability) -> Self {
        Self {
            levels: level.into(),
            peers_wait: PEERS_WAIT,
            limits: Limits::STANDARD,
        }
    }
}

/// Opens or makes an embedded store: engine, journal, replica and its thread.
///
/// # Errors
///
/// See [`OpenError`]; a store that does not check out is never opened.
pub fn open_embedded(
    engine: &str,
    dir: &Path,
    writes: &Writes,
    random: u64,
) -> Result<ReplicaStore, OpenError> {
    open_with_clock(engine, dir, writes, random, Arc::new(SystemClock))
}

/// The same by another clock.
///
/// # Errors
///
/// As [`open_embedded`].
pub fn open_with_clock(
    engine: &str,
    dir: &Path,
    writes: &Writes,
    random: u64,
    clock: Arc<dyn Clock>,
) -> Result<ReplicaStore, OpenError> {
    if !ENGINES.contains(&engine) {
        return Err(OpenError::UnknownEngine(engine.to_owned()));
    }
    // Order: before anything says whose store the directory holds.
    if engine == "leveldb" {
        dulse_engine_leveldb::library()?;
    }
    dulse_journal::make_durably(dir).map_err(OpenError::Dir)?;
    // Order: nothing is looked at before the directory is ours alone. The lock lives as long as
    // the journal's disk, which the replica holds.
    let disk = lock(dir)?;
    let disk = if quarantine::is_unfinished(dir) {
        quarantine::finish(dir).map_err(OpenError::Dir)?;
        drop(disk);
        lock(dir)?
    } else {
        disk
    };
    let check = quarantine::Check::begin(dir).map_err(OpenError::Dir)?;
    if let Some(check) = check.as_ref().filter(|check| check.was_fatal) {
        let why = format!(
            "{}; it could not even be checked: several checks did not come to an end (to have it \
             checked once more, remove `{}`)",
            check.why,
            check.note().display()
        );
        return Err(OpenError::Damaged(why));
    }
    let is_new = remember_engine(engine, dir)?;
    let file = last_made(engine, dir);
    if !is_new
        && !file.exists()
        && dulse_journal::store_of(&disk).is_ok_and(|store| store.is_some())
    {
        let why = format!("`{}` is gone", file.display());
        return Err(OpenError::Damaged(why));
    }
    if check.is_some() {
        tracing::warn!(dir = %dir.display(), "checking the whole store");
    }
    let opened = open_engine(engine, dir, check.is_some())?;
    // Order: before anything rests on the engine's files. Whoever made them may have been
    // killed before their names were synced, and nothing would ever sync them.
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(OpenError::Dir)?;
    let replica = Replica::open(ReplicaOptions {
        disk: Arc::new(MeteredDisk(disk)),
        engine: MeteredEngine::around(opened),
        clock,
        random,
        durability: writes.levels.default_level(),
        limits: writes.limits,
    })?;
    if let Some(check) = check {
        check.passed().map_err(OpenError::Dir)?;
        tracing::warn!(dir = %dir.display(), "nothing was found damaged in the store");
    }
    let levels = writes.levels.clone();
    Ok(ReplicaStore::start_with(
        replica,
        levels,
        writes.peers_wait,
    )?)
}

/// What an engine makes in a store's directory, or of several files the last.
fn last_made(engine: &str, dir: &Path) -> PathBuf {
    let file = dir.join(format!("store.{engine}"));
    match engine {
        "leveldb" => file.join(dulse_engine_leveldb::MARKER),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => file.join(dulse_engine_rocksdb::MARKER),
        _ => file,
    }
}

/// Opens or makes an engine's files.
fn open_engine(engine: &str, dir: &Path, is_checked: bool) -> Result<Arc<dyn Engine>, OpenError> {
    Ok(match engine {
        "redb" if is_checked => Arc::new(RedbEngine::open_checked(dir)?),
        "redb" => Arc::new(RedbEngine::open(dir)?),
        "leveldb" => {
            let files = dir.join("store.leveldb");
            dulse_journal::make_durably(&files).map_err(OpenError::Dir)?;
            match is_checked {
                true => Arc::new(LeveldbEngine::open_checked(&files)?),
                false => Arc::new(LeveldbEngine::open(&files)?),
            }
        }
        #[cfg(feature = "rocksdb")]
        "rocksdb" => {
            let files = dir.join("store.rocksdb");
            dulse_journal::make_durably(&files).map_err(OpenError::Dir)?;
            match is_checked {
                true => Arc::new(RocksdbEngine::open_checked(&files)?),
                false => Arc::new(RocksdbEngine::open(&files)?),
            }
        }
        _ if is_checked => Arc::new(SqliteEngine::open_checked(dir)?),
        _ => Arc::new(SqliteEngine::open(dir)?),
    })
}

/// Writes down whose store a directory holds, and refuses another's. Whether it is a new one.
fn remember_engine(engine: &str, dir: &Path) -> Result<bool, OpenError> {
    let path = dir.join("engine");
    match std::fs::read_to_string(&path) {
        Ok(found) if found.trim() == engine => Ok(false),
        Ok(found) if !found.trim().is_empty() => {
            let found = found.trim().to_owned();
            Err(OpenError::OtherEngine {
                found,
                asked: engine.to_owned(),
            })
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(OpenError::Dir(e)),
        // New, or a crash came before its name was on disk.
        _ => {
            write_durably(&path, engine, dir).map_err(OpenError::Dir)?;
            Ok(true)
        }
    }
}

/// Writes a small file as a whole: what was there is there until the new one is.
fn write_durably(path: &Path, content: &str, dir: &Path) -> std::io::Result<()> {
    if !std::fs::read_to_string(path).is_ok_and(|there| there == content) {
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
    }
    std::fs::File::open(dir)?.sync_all()
}
