// SPDX-License-Identifier: Apache-2.0
//! Between messages and values.

use dulse_cluster::Statement;
use dulse_proto::replication::{
    Heartbeat, Hello, Known, Position, Range, Resume, Row, SnapshotPart,
};
use dulse_replica::{ExportPart, ImportCursor, JOINS_MAX};
use dulse_types::{Origin, ServerAddress, Stamp, Vector, Version};
use tonic::{Code, Status};

use crate::core::Greeting;
use crate::{Inner, PROTOCOL_MIN};

/// Format of changes this version writes and reads.
pub const FORMAT: u32 = dulse_merge::codec::CHANGE_VERSION as u32;

/// A vector as messages carry it.
#[must_use]
pub fn positions(vector: &Vector) -> Vec<Position> {
    let rows = vector.iter().map(|(origin, stamp)| Position {
        origin: origin.0,
        stamp: stamp.0,
    });
    rows.collect()
}

/// The vector of a message.
#[must_use]
pub fn vector(positions: &[Position]) -> Vector {
    positions
        .iter()
        .map(|p| (Origin(p.origin), Stamp(p.stamp)))
        .collect()
}

/// The addresses of a message that parse; the others are no use.
#[must_use]
pub fn addresses(known: &[Known]) -> Vec<(Origin, ServerAddress)> {
    let parsed = known
        .iter()
        .filter_map(|k| Some((Origin(k.origin), k.address.parse().ok()?)));
    parsed.collect()
}

/// Addresses as messages carry them.
#[must_use]
pub fn known(of: &[(Origin, ServerAddress)]) -> Vec<Known> {
    let rows = of.iter().map(|(origin, address)| Known {
        origin: origin.0,
        address: address.to_string(),
    });
    rows.collect()
}

/// Where an interrupted transfer stands, as a joiner says it.
#[must_use]
pub fn cursor(resume: &Resume) -> ImportCursor {
    ImportCursor {
        vector: vector(&resume.vector),
        newest: vector(&resume.newest),
        after: resume.after.clone(),
    }
}

/// The same as a message carries it.
#[must_use]
pub fn resume(cursor: &ImportCursor) -> Resume {
    Resume {
        vector: positions(&cursor.vector),
        newest: positions(&cursor.newest),
        after: cursor.after.clone(),
    }
}

/// A part of a transfer as a message carries it.
#[must_use]
pub fn part(part: ExportPart) -> SnapshotPart {
    let row = |(key, value)| Row { key, value };
    let range = |(from, to)| Range { from, to };
    SnapshotPart {
        rows: part.rows.into_iter().map(row).collect(),
        replaced: part.replaced.into_iter().map(range).collect(),
        after: part.after,
        ..SnapshotPart::default()
    }
}

/// The part of a transfer that a message carries.
#[must_use]
pub fn import_part(part: &mut SnapshotPart) -> ExportPart {
    let rows = std::mem::take(&mut part.rows).into_iter();
    let replaced = std::mem::take(&mut part.replaced).into_iter();
    ExportPart {
        replaced: replaced.map(|range| (range.from, range.to)).collect(),
        rows: rows.map(|row| (row.key, row.value)).collect(),
        after: std::mem::take(&mut part.after),
    }
}

/// What a heartbeat states.
#[must_use]
pub fn statement(beat: &Heartbeat) -> Statement {
    Statement {
        position: Stamp(beat.position),
        durable: vector(&beat.durable),
        applied: vector(&beat.applied),
        judged: vector(&beat.judged),
        promise: Stamp(beat.promise),
        is_stopping: beat.is_stopping,
        is_unsure: beat.is_unsure,
        leaving: beat.leaving.iter().map(|origin| Origin(*origin)).collect(),
    }
}

fn position(version: &Version) -> Position {
    Position {
        origin: version.origin.0,
        stamp: version.stamp.0,
    }
}

fn version(position: &Position) -> Version {
    Version {
        stamp: Stamp(position.stamp),
        origin: Origin(position.origin),
    }
}

/// What a handshake's answer says, before it is compared with what is here.
#[must_use]
pub fn greeting(hello: &Hello) -> Greeting {
    Greeting {
        origin: Origin(hello.origin),
        instance: hello.instance,
        is_fresh: hello.is_fresh,
        vector: vector(&hello.vector),
        gone: hello
            .gone
            .iter()
            .map(|gone| (Origin(gone.origin), Stamp(gone.stamp)))
            .collect(),
        members: hello.members.iter().map(|member| Origin(*member)).collect(),
        is_ready: hello.is_ready,
        started_ns: hello.started_ns,
        forked: None,
        is_cut_behind: false,
        forgotten: vector(&hello.forgotten),
        lacks_forgotten: false,
        own: Stamp::ZERO,
        joins: Vec::new(),
        unheard: hello.joins.iter().take(JOINS_MAX).map(version).collect(),
        is_founder_told: false,
        promised: Stamp(hello.promised),
    }
}

/// Marks the status of a pull of changes that are no longer kept. ⚠ The code alone does not say so:
/// a message that is too long has it, too.
const LOG_CUT: &str = "dulse-log-cut";

/// A pull that asks for what is no longer in the log.
pub(crate) fn log_cut(why: String) -> Status {
    let mut status = Status::out_of_range(why);
    let mark = tonic::metadata::MetadataValue::from_static("1");
    status.metadata_mut().insert(LOG_CUT, mark);
    status
}

/// Whether a pull ended since what it asked for is no longer in the other's log.
pub(crate) fn is_log_cut(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.metadata().contains_key(LOG_CUT)
}

pub(crate) fn all_known(inner: &Inner) -> Vec<Known> {
    let mut all = vec![(inner.origin(), inner.options.address.clone())];
    all.extend(inner.core.lock().known());
    known(&all)
}

pub(crate) fn hello(inner: &Inner) -> Hello {
    let vector = inner.store.shared().vector();
    let membership = inner.membership();
    let gone = membership.gone.iter().map(|gone| Position {
        origin: gone.origin.0,
        stamp: vector.get(gone.origin).0,
    });
    let gone = gone.collect();
    let members = membership.members.iter().map(|(origin, _)| origin.0);
    let members = members.collect();
    // A store that cannot be read says so elsewhere; without them the peer believes it less.
    let joins = inner.store.shared().joins().unwrap_or_default();
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: inner.options.protocol,
        features: 0,
        group: inner.options.group.clone(),
        store_kind: "embedded".to_owned(),
        origin: inner.origin().0,
        format: FORMAT,
        address: inner.options.address.to_string(),
        is_fresh: inner.store.shared().is_fresh(),
        is_ready: inner.ready.borrow().is_none(),
        vector: positions(&vector),
        known: all_known(inner),
        instance: inner.instance,
        now_ns: inner.store.shared().wall_ns(),
        started_ns: inner.core.lock().started_ns(),
        gone,
        members,
        joins: joins.iter().map(position).collect(),
        promised: 0,
        forgotten: positions(&inner.store.shared().forgotten()),
    }
}

/// Why two filers cannot talk; `None` when they can.
pub(crate) fn mismatch(inner: &Inner, other: &Hello) -> Option<String> {
    why_not(&inner.options.group, inner.options.protocol, other)
}

/// Why a filer of the group `ours`, which speaks protocols up to `latest`, cannot talk with
/// another; `None` when it can.
fn why_not(ours: &str, latest: u32, other: &Hello) -> Option<String> {
    if other.group != ours {
        return Some(format!(
            "filer group `{}` differs from ours, `{ours}`",
            other.group
        ));
    }
    if other.protocol_min > latest || other.protocol_max < PROTOCOL_MIN {
        return Some(format!(
            "its protocols {}..={} are none of ours, {PROTOCOL_MIN}..={latest}: upgrade the older \
             filer",
            other.protocol_min, other.protocol_max
        ));
    }
    if other.store_kind != "embedded" {
        let kind = &other.store_kind;
        return Some(format!("store kind `{kind}` cannot replicate with ours"));
    }
    if other.format > FORMAT {
        return Some(format!(
            "it writes changes of format {}, this filer reads up to {FORMAT}: upgrade this one",
            other.format
        ));
    }
    if other.origin == 0 {
        return Some("it says no origin".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROTOCOL;

    fn theirs() -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL,
            group: "ours".to_owned(),
            store_kind: "embedded".to_owned(),
            origin: 7,
            format: FORMAT,
            ..Hello::default()
        }
    }

    #[test]
    fn filers_that_cannot_talk_are_told_why() {
        assert_eq!(why_not("ours", PROTOCOL, &theirs()), None);
        let newer_with_ours = Hello {
            protocol_max: PROTOCOL + 3,
            ..theirs()
        };
        assert_eq!(
            why_not("ours", PROTOCOL, &newer_with_ours),
            None,
            "ranges that meet"
        );
        let older = Hello {
            protocol_max: PROTOCOL_MIN,
            ..theirs()
        };
        assert_eq!(
            why_not("ours", PROTOCOL, &older),
            None,
            "one version behind"
        );
        assert_eq!(why_not("ours", PROTOCOL_MIN, &theirs()), None, "one ahead");
        assert!(
            why_not("other", PROTOCOL, &theirs())
                .unwrap()
                .contains("filer group")
        );
        type Change = fn(&mut Hello);
        let differing: [(Change, &str); 5] = [
            (|h| h.protocol_min = PROTOCOL + 1, "protocol"),
            (|h| h.protocol_max = PROTOCOL_MIN - 1, "protocol"),
            (
                |h| h.store_kind = "shared".to_owned(),
                "store kind `shared`",
            ),
            (|h| h.format = FORMAT + 1, "changes of format"),
            (|h| h.origin = 0, "no origin"),
        ];
        for (change, says) in differing {
            let mut other = theirs();
            change(&mut other);
            let why = why_not("ours", PROTOCOL, &other).unwrap_or_default();
            assert!(why.contains(says), "{says}: `{why}`");
        }
    }
}
