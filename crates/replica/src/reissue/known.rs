// SPDX-License-Identifier: Apache-2.0
//! What others have of the origins whose changes only this store may have.

use std::collections::BTreeMap;
use std::fmt;

use dulse_types::wire::{Reader, WireError, Writer};
use dulse_types::{Origin, Stamp, Version};

/// Per origin the last stamp that others have, zero included. ⚠ Origins that are not named are
/// not compared: they have living owners, who have what they made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Known(BTreeMap<Origin, Stamp>);

impl Known {
    /// Others have everything of `origin` up to `stamp`.
    pub fn set(&mut self, origin: Origin, stamp: Stamp) {
        self.0.insert(origin, stamp);
    }

    /// What others have of an origin; `None` when it is not compared.
    #[must_use]
    pub fn get(&self, origin: Origin) -> Option<Stamp> {
        self.0.get(&origin).copied()
    }

    /// Whether others lack a version.
    #[must_use]
    pub fn lacks(&self, version: Version) -> bool {
        self.get(version.origin)
            .is_some_and(|known| known < version.stamp)
    }

    /// Every origin that is compared, with what others have of it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Origin, Stamp)> {
        self.0.iter().map(|(origin, stamp)| (*origin, *stamp))
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.varint(self.0.len() as u64);
        for (origin, stamp) in &self.0 {
            out.u64_be(origin.0);
            out.i64_be(stamp.0);
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut known = Self::default();
        // A lying count ends with the bytes.
        for _ in 0..input.varint()? {
            let origin = Origin(input.u64_be()?);
            known.set(origin, Stamp(input.i64_be()?));
        }
        Ok(known)
    }
}

impl FromIterator<(Origin, Stamp)> for Known {
    fn from_iter<T: IntoIterator<Item = (Origin, Stamp)>>(of: T) -> Self {
        Self(of.into_iter().collect())
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.0.iter();
        all.try_for_each(|(origin, stamp)| write!(f, "{origin}:{stamp} "))
    }
}
