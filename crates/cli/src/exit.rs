// SPDX-License-Identifier: Apache-2.0
//! Exit codes: documented constants, one place.

/// Success.
pub(crate) const OK: u8 = 0;
/// The question was answered with no: `verify` found differences.
pub(crate) const DIFFERENT: u8 = 1;
/// The call cannot work as it was typed: a port in use, an unknown engine.
pub(crate) const USAGE: u8 = 2;
/// Something failed while running.
pub(crate) const FAILED: u8 = 3;

/// The store of a filer is damaged.
pub(crate) const DAMAGED: u8 = 4;

/// A store that is damaged, in one sentence: what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damaged(pub(crate) String);

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

/// A call that cannot work, in one sentence for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
