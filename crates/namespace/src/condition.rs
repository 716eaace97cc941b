// SPDX-License-Identifier: Apache-2.0
//! Conditions of a write, evaluated on the entry that is there.

use std::collections::BTreeMap;

use dulse_types::entry::etag;
use dulse_types::{EntryFields, FileChunk};

/// Extended key by which the S3 gateway stores an object's tag.
const S3_ETAG_KEY: &str = "Seaweed-X-Amz-ETag";

/// All clauses must hold; none is no condition.
pub type Condition = Vec<Clause>;

/// What a clause demands. Numbers and meaning are upstream's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClauseKind {
    /// Demands nothing.
    None,
    /// Nothing is there.
    NotExists,
    /// Something is there.
    Exists,
    /// There and with one of the ETags.
    EtagMatch,
    /// Not there or with none of the ETags.
    EtagNotMatch,
    /// Not written after the time.
    UnmodifiedSince,
    /// Written after the time.
    ModifiedSince,
    /// The extended key has another value.
    ExtendedNotEqual,
    /// The time in the extended key is over.
    ExtendedTimeElapsed,
    /// The chunks are exactly these.
    ChunksEqual,
    /// A kind this version does not know: never holds.
    Unknown,
}

/// One clause.
#[derive(Clone, PartialEq, Debug)]
pub struct Clause {
    /// What it demands.
    pub kind: ClauseKind,
    /// ETags to compare with.
    pub etags: Vec<String>,
    /// Whether weak tags, `W/"…"`, compare like strong ones; else they equal nothing.
    pub allow_weak: bool,
    /// Seconds since 1970.
    pub unix_time: i64,
    /// Extended key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Extended key that must have `gate_value`, else the clause holds.
    pub gate_key: String,
    /// See `gate_key`.
    pub gate_value: String,
    /// File ids.
    pub fids: Vec<String>,
}

impl Clause {
    /// Whether the clause holds for the entry that is there.
    #[must_use]
    pub fn holds(&self, entry: Option<&EntryFields>, now_s: i64) -> bool {
        let mtime = entry.map(|e| e.attrs().mtime);
        let is_listed = |e: &EntryFields| {
            let tag = stored_etag(e);
            self.etags.iter().any(|wanted| self.is_tag(wanted, &tag))
        };
        match self.kind {
            ClauseKind::None => true,
            ClauseKind::NotExists => entry.is_none(),
            ClauseKind::Exists => entry.is_some(),
            ClauseKind::EtagMatch => entry.is_some_and(is_listed),
            ClauseKind::EtagNotMatch => !entry.is_some_and(is_listed),
            ClauseKind::UnmodifiedSince => mtime.is_none_or(|m| m <= self.unix_time),
            ClauseKind::ModifiedSince => mtime.is_none_or(|m| m > self.unix_time),
            ClauseKind::ExtendedNotEqual => {
                extended(entry, &self.key) != Some(self.value.as_bytes())
            }
            ClauseKind::ExtendedTimeElapsed => self.time_elapsed(entry, now_s),
            ClauseKind::ChunksEqual => chunks_equal(entry, &self.fids),
            ClauseKind::Unknown => false,
        }
    }

    fn is_tag(&self, wanted: &str, tag: &str) -> bool {
        let (wanted, tag) = match (wanted.strip_prefix("W/"), tag.strip_prefix("W/")) {
            (None, None) => (wanted, tag),
            _ if !self.allow_weak => return false,
            (weak, weak_tag) => (weak.unwrap_or(wanted), weak_tag.unwrap_or(tag)),
        };
        wanted.trim_matches('"') == tag.trim_matches('"')
    }

    fn time_elapsed(&self, entry: Option<&EntryFields>, now_s: i64) -> bool {
        let is_gated = !self.gate_key.is_empty()
            && extended(entry, &self.gate_key) != Some(self.gate_value.as_bytes());
        if is_gated {
            return true;
        }
        let Some(value) = extended(entry, &self.key) else {
            return true;
        };
        let time = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        time.is_some_and(|time| time <= now_s)
    }
}

/// The tag that the S3 gateway stored, else the one that follows from the content.
fn stored_etag(entry: &EntryFields) -> String {
    let stored = entry.extended.get(S3_ETAG_KEY);
    match stored.filter(|tag| !tag.is_empty()) {
        Some(tag) => String::from_utf8_lossy(tag).into_owned(),
        None => etag(entry),
    }
}

fn extended<'a>(entry: Option<&'a EntryFields>, key: &str) -> Option<&'a [u8]> {
    entry?.extended.get(key).map(|value| &value[..])
}

fn chunks_equal(entry: Option<&EntryFields>, fids: &[String]) -> bool {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let chunks = entry.map(|e| e.chunks.as_slice()).unwrap_or_default();
    for id in chunks.iter().filter_map(FileChunk::id) {
        *counts.entry(id.to_string()).or_default() += 1;
    }
    for fid in fids {
        *counts.entry(fid.clone()).or_default() -= 1;
    }
    counts.values().all(|count| *count == 0)
}

/// Whether all clauses hold.
pub(crate) fn holds(condition: &[Clause], entry: Option<&EntryFields>, now_s: i64) -> bool {
    condition.iter().all(|clause| clause.holds(entry, now_s))
}
