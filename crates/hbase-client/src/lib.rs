// SPDX-License-Identifier: Apache-2.0
//! HBase's native protocol: what a store needs of it, and nothing more.
//!
//! ZooKeeper says where the region server of `hbase:meta` is, `hbase:meta` says where each region
//! of a table is, and region servers keep rows. [`Client`] finds its way by itself, keeps what it
//! has found until a server says that it is wrong, and shares a few connections per server among
//! all callers.
//!
//! Every call is bounded in time. An [`Error`] says whether anything can have been written:
//! a mutation is sent again only where the server said, or the way there shows, that nothing was.
//!
//! Not here: Kerberos, TLS (HBase 2.6 has it, upstream's client does not), cell blocks (cells come
//! as messages), several rows written in one call.

mod client;
mod connection;
mod error;
pub mod frame;
mod pool;
mod regions;
mod scan;
mod tables;
pub mod zookeeper;

pub use client::{ATTEMPT_TIME_MAX, CellValue, Client, Condition, Mutation, Options, Put};
pub use error::{Error, ErrorKind, Outcome};
pub use regions::{Region, RegionError, region_of_row};
pub use scan::{Page, Row, ScanRange, decode_rows};
pub use tables::Family;

/// Generated messages.
#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::all,
    reason = "generated code"
)]
pub(crate) mod pb {
    include!(concat!(env!("OUT_DIR"), "/hbase.pb.rs"));
}

/// Largest frame that is read, in bytes: the largest row that a store keeps, and room around it.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
