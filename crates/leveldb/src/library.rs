// SPDX-License-Identifier: Apache-2.0
//! Finding and loading the library, once.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::raw::Functions;

/// Names the directory that is looked into before the system's: one that holds
/// `libleveldb.so.1d` and, where the system has none, `libsnappy.so.1`.
pub const DIRECTORY_VARIABLE: &str = "DULSE_LEVELDB_DIR";

/// Debian's and Ubuntu's name of the library, then that of the others. The `d` says that it is
/// Debian's build; the C interface is the same.
const NAMES: [&str; 2] = ["libleveldb.so.1d", "libleveldb.so.1"];

/// What it compresses with; loaded first, as nobody would look for it beside it.
const COMPRESSION: &str = "libsnappy.so.1";

/// There is no library to load.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the library `{name}` cannot be loaded ({why}); install Debian's package `libleveldb1d`, or \
     name the directory that holds it in `{DIRECTORY_VARIABLE}`", name = NAMES[0]
)]
pub struct MissingLibrary {
    /// What the loader said.
    why: String,
}

/// The loaded library.
pub struct Library {
    pub(crate) functions: Functions,
    /// `functions` points into it. Order: dropped last; in fact never, as it is in a static.
    _loaded: Vec<libloading::Library>,
}

impl Library {
    /// The library of this process, loaded with the first call. A missing one is asked for
    /// again with every call: it may have been installed meanwhile.
    ///
    /// # Errors
    ///
    /// When it is not installed, or lacks a function.
    pub fn get() -> Result<&'static Self, MissingLibrary> {
        static LOADED: OnceLock<Library> = OnceLock::new();
        if let Some(library) = LOADED.get() {
            return Ok(library);
        }
        let directory = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from);
        let library = Self::load(directory)?;
        Ok(LOADED.get_or_init(|| library))
    }

    /// Major and minor number of its version.
    #[must_use]
    pub fn version(&self) -> (i32, i32) {
        // SAFETY: the functions take nothing and read constants.
        unsafe {
            (
                (self.functions.major_version)(),
                (self.functions.minor_version)(),
            )
        }
    }

    fn load(directory: Option<PathBuf>) -> Result<Self, MissingLibrary> {
        let mut why = None;
        for directory in directory.into_iter().map(Some).chain([None]) {
            for name in NAMES {
                match Self::load_from(directory.as_ref(), name) {
                    Ok(library) => return Ok(library),
                    // The first place and name are what an operator expects.
                    Err(error) => why = why.or(Some(error)),
                }
            }
        }
        Err(MissingLibrary {
            why: why.map_or_else(String::new, |error| said(&error)),
        })
    }

    fn load_from(directory: Option<&PathBuf>, name: &str) -> Result<Self, libloading::Error> {
        let place = |name: &str| match directory {
            Some(directory) => directory.join(name),
            None => PathBuf::from(name),
        };
        let mut loaded = Vec::new();
        if directory.is_some() {
            // SAFETY: Snappy's initializers only set up its own statics. Where it is not here,
            // the system's is taken when LevelDB is loaded.
            loaded.extend(unsafe { libloading::Library::new(place(COMPRESSION)) });
        }
        // SAFETY: LevelDB's initializers only set up its own statics.
        let library = unsafe { libloading::Library::new(place(name)) }?;
        // SAFETY: it is LevelDB by its name, and kept loaded beside the table.
        let functions = unsafe { Functions::find(&library) }?;
        loaded.push(library);
        Ok(Self {
            functions,
            _loaded: loaded,
        })
    }
}

/// What the loader said, not only that it failed.
fn said(error: &libloading::Error) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_names_the_package_to_install() {
        let nowhere = PathBuf::from("/nowhere");
        let error = Library::load_from(Some(&nowhere), NAMES[0]).err().unwrap();
        let said = MissingLibrary { why: said(&error) };
        let said = said.to_string();
        assert!(
            said.contains("`libleveldb1d`") && said.contains("/nowhere"),
            "{said}"
        );
        assert!(said.contains(DIRECTORY_VARIABLE), "{said}");
    }

    #[test]
    fn the_library_is_loaded_once() {
        let library = Library::get().unwrap();
        assert_eq!(library.version().0, 1);
        assert!(std::ptr::eq(library, Library::get().unwrap()));
    }
}
