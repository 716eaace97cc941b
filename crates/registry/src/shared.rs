// SPDX-License-Identifier: Apache-2.0
//! The shared stores of this build, by their sections in `filer.toml`.
//!
//! A store is plugged in with
//! 1. `Config::of(&Section, &StoreOptions)` and `Config::place()` in its crate's `config.rs`: the
//!    section's keys, checked, and where the database is, without secrets;
//! 2. a feature `store-NAME` here and in `crates/cli`, on by default, with the crate as an optional
//!    dependency, and its arrow in `xtask/src/tidy.rs`;
//! 3. a function below that makes a [`SharedChoice`] of both, and a row for each of its sections
//!    in [`STORES`]; where the database has transactions, it says how a connection is made as well
//!    ([`SharedChoice::with_transactions`]), so that it may go with stores of other directories.
//!
//! Nothing else names the store: what a filer is told at its start, the status, metrics and
//! errors take the name from its [`dulse_shared::Backend::name`].

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use dulse_config::stores::{Section, StoreOptions};
use dulse_shared::{
    AnyShared, Backend, Erased, Located, Place, Placed, SharedOptions, SharedStore,
};
use dulse_store::Error;
use dulse_types::FullPath;

/// Why a section cannot be followed.
type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// Makes of a section what opens the store.
type Prepare = fn(&Section, &StoreOptions) -> Result<SharedChoice, Wrong>;

/// Opens a store; blocks.
type Open = Box<dyn FnOnce(&SharedOptions) -> Result<Arc<dyn AnyShared>, Error> + Send>;

/// Connects to a database with transactions.
type Connect = Box<dyn FnOnce() -> Connecting + Send>;

type Connecting = Pin<Box<dyn Future<Output = Result<Erased, Error>> + Send>>;

/// Section and what it becomes.
const STORES: &[(&str, Prepare)] = &[
    #[cfg(feature = "store-cassandra")]
    ("cassandra2", cassandra),
    #[cfg(feature = "store-etcd")]
    ("etcd", etcd),
    #[cfg(feature = "store-hbase")]
    ("hbase", hbase),
    #[cfg(feature = "store-postgres")]
    ("postgres", postgres),
    #[cfg(feature = "store-postgres")]
    ("postgres2", postgres),
    #[cfg(feature = "store-mysql")]
    ("mysql", mysql),
    #[cfg(feature = "store-mysql")]
    ("mysql2", mysql),
    #[cfg(feature = "store-redis")]
    ("redis2", redis),
    #[cfg(feature = "store-redis")]
    ("redis2_sentinel", redis),
    #[cfg(feature = "store-redis")]
    ("redis3", redis),
    #[cfg(feature = "store-redis")]
    ("redis3_sentinel", redis),
    #[cfg(feature = "store-redis")]
    ("redis_cluster2", redis_cluster),
    #[cfg(feature = "store-redis")]
    ("redis_cluster3", redis_cluster),
];

#[cfg(feature = "store-cassandra")]
fn cassandra(section: &Section, options: &StoreOptions) -> Result<SharedChoice, Wrong> {
    let config = dulse_store_cassandra::Config::of(section, options)?;
    Ok(SharedChoice::new(section, config.place(), move |options| {
        let store = dulse_store_cassandra::open(config, options)?;
        Ok(Arc::new(store))
    }))
}

#[cfg(feature = "store-etcd")]
fn etcd(section: &Section, options: &StoreOptions) -> Result<SharedChoice, Wrong> {
    let config = dulse_store_etcd::Config::of(section, options)?;
    Ok(SharedChoice::new(section, config.place(), move |options| {
        let store = dulse_store_etcd::open(config, options)?;
        Ok(Arc::new(store))
    }))
}

#[cfg(feature = "store-hbase")]
fn hbase(section: &Section, options: &StoreOptions) -> Result<SharedChoice, Wrong> {
    let config = dulse_store_hbase::Config::of(section, options)?;
    Ok(SharedChoice::new(section, config.place(), move |options| {
        let store = dulse_store_hbase::open(config, options)?;
        Ok(Arc::new(store))
    }))
}

#[cfg(feature = "store-postgres")]
fn postgres(section: &Section, options: &StoreOptions) -> Result<SharedChoice, Wrong> {
    let config = dulse_store_postgres::Config::of(section, options)?;
    let connecting = config.clone();
    let connect = || dulse_store_postgres::Postgres::connect(connecting);
    let choice = SharedChoice::new(section, config.place(), move |options| {
        let store = dulse_store_postgres::open(config, options)?;
        Ok(Arc::new(store))
    });
    Ok(choice.with_transactions(connect))
}

#[cfg(feature = "store-mysql")]
fn mysql(section: &Section, options: &StoreOptions) -> Result<SharedChoice, Wrong> {
    let config = dulse_store_mysql::Config::of(section, options)?;
    let connecting = config.clone();
    let connect = || dulse_store_mysql::MySql::connect(connecting);
    let choice = SharedChoice::new(section, config.place(), move |options| {
        let store = dulse_store_mysql::open(config, options)?;
        Ok(Arc::new(store))
    });
    Ok(choice.with_transactions(connect))
}

#[cfg(feature = "store-redis")]
fn redis(section: &Section, options: &StoreOptions) -> Result<SharedChoice, Wrong> {
    let config = dulse_store_redis::Config::of(section, options)?;
    let connecting = config.clone();
    let connect = || dulse_store_redis::Redis::connect(connecting);
    let choice = SharedChoice::new(section, config.place(), move |options| {
        let store = dulse_store_redis::open(config, options)?;
        Ok(Arc::new(store))
    });
    Ok(choice.with_transactions(connect))
}

#[cfg(feature = "store-redis")]
fn redis_cluster(section: &Section, options: &StoreOptions) -> Result<SharedChoice, Wrong> {
    let config = dulse_store_redis::Config::of(section, options)?;
    Ok(SharedChoice::new(section, config.place(), move |options| {
        let store = dulse_store_redis::open_cluster(config, options)?;
        Ok(Arc::new(store))
    }))
}

/// A shared store that was chosen and is not open yet.
pub struct SharedChoice {
    section: String,
    place: String,
    open: Open,
    /// None where the database has no transactions.
    connect: Option<Connect>,
}

/// A store of one directory that was chosen and is not open yet.
pub struct LocatedChoice {
    /// The directory.
    pub(crate) path: FullPath,
    /// Section of `filer.toml`, such as `redis2.tmp`.
    pub(crate) section: String,
    pub(crate) choice: SharedChoice,
}

impl LocatedChoice {
    /// The section of `filer.toml`, such as `redis2.tmp`.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.section
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &FullPath {
        &self.path
    }

    /// The directory and where its store is, for people and without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} in {} ({})", self.path, self.choice.place, self.section)
    }

    /// Opens the store with a journal of its own; as [`SharedChoice::open`].
    ///
    /// # Errors
    ///
    /// As [`SharedChoice::open`].
    pub fn open(self, journal: PathBuf, random: u64) -> Result<Arc<dyn AnyShared>, Error> {
        let store = self.choice.open(journal, random)?;
        Ok(Arc::new(Placed::new(store, self.path, self.section)))
    }
}

impl fmt::Debug for LocatedChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocatedChoice").field(&self.place()).finish()
    }
}

/// Connects to the stores of directories; all have transactions.
async fn connect_all(located: Vec<LocatedChoice>) -> Result<Vec<Place>, Error> {
    let mut places = Vec::with_capacity(located.len());
    for one in located {
        let connect = one.choice.connect.expect("it has transactions");
        places.push(Place {
            path: one.path,
            section: one.section,
            backend: connect().await?,
        });
    }
    Ok(places)
}

impl SharedChoice {
    /// - `place`: where the database is, for people and without secrets.
    /// - `open`: opens it; blocks.
    #[allow(dead_code, reason = "a build may be without any shared store")]
    fn new(
        section: &Section,
        place: String,
        open: impl FnOnce(&SharedOptions) -> Result<Arc<dyn AnyShared>, Error> + Send + 'static,
    ) -> Self {
        Self {
            section: section.name().to_owned(),
            place,
            open: Box::new(open),
            connect: None,
        }
    }

    /// Says how a connection is made to a database that has transactions.
    #[allow(dead_code, reason = "a build may be without any shared store")]
    fn with_transactions<B: Backend, F>(
        mut self,
        connect: impl FnOnce() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<B, Error>> + Send + 'static,
    {
        let connect = || async move { Ok(Erased::new(connect().await?)) };
        self.connect = Some(Box::new(|| Box::pin(connect())));
        self
    }

    /// Whether its database has transactions, which it needs to go with stores of directories.
    pub(crate) fn has_transactions(&self) -> bool {
        self.connect.is_some()
    }

    /// The same with directories in stores of their own; all have transactions.
    pub(crate) fn with_located(self, located: Vec<LocatedChoice>) -> Self {
        let mut places = vec![self.place];
        places.extend(located.iter().map(LocatedChoice::place));
        let place = places.join("; ");
        let default = self.connect;
        let open: Open = Box::new(move |options| {
            let random = options.random;
            let connect = move || async move {
                let default = default.expect("it has transactions")().await?;
                Located::of(default, connect_all(located).await?, random).await
            };
            Ok(Arc::new(SharedStore::open_located(options, connect)?))
        });
        Self {
            section: self.section,
            place,
            open,
            connect: None,
        }
    }

    /// The section of `filer.toml`.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Where the database is, without secrets.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Connects and opens this filer's journal. Blocks until the database answers or does not.
    ///
    /// - `journal`: directory of the filer's own, for one process at a time; made if missing.
    /// - `random`: 64 random bits, for a new filer and a new store.
    ///
    /// # Errors
    ///
    /// As [`dulse_shared::SharedStore::open`].
    pub fn open(self, journal: PathBuf, random: u64) -> Result<Arc<dyn AnyShared>, Error> {
        (self.open)(&SharedOptions { journal, random })
    }
}

impl fmt::Debug for SharedChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedChoice")
            .field("section", &self.section)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// The sections of shared stores that this build has.
pub fn shared_stores() -> impl Iterator<Item = &'static str> {
    STORES.iter().map(|(name, _)| *name)
}

/// What a section asks for; `None` when this build has no such shared store.
pub(crate) fn prepare(
    section: &Section,
    options: &StoreOptions,
) -> Option<Result<SharedChoice, Wrong>> {
    let mut stores = STORES.iter();
    let (_, prepare) = stores.find(|(name, _)| *name == section.name())?;
    Some(prepare(section, options))
}
