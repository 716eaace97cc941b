// SPDX-License-Identifier: Apache-2.0
//! Entries in etcd, under upstream's keys.
//!
//! [`open`] gives a [`dulse_shared::SharedStore`] over [`Etcd`]; upstream's filers may use the
//! same keys at the same time. Layout and what was observed of it: `docs/formats/etcd.md`.
//!
//! etcd's transactions compare and write many keys at once, but few: 128 and 1.5 MiB unless its
//! operator says otherwise. So what a filer does is written in groups, from a plan in its
//! journal, and each group is one transaction that compares what it writes over. Transactions of
//! etcd for whole changes were considered: a directory of 200 entries could not be moved on a
//! server as it comes, and etcd has no clock that orders what several filers write.

mod attempts;
mod client;
mod config;
mod error;
mod keys;
mod spans;
mod store;

/// What is spoken of etcd's protocol.
mod wire {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("etcdserverpb");
}

pub use config::{Config, ConfigError, Tls};
pub use store::{Etcd, open};
