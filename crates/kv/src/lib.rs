// SPDX-License-Identifier: Apache-2.0
//! The ordered key-value trait that embedded engines implement, and the memory engine.
//!
//! It is no database interface: it has what a replica needs. Keys are flat and
//! ordered bytewise; which row lies where is the replica's business.
//! What every engine must do is written at [`Engine`] and tested by `dulse-kv-testkit`.

mod engine;
mod error;
pub mod files;
mod memory;
mod read;

pub use engine::{Batch, Engine, Usage};
pub use error::{Error, ErrorKind};
pub use memory::MemoryEngine;
pub use read::{Order, Read, ReadExt, Row, Visitor};
