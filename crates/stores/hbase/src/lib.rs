// SPDX-License-Identifier: Apache-2.0
//! Entries in HBase, in upstream's table.
//!
//! [`open`] gives a [`dulse_shared::SharedStore`] over [`Hbase`]; upstream's filers may use the
//! same table at the same time. Layout and what was observed of it: `docs/formats/hbase.md`.
//!
//! HBase compares and writes one row at a time, so a transaction of ours is a plan in the
//! filer's journal, written row by row ([`dulse_shared::Stepwise`]).

mod config;
mod error;
mod layout;
mod store;
mod write;

pub use config::{Config, ConfigError};
pub use layout::{Found, Inside, inside, row_of};
pub use store::{Hbase, open};
