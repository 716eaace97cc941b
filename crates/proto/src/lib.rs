// SPDX-License-Identifier: Apache-2.0
//! The wire: upstream's interface and our own, generated from `proto/`.
//!
//! Entries are [`dulse_types::Entry`]: bytes that are passed through, so fields that
//! this version does not know survive.

/// Upstream's filer.
pub mod filer {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("filer_pb");
}

/// Upstream's master.
pub mod master {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("master_pb");
}

/// Upstream's volume server.
pub mod volume_server_pb {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("volume_server_pb");
}

/// Upstream's remote storage messages.
pub mod remote_pb {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("remote_pb");
}

/// What lost in conflicts.
pub mod conflicts {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("dulse.conflicts.v1");
}

/// What filers on one shared store tell one another.
pub mod announcements {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("dulse.announcements.v1");
}

/// What an operator asks a filer.
pub mod status {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("dulse.status.v1");
}

/// How filers keep in step.
pub mod replication {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("dulse.replication.v1");
}

/// Who belongs to the filers' cluster.
pub mod members {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("dulse.members.v1");
}

/// How filers find where they differ.
pub mod repair {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("dulse.repair.v1");
}

/// What a master remembers of the filers' clusters.
pub mod cluster {
    #![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
    tonic::include_proto!("dulse.cluster.v1");
}

pub use remote_pb as remote;
pub use volume_server_pb as volume;

/// The descriptors of every file, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
