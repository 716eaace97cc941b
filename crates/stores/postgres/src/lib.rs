// SPDX-License-Identifier: Apache-2.0
//! Entries in PostgreSQL, in upstream's tables.
//!
//! [`open`] gives a [`dulse_shared::SharedStore`] over a [`Postgres`] backend; upstream's filers
//! may use the same tables at the same time. Layout and what was observed of it:
//! `docs/formats/postgres.md`.
//!
//! A transaction of ours is one of the database: what it looked at is locked and compared, what
//! it makes must not be there. It holds an advisory lock under the attempt's number, so that
//! whoever asks what became of it waits until it is over, and the database is asked by the
//! number of the transaction, as long as this process knows it.

mod apply;
mod config;
mod error;
mod pool;
mod store;

pub use config::{Config, ConfigError, SslMode, Tables};
pub use dulse_shared::sql::{Place, bucket_is_valid, dirhash, key_row, place_of};
pub use store::{Postgres, open};
