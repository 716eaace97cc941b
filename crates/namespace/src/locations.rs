// SPDX-License-Identifier: Apache-2.0
//! Directories in stores of their own: what cannot be done with them, said before anything is
//! begun. The store refuses it as well, but of a tree it would refuse the last part only.

use std::collections::BTreeMap;
use std::sync::Arc;

use dulse_store::Trees;
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

    /// Those of each store together, in their order.
    #[must_use]
    pub fn by_store(&self, paths: &[FullPath]) -> Vec<Vec<FullPath>> {
        by_location(&self.locations, paths)
    }

    /// The store again, when it changes trees itself and has this one; stores of directories
    /// do not.
    pub(crate) fn trees_of(&self, path: &FullPath) -> Option<&Arc<dyn Trees>> {
        let is_apart = location_of(&self.locations, path).is_some();
        self.trees.as_ref().filter(|_| !is_apart)
    }

    /// Refuses what would go from one store to another.
    pub(crate) fn check_one_store(&self, from: &FullPath, to: &FullPath) -> Result<(), Error> {
        let (a, b) = (
            location_of(&self.locations, from),
            location_of(&self.locations, to),
        );
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

/// The location that a path is below, in whose store it is; none for the default store.
fn location_of<'a>(locations: &'a [FullPath], path: &FullPath) -> Option<&'a FullPath> {
    let above = locations.iter().filter(|location| path.is_below(location));
    above.max_by_key(|location| location.as_str().len())
}

fn by_location(locations: &[FullPath], paths: &[FullPath]) -> Vec<Vec<FullPath>> {
    let mut parts: BTreeMap<Option<&str>, Vec<FullPath>> = BTreeMap::new();
    for path in paths {
        let location = location_of(locations, path).map(FullPath::as_str);
        parts.entry(location).or_default().push(path.clone());
    }
    parts.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_store_come_together() {
        let path = |text: &str| FullPath::parse(text).unwrap();
        let locations = [path("/b"), path("/b/c")];
        let paths = ["/a/x", "/b/x", "/b", "/bb/x", "/b/c/x", "/b/c", "/b/y"].map(path);
        let parts = by_location(&locations, &paths);
        let texts = |part: &Vec<FullPath>| part.iter().map(|p| p.as_str().to_owned()).collect();
        let parts: Vec<Vec<String>> = parts.iter().map(texts).collect();
        assert_eq!(
            parts,
            [
                vec!["/a/x", "/b", "/bb/x"],
                vec!["/b/x", "/b/c", "/b/y"],
                vec!["/b/c/x"]
            ]
        );
    }
}
