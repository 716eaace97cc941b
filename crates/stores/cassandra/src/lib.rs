// SPDX-License-Identifier: Apache-2.0
//! Entries in Cassandra, in upstream's table.
//!
//! [`open`] gives a [`dulse_shared::SharedStore`] over [`Cassandra`]; upstream's filers may use
//! the same table at the same time. Layout and what was observed of it:
//! `docs/formats/cassandra.md`.
//!
//! Cassandra compares and writes rows of one partition at once, which is those of one directory,
//! so a transaction of ours is a plan in the filer's journal, written directory by directory
//! ([`dulse_shared::Stepwise`]). Batches over several partitions were considered: they compare
//! nothing.

mod config;
mod error;
mod layout;
mod session;
mod store;
mod together;
mod write;

pub use config::{Config, ConfigError, Tls};
pub use store::{Cassandra, open};
