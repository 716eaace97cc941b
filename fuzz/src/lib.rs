// SPDX-License-Identifier: Apache-2.0
//! Every decoder of the code base, as a function of bytes that must not panic.
//!
//! A [`Target`] takes any bytes. Bytes that are no good are errors and end there; of good ones
//! it also checks what must hold, such as that what was read is written alike. Each has seeds,
//! from the golden files where there are some.
//!
//! Three ways to run them:
//!
//! - `cargo test -p dulse-fuzz`: seeds, and a bounded number of mutations from a fixed seed.
//! - `cargo xtask fuzz TARGET`: under libFuzzer, guided by coverage, where `cargo fuzz` is
//!   installed; the programs for it are in `fuzz/libfuzzer`, a workspace of its own.
//! - the same without `cargo fuzz`: mutations from a new seed, for a time.

pub mod mutate;
pub mod run;
mod seeds;
mod targets;

pub use targets::TARGETS;

/// A decoder and what it starts from.
#[derive(Clone, Copy)]
pub struct Target {
    /// As on the command line.
    pub name: &'static str,
    /// Takes any bytes; panics only when the decoder is wrong.
    pub run: fn(&[u8]),
    /// Good inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many mutations the quick test tries: fewer where each costs more.
    pub n_quick: u32,
}

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
