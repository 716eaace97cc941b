// SPDX-License-Identifier: Apache-2.0
//! What is asked of masters and, beside the data path, of volume servers.
//!
//! A trait, so that tests need neither and a filer can feed it from a stream.

use std::future::Future;
use std::pin::Pin;

use dulse_types::FileId;

use crate::Error;

/// A boxed future of a control call.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Where new chunks should lie; empty texts mean the master's default.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Placement {
    /// Collection.
    pub collection: String,
    /// Replica placement, three digits.
    pub replication: String,
    /// Time to live of the needle, upstream's form such as `3m`.
    pub ttl: String,
    /// Disk type.
    pub disk_type: String,
    /// Only in this data center.
    pub data_center: String,
    /// Only in this rack.
    pub rack: String,
    /// Only on this volume server.
    pub data_node: String,
}

/// One copy of a volume.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// `host:port` of the HTTP listener.
    pub url: String,
    /// `host:port` for clients outside.
    pub public_url: String,
    /// Port of the gRPC listener; 0 means HTTP port + 10000.
    pub grpc_port: u32,
    /// Data center, for callers that prefer near copies.
    pub data_center: String,
}

/// Ids assigned together: `base`, `base` + 1, … on one volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assigned {
    /// The first id.
    pub base: FileId,
    /// How many.
    pub count: u64,
    /// All copies of the volume; the first takes the upload and passes it on.
    pub locations: Vec<Location>,
    /// Token for the upload; empty when none is needed.
    pub auth: String,
}

/// Calls to masters and volume servers.
pub trait Control: Send + Sync {
    /// Assigns `count` ids.
    fn assign<'a>(&'a self, placement: &'a Placement, count: u64) -> Answer<'a, Assigned>;

    /// All copies of a volume, never empty.
    fn lookup(&self, volume_id: u32) -> Answer<'_, Vec<Location>>;

    /// Deletes needles of one server, cookies unchecked; returns those it failed on.
    fn batch_delete<'a>(
        &'a self,
        location: &'a Location,
        ids: &'a [FileId],
    ) -> Answer<'a, Vec<FileId>>;
}
