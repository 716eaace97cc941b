// SPDX-License-Identifier: Apache-2.0
//! Filers with a default store in PostgreSQL and one of `/tmp` in Redis.
#![allow(dead_code, reason = "each test uses a part of it")]

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
        let mut toml = self.default_place.toml.clone();
        if let Some(tmp) = tmp {
            let section = "[redis2.tmp]\nenabled = true\nlocation = \"/tmp/\"\n";
            let of_tmp = tmp.toml.replacen("[redis2]\nenabled = true\n", section, 1);
            ensure!(of_tmp.starts_with(section), "{of_tmp}");
            toml += &of_tmp;
        }
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("filer.toml"), toml)?;
        Ok(dir.to_owned())
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
