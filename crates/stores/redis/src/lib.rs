// SPDX-License-Identifier: Apache-2.0
//! Entries in Redis, in upstream's keys.
//!
//! [`open`] gives a [`dulse_shared::SharedStore`] over a [`Redis`] backend; upstream's filers may
//! use the same database at the same time. Layout and what was observed of it:
//! `docs/formats/redis.md`.
//!
//! An attempt watches what it looked at, has the server compare it, reads the server's clock, and
//! then writes in one `MULTI`: the server makes all of it or, when anything watched was touched
//! meanwhile, nothing. With what it writes goes its ticket, a key that says that it was made, so
//! an answer that was lost is asked for and not guessed; who asks first forbids it.

mod advice;
mod apply;
mod cluster;
mod config;
mod error;
mod layout;
mod link;
mod list_plan;
mod lists;
mod rows;
mod scripts;
mod section;
mod skip_list;
mod store;
mod tickets;

pub use cluster::{RedisCluster, open_cluster};
pub use config::{Config, Names, Servers, Tls};
pub use section::ConfigError;
pub use skip_list::check_skip_list;
pub use store::{Redis, open};
