// SPDX-License-Identifier: Apache-2.0
//! Filers with a default store and others of directories: PostgreSQL with `/tmp` in Redis, and
//! others with `/var/log` in etcd as well.
#![allow(dead_code, reason = "each test uses a part of it")]

#[path = "etcd.rs"]
mod etcd;
#[path = "postgres.rs"]
mod postgres;
#[path = "redis.rs"]
mod redis;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use dulse_shared_testkit::{Database, Place};

/// The servers, and where the stores are on them.
pub(crate) struct Located {
    default: postgres::Postgres,
    pub(crate) redis: redis::Redis,
    default_place: Place,
    tmp_place: Place,
}

impl Located {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let (default, redis) = (postgres::Postgres::start()?, redis::Redis::start()?);
        Ok(Self {
            default_place: default.make("postgres2", name)?,
            tmp_place: redis.make("redis2", name)?,
            default,
            redis,
        })
    }

    /// Another database of the same kind.
    pub(crate) fn another(&self) -> Result<Place> {
        self.redis.make("redis2", "")
    }

    /// Writes a `filer.toml` with these stores, that of `/tmp` if there is one.
    pub(crate) fn configure(&self, dir: &Path, tmp: Option<&Place>) -> Result<PathBuf> {
        configure(dir, &self.default_place.toml, tmp)
    }

    pub(crate) fn tmp(&self) -> &Place {
        &self.tmp_place
    }

    /// Whether the default store has an entry.
    pub(crate) fn default_has(&self, directory: &str, name: &str) -> Result<bool> {
        self.default.has_row(&self.default_place, directory, name)
    }

    /// Whether the store of `/tmp` has an entry, by its path there.
    pub(crate) fn tmp_has(&self, directory: &str, name: &str) -> Result<bool> {
        self.redis.has_row(&self.tmp_place, directory, name)
    }
}

/// Directories in stores of their own beside default stores of any kind: `/tmp` in Redis and
/// `/var/log` in etcd, which has no transactions.
pub(crate) struct Beside {
    pub(crate) redis: redis::Redis,
    etcd: etcd::Etcd,
    tmp_place: Place,
    log_place: Place,
}

impl Beside {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let (redis, etcd) = (redis::Redis::start()?, etcd::Etcd::start()?);
        Ok(Self {
            tmp_place: redis.make("redis2", name)?,
            log_place: etcd.make("etcd", &format!("{name}.log"))?,
            redis,
            etcd,
        })
    }

    /// Writes a `filer.toml` with a default store and those of both directories.
    pub(crate) fn configure(&self, dir: &Path, default: &str) -> Result<PathBuf> {
        let log = located("etcd.log", "/var/log", &self.log_place)?;
        configure(dir, &format!("{default}{log}"), Some(&self.tmp_place))
    }

    /// The same with another database for `/tmp`.
    pub(crate) fn configure_another(&self, dir: &Path) -> Result<PathBuf> {
        let log = located("etcd.log", "/var/log", &self.log_place)?;
        configure(dir, &log, Some(&self.redis.make("redis2", "")?))
    }

    /// A default store in etcd, beside that of `/var/log`.
    pub(crate) fn in_etcd(&self, name: &str) -> Result<Place> {
        self.etcd.make("etcd", name)
    }

    /// Whether the store of `/tmp` has an entry, by its path there.
    pub(crate) fn tmp_has(&self, directory: &str, name: &str) -> Result<bool> {
        self.redis.has_row(&self.tmp_place, directory, name)
    }

    /// Whether the store of `/var/log` has an entry, by its path there.
    pub(crate) fn log_has(&self, directory: &str, name: &str) -> Result<bool> {
        self.etcd.has_row(&self.log_place, directory, name)
    }

    /// Whether the default store in etcd has an entry.
    pub(crate) fn etcd_has(&self, place: &Place, directory: &str, name: &str) -> Result<bool> {
        self.etcd.has_row(place, directory, name)
    }
}

/// A store's section for a directory.
fn located(section: &str, location: &str, place: &Place) -> Result<String> {
    let kind = section.split('.').next().unwrap_or(section);
    let head = format!("[{section}]\nenabled = true\nlocation = \"{location}\"\n");
    let toml = place
        .toml
        .replacen(&format!("[{kind}]\nenabled = true\n"), &head, 1);
    ensure!(toml.starts_with(&head), "{toml}");
    Ok(toml)
}

/// Writes a `filer.toml` with a default store, and one of `/tmp` if there is one.
pub(crate) fn configure(dir: &Path, default: &str, tmp: Option<&Place>) -> Result<PathBuf> {
    let mut toml = default.to_owned();
    if let Some(tmp) = tmp {
        toml += &located("redis2.tmp", "/tmp/", tmp)?;
    }
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("filer.toml"), toml)?;
    Ok(dir.to_owned())
}
