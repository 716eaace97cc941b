// SPDX-License-Identifier: Apache-2.0
//! Configuration files: ours, one section per role, and upstream's `security.toml` and
//! `filer.toml`.
//!
//! A role's keys are its flags; whoever owns the flags describes them as [`Schema`]s, so
//! there is one definition of every key, its default and its help. Nothing that is not
//! understood passes in silence: unknown keys and wrong types are refused with their line.

mod error;
mod file;
mod schema;
pub mod security;
pub mod stores;
mod template;
mod units;

pub use error::Error;
pub use file::{File, Value};
pub use schema::{Key, Kind, Schema};
pub use security::Security;
pub use stores::Stores;
pub use template::template;
pub use units::{Size, Span, UnitError};
