// SPDX-License-Identifier: Apache-2.0
//! Stamps, origins, versions and identities (the clock and the names of the model).

use std::fmt;

use crate::wire::{Reader, WireError, Writer};

/// A point in an origin's log: nanoseconds of a hybrid logical clock since 1970.
///
/// One number, four uses: version of what was written, position in the origin's
/// log, resume cursor, and `ts_ns` on upstream's wire. Zero means "nothing yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Stamp(pub i64);

impl Stamp {
    /// Before every stamp.
    pub const ZERO: Self = Self(0);

    /// The next stamp; saturates at the end of time (year 2262).
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The stamp `n` nanoseconds later; saturating.
    #[must_use]
    pub fn plus(self, n: u32) -> Self {
        Self(self.0.saturating_add(i64::from(n)))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Whoever stamps changes: a random `u32` in the upper half, the store id in the lower.
///
/// The store id is upstream's `signature` (`filer.store.id`) and never 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Origin(pub u64);

impl Origin {
    /// Makes an origin of its halves; `None` when the store id is 0.
    #[must_use]
    pub fn new(random: u32, store_id: u32) -> Option<Self> {
        (store_id != 0).then(|| Self(u64::from(random) << 32 | u64::from(store_id)))
    }

    /// The store id, as upstream's protocol shows it (a signed 32-bit number).
    #[must_use]
    pub fn signature(self) -> i32 {
        let low = (self.0 & u64::from(u32::MAX)) as u32;
        i32::from_ne_bytes(low.to_ne_bytes())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Origin {
    type Err = std::num::ParseIntError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(s, 16).map(Self)
    }
}

/// The version of a written value: totally ordered, unique per write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Version {
    /// When it was written.
    pub stamp: Stamp,
    /// Who wrote it.
    pub origin: Origin,
}

impl Version {
    /// Before every version: a register nobody has written.
    pub const ZERO: Self = Self {
        stamp: Stamp::ZERO,
        origin: Origin(0),
    };

    /// Whether the register was ever written.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Appends 16 bytes, big-endian, so that byte order is version order.
    pub fn write(self, out: &mut Writer) {
        out.i64_be(self.stamp.0);
        out.u64_be(self.origin.0);
    }

    /// Reads what [`Version::write`] wrote.
    ///
    /// # Errors
    ///
    /// `Truncated` when fewer than 16 bytes are left.
    pub fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            stamp: Stamp(input.i64_be()?),
            origin: Origin(input.u64_be()?),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.stamp, self.origin)
    }
}

/// The identity of a name or an inode: its birth, `(stamp, origin, index in the change)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Identity {
    /// Stamp of the change it was born in.
    pub stamp: Stamp,
    /// Origin it was born at.
    pub origin: Origin,
    /// Which one of those born in that change.
    pub index: u32,
}

impl Identity {
    /// Bytes of an encoded identity.
    pub const LEN: usize = 20;

    /// The version its birth has.
    #[must_use]
    pub fn birth(self) -> Version {
        Version {
            stamp: self.stamp,
            origin: self.origin,
        }
    }

    /// 20 bytes, big-endian: stamp, origin, index. Byte order is identity order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.stamp.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.origin.0.to_be_bytes());
        out[16..].copy_from_slice(&self.index.to_be_bytes());
        out
    }

    /// Appends [`Identity::to_bytes`].
    pub fn write(self, out: &mut Writer) {
        out.raw(&self.to_bytes());
    }

    /// Reads what [`Identity::write`] wrote.
    ///
    /// # Errors
    ///
    /// `Truncated` when fewer than 20 bytes are left.
    pub fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            stamp: Stamp(input.i64_be()?),
            origin: Origin(input.u64_be()?),
            index: input.u32_be()?,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.birth(), self.index)
    }
}

/// A text that names no identity.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no id; expected `stamp@origin.index`")]
pub struct IdentityError(String);

impl std::str::FromStr for Identity {
    type Err = IdentityError;

    /// Reads what `Display` wrote.
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let parse = || {
            let (stamp, rest) = text.split_once('@')?;
            let (origin, index) = rest.split_once('.')?;
            Some(Self {
                stamp: Stamp(stamp.parse().ok()?),
                origin: origin.parse().ok()?,
                index: index.parse().ok()?,
            })
        };
        parse().ok_or_else(|| IdentityError(text.to_owned()))
    }
}

#[cfg(test)]
mod identity_tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_printed() {
        let id = Identity {
            stamp: Stamp(1_732_546_800_000_000_123),
            origin: Origin(0x0102_0304_0506_0708),
            index: u32::MAX,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "1@2", "1.2", "x@1.2", "1@x.2", "1@2.-1", "1@2.3.4"] {
            assert!(wrong.parse::<Identity>().is_err(), "{wrong}");
        }
    }
}
