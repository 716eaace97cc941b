// SPDX-License-Identifier: Apache-2.0
//! Upstream's `filer.toml`: which store a filer keeps its entries in, and where.
//!
//! Looked for as upstream does; every key can be overridden by `WEED_` and the key in upper
//! case with `_` for `.`, such as `WEED_LEVELDB2_DIR`, and for sections without an id that works
//! without a file. Names of sections and keys are read without regard to case.
//!
//! Unlike upstream, nothing that is not understood passes: an unknown section or key, a value of
//! another type, a second enabled store are refused with their line.

mod dsn;
mod read;
mod schema;
mod section;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::security::Environment;
pub use dsn::{Dsn, DsnError, DsnTls};
pub use section::Section;

/// Name of the file.
pub const FILE_NAME: &str = "filer.toml";

/// What a `filer.toml` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stores {
    /// `[filer.options]`.
    pub options: StoreOptions,
    /// The enabled store, if there is one.
    pub store: Option<Section>,
    /// Enabled stores of some directories, `[redis2.tmp]`, in the order of their names.
    pub paths: Vec<PathStore>,
    /// Where it was found.
    pub path: Option<PathBuf>,
}

/// `[filer.options]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// `recursive_delete`: whether a directory with entries is removed without being asked to.
    pub recursive_delete: bool,
    /// `max_file_name_length`: longest name of an entry, in bytes.
    pub name_len_max: u64,
    /// `buckets_folder`: the directory whose children are buckets.
    pub buckets_folder: String,
    /// `s3.empty_folder_cleanup_delay`.
    pub empty_folder_cleanup_delay: Duration,
}

/// A store of one directory and what is below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathStore {
    /// The part of its section behind the dot.
    pub id: String,
    /// The directory, such as `/tmp`; without a slash at its end.
    pub location: String,
    /// Its keys.
    pub section: Section,
}

impl Stores {
    /// Finds and reads the file; without one, what the environment says.
    ///
    /// - `config_dir`: looked into first.
    ///
    /// # Errors
    ///
    /// `Read` or `Line` for a file that is there and cannot be used.
    pub fn load(config_dir: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        match crate::security::find(FILE_NAME, config_dir, environment) {
            Some(path) => Self::read(&path, environment),
            None => Self::parse(Path::new("environment"), "", environment),
        }
    }

    /// Reads this file.
    ///
    /// # Errors
    ///
    /// `Read` or `Line`.
    pub fn read(path: &Path, environment: &Environment) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut stores = Self::parse(path, &text, environment)?;
        stores.path = Some(path.to_owned());
        Ok(stores)
    }

    /// Understands the text of a file; `path` is for errors.
    ///
    /// # Errors
    ///
    /// `Line` at the first thing that is not understood.
    pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Self, Error> {
        read::stores(path, text, environment)
    }
}
