// SPDX-License-Identifier: Apache-2.0
//! Names to stores: the only crate that names engines.

pub mod metrics;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics::{MeteredDisk, MeteredEngine};

use dulse_engine_redb::RedbEngine;
use dulse_engine_sqlite::SqliteEngine;
use dulse_journal::RealDisk;
use dulse_kv::Engine;
use dulse_replica::{
    Clock, Durability, Levels, Limits, PEERS_WAIT, Replica, ReplicaOptions, ReplicaStore,
    SystemClock,
};

/// The engines an embedded filer can use; the first is the default.
pub const ENGINES: &[&str] = &["redb", "sqlite"];

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No engine has this name.
    #[error("unknown engine `{0}`; expected one of {expected}", expected = ENGINES.join(", "))]
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
    std::fs::create_dir_all(dir).map_err(OpenError::Dir)?;
    // Order: nothing is looked at before the directory is ours alone. The lock lives as long as
    // the journal's disk, which the replica holds.
    let disk = RealDisk::open(&dir.join("journal")).map_err(|error| {
        if error.is_locked() {
            return OpenError::InUse(dir.to_owned());
        }
        error.into()
    })?;
    remember_engine(engine, dir)?;
    let opened: Arc<dyn Engine> = match engine {
        "redb" => Arc::new(RedbEngine::open(dir)?),
        _ => Arc::new(SqliteEngine::open(dir)?),
    };
    let replica = Replica::open(ReplicaOptions {
        disk: Arc::new(MeteredDisk(disk)),
        engine: MeteredEngine::around(opened),
        clock,
        random,
        durability: writes.levels.default_level(),
        limits: writes.limits,
    })?;
    let levels = writes.levels.clone();
    Ok(ReplicaStore::start_with(
        replica,
        levels,
        writes.peers_wait,
    )?)
}

/// Writes down whose store a directory holds, and refuses another's.
fn remember_engine(engine: &str, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("engine");
    match std::fs::read_to_string(&path) {
        Ok(found) if found.trim() == engine => Ok(()),
        Ok(found) if !found.trim().is_empty() => {
            let found = found.trim().to_owned();
            Err(OpenError::OtherEngine {
                found,
                asked: engine.to_owned(),
            })
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(OpenError::Dir(e)),
        // New, or a crash came before its name was on disk.
        _ => write_durably(&path, engine, dir).map_err(OpenError::Dir),
    }
}

fn write_durably(path: &Path, content: &str, dir: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    std::fs::File::open(dir)?.sync_all()
}
