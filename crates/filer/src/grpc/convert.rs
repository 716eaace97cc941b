// SPDX-License-Identifier: Apache-2.0
//! Between messages and the namespace.

use dulse_blobs::Location;
use dulse_namespace::{Clause, ClauseKind, Happened};
use dulse_proto::filer as pb;
use dulse_types::{FullPath, Origin};
use tonic::Status;

pub(crate) fn path(directory: &str, name: &str) -> Result<FullPath, Status> {
    FullPath::of(directory, name).map_err(|e| Status::invalid_argument(e.to_string()))
}

pub(crate) fn condition(condition: Option<pb::WriteCondition>) -> Vec<Clause> {
    use pb::write_condition::Kind;
    let clauses = condition.map(|c| c.clauses).unwrap_or_default();
    let convert = |c: pb::write_condition::Clause| Clause {
        kind: match Kind::try_from(c.kind) {
            Ok(Kind::None) => ClauseKind::None,
            Ok(Kind::IfNotExists) => ClauseKind::NotExists,
            Ok(Kind::IfExists) => ClauseKind::Exists,
            Ok(Kind::IfEtagMatch) => ClauseKind::EtagMatch,
            Ok(Kind::IfEtagNotMatch) => ClauseKind::EtagNotMatch,
            Ok(Kind::IfUnmodifiedSince) => ClauseKind::UnmodifiedSince,
            Ok(Kind::IfModifiedSince) => ClauseKind::ModifiedSince,
            Ok(Kind::IfExtendedNotEqual) => ClauseKind::ExtendedNotEqual,
            Ok(Kind::IfExtendedTimeElapsed) => ClauseKind::ExtendedTimeElapsed,
            Ok(Kind::IfChunksEqual) => ClauseKind::ChunksEqual,
            Ok(Kind::IfEntryEqual) | Err(_) => ClauseKind::Unknown,
        },
        etags: c.etags,
        allow_weak: c.allow_weak,
        unix_time: c.unix_time,
        key: c.ext_key,
        value: c.ext_value,
        gate_key: c.gate_key,
        gate_value: c.gate_value,
        fids: c.fids,
    };
    clauses.into_iter().map(convert).collect()
}

/// An event of the namespace as upstream's message.
pub(crate) fn event(
    happened: &Happened,
    origin: Origin,
    signatures: &[i32],
    is_from_other_cluster: bool,
) -> pb::SubscribeMetadataResponse {
    let mut signatures = signatures.to_vec();
    if !signatures.contains(&origin.signature()) {
        signatures.push(origin.signature());
    }
    let named = |(path, entry): &(FullPath, dulse_types::Entry)| entry.with_name(path.name());
    let dir = |path: &FullPath| path.parent().map_or_else(String::new, |p| p.to_string());
    let old = happened.old.as_ref();
    let new = happened.new.as_ref();
    let directory = old.or(new).map_or_else(String::new, |(path, _)| dir(path));
    pb::SubscribeMetadataResponse {
        directory,
        event_notification: Some(pb::EventNotification {
            old_entry: old.map(named),
            new_entry: new.map(named),
            delete_chunks: happened.delete_chunks,
            new_parent_path: new.map_or_else(String::new, |(path, _)| dir(path)),
            is_from_other_cluster,
            signatures,
        }),
        ts_ns: happened.stamp.0,
        ..pb::SubscribeMetadataResponse::default()
    }
}

pub(crate) fn location(location: Location) -> pb::Location {
    pb::Location {
        url: location.url,
        public_url: location.public_url,
        grpc_port: location.grpc_port,
        data_center: location.data_center,
        data_in_remote: false,
    }
}
