// SPDX-License-Identifier: Apache-2.0
//! Directories in stores of their own: what cannot be done with them, said before anything is
//! begun. The store refuses it as well, but of a tree it would refuse the last part only.

use dulse_types::FullPath;

use crate::{Error, Namespace};

impl Namespace {
    /// Refuses to remove or move a location, or a directory that one is below.
    pub(crate) fn check_stays(&self, path: &FullPath) -> Result<(), Error> {
        let is_held = |location: &&FullPath| *location == path || location.is_below(path);
        match self.locations.iter().find(is_held) {
            None => Ok(()),
            Some(location) => Err(Error::invalid(format!(
                "{path} stays where it is: another store begins at {location}"
            ))),
        }
    }

    /// Refuses what would go from one store to another.
    pub(crate) fn check_one_store(&self, from: &FullPath, to: &FullPath) -> Result<(), Error> {
        let store = |path: &FullPath| {
            let above = self.locations.iter().filter(|l| path.is_below(l));
            above.max_by_key(|location| location.as_str().len())
        };
        let (a, b) = (store(from), store(to));
        if a == b {
            return Ok(());
        }
        let text = |location: Option<&FullPath>| match location {
            None => "the default store".to_owned(),
            Some(location) => format!("the store of {location}"),
        };
        Err(Error::invalid(format!(
            "{from} is in {}, and {to} would be in {}: nothing moves from one store to another; \
             copy it, and delete what was copied",
            text(a),
            text(b)
        )))
    }
}
