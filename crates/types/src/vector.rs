// SPDX-License-Identifier: Apache-2.0
//! Vectors: what a replica has applied of everybody's log.

use std::collections::BTreeMap;
use std::fmt;

use crate::wire::{Reader, WireError, Writer};
use crate::{Origin, Stamp, Version};

/// Most origins a decoded vector may name; a cluster has a handful of filers.
pub const VECTOR_ORIGINS_MAX: u64 = 65_536;

/// Origin → greatest stamp applied without a hole. An absent origin is at zero.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Vector(BTreeMap<Origin, Stamp>);

impl Vector {
    /// The empty vector.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The stamp applied of `origin`, zero when none.
    #[must_use]
    pub fn get(&self, origin: Origin) -> Stamp {
        self.0.get(&origin).copied().unwrap_or(Stamp::ZERO)
    }

    /// Sets one component; it may go down only where a caller restores a state.
    pub fn set(&mut self, origin: Origin, stamp: Stamp) {
        if stamp == Stamp::ZERO {
            self.0.remove(&origin);
        } else {
            self.0.insert(origin, stamp);
        }
    }

    /// Raises one component to at least `stamp`.
    pub fn raise(&mut self, origin: Origin, stamp: Stamp) {
        if stamp > self.get(origin) {
            self.set(origin, stamp);
        }
    }

    /// Raises every component to at least the other's.
    pub fn merge_max(&mut self, other: &Self) {
        for (&origin, &stamp) in &other.0 {
            self.raise(origin, stamp);
        }
    }

    /// Whether the write with this version is applied.
    #[must_use]
    pub fn covers(&self, version: Version) -> bool {
        self.get(version.origin) >= version.stamp
    }

    /// Whether every component is at least the other's.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(&origin, &stamp)| self.get(origin) >= stamp)
    }

    /// The components in order of origin.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, Stamp)> + '_ {
        self.0.iter().map(|(&origin, &stamp)| (origin, stamp))
    }

    /// How many origins have a component.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is applied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends: count as varint, then per origin 8 bytes origin, 8 bytes stamp, big-endian.
    pub fn write(&self, out: &mut Writer) {
        out.varint(self.0.len() as u64);
        for (origin, stamp) in self.iter() {
            out.u64_be(origin.0);
            out.i64_be(stamp.0);
        }
    }

    /// Reads what [`Vector::write`] wrote.
    ///
    /// # Errors
    ///
    /// `Truncated`, or `TooLong` above [`VECTOR_ORIGINS_MAX`] origins.
    pub fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = input.varint()?;
        if count > VECTOR_ORIGINS_MAX {
            return Err(WireError::TooLong {
                what: "vector",
                len: count,
            });
        }
        let mut vector = Self::new();
        for _ in 0..count {
            let origin = Origin(input.u64_be()?);
            vector.set(origin, Stamp(input.i64_be()?));
        }
        Ok(vector)
    }
}

impl FromIterator<(Origin, Stamp)> for Vector {
    fn from_iter<I: IntoIterator<Item = (Origin, Stamp)>>(iter: I) -> Self {
        let mut vector = Self::new();
        for (origin, stamp) in iter {
            vector.set(origin, stamp);
        }
        vector
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (origin, stamp)) in self.iter().enumerate() {
            write!(f, "{}{origin}:{stamp}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("}")
    }
}
