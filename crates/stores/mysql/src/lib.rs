// SPDX-License-Identifier: Apache-2.0
//! Entries in MySQL and MariaDB, in upstream's tables.
//!
//! [`open`] gives a [`dulse_shared::SharedStore`] over a [`MySql`] backend; upstream's filers may
//! use the same tables at the same time. Layout and what was observed of it:
//! `docs/formats/mysql.md`.
//!
//! A transaction of ours is one of the database: what it looked at is locked and compared, what
//! it makes must not be there. The database cannot be asked later what became of a transaction.
//! So each writes its number over one small row that belongs to its connection, among upstream's
//! key-value pairs: whoever asks reads that row under a lock, which waits until the transaction
//! is over, and finds the number exactly if it was committed. Reading back what it wrote was
//! considered instead: what another filer undid meanwhile looks like what was never made, and
//! would be made again.

mod apply;
mod batch;
mod config;
mod error;
mod list;
mod pool;
mod store;
mod traces;

pub use config::{Config, ConfigError, Tls};
pub use dulse_shared::sql::Tables;
pub use store::{MySql, open};
