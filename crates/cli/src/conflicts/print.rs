// SPDX-License-Identifier: Apache-2.0
//! What `dulse conflicts` prints: field names of the JSON are an interface.

use anyhow::{Context, Result};
use bytes::Bytes;
use dulse_proto::conflicts as pb;
use dulse_types::wire::Reader;
use dulse_types::{Entry, FileChunk, Identity};
use serde::Serialize;

use crate::status::Format;
use crate::status::report::name as origin;

/// One conflict.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Conflict {
    pub(super) id: String,
    /// `data` or `shadow`.
    kind: &'static str,
    pending: bool,
    pub(super) path: String,
    size_bytes: u64,
    chunks: u32,
    lost: Write,
    won: Write,
    /// Absent while it is pending.
    recorded: Option<Write>,
}

/// Who wrote something, and when.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Write {
    by: String,
    at: String,
}

/// An entry, as far as it tells contents apart.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Shown {
    size_bytes: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    md5: String,
    /// File ids.
    chunks: Vec<String>,
    /// Bytes kept in the entry itself.
    inline_bytes: usize,
}

#[derive(Serialize)]
struct Both {
    #[serde(flatten)]
    conflict: Conflict,
    loser: Option<Shown>,
    /// What the path shows now.
    current: Option<Shown>,
}

#[derive(Serialize)]
struct Listed<'a> {
    conflicts: &'a [Conflict],
    /// Whether there are more than were asked for.
    more: bool,
}

#[derive(Serialize)]
struct Restored<'a> {
    path: &'a str,
    in_place: bool,
}

impl Conflict {
    pub(super) fn of(conflict: pb::Conflict) -> Self {
        let write = |by, ns| Write {
            by: origin(by),
            at: time(ns),
        };
        Self {
            id: name(&conflict.id),
            kind: match conflict.kind() {
                pb::Kind::Data => "data",
                pb::Kind::Shadow => "shadow",
                pb::Kind::Unspecified => "unknown",
            },
            pending: conflict.pending,
            size_bytes: conflict.size_bytes,
            chunks: conflict.chunks,
            lost: write(conflict.lost_origin, conflict.lost_ns),
            won: write(conflict.won_origin, conflict.won_ns),
            recorded: (!conflict.pending)
                .then(|| write(conflict.recorded_by, conflict.recorded_ns)),
            path: conflict.path,
        }
    }

    fn text(&self) -> String {
        let pending = if self.pending { "  pending" } else { "" };
        format!(
            "{}  {}  {} bytes, written {} by {}{pending}\n    {}",
            self.path, self.kind, self.size_bytes, self.lost.at, self.lost.by, self.id
        )
    }
}

impl Shown {
    fn of(entry: &Entry) -> Option<Self> {
        let fields = entry.fields().ok()?;
        let attributes = fields.attrs();
        Some(Self {
            size_bytes: fields.size(),
            mode: attributes.file_mode,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            md5: attributes.md5.iter().map(|b| format!("{b:02x}")).collect(),
            chunks: fields
                .chunks
                .iter()
                .filter_map(FileChunk::id)
                .map(|id| id.to_string())
                .collect(),
            inline_bytes: fields.content.len(),
        })
    }

    fn text(shown: Option<&Self>) -> String {
        let Some(shown) = shown else {
            return "nothing".to_owned();
        };
        format!(
            "{} bytes, mode {:o}, owner {}:{}, modified {}, chunks {}",
            shown.size_bytes,
            shown.mode & 0o7777,
            shown.uid,
            shown.gid,
            time(shown.mtime.saturating_mul(1_000_000_000)),
            match shown.chunks.as_slice() {
                [] => "none".to_owned(),
                chunks => chunks.join(" "),
            }
        )
    }
}

pub(super) fn list(conflicts: &[Conflict], more: bool, format: Format) -> Result<()> {
    if format == Format::Json {
        return json(&Listed { conflicts, more });
    }
    for conflict in conflicts {
        println!("{}", conflict.text());
    }
    let pending = conflicts.iter().filter(|c| c.pending).count();
    let and_more = if more { ", and more" } else { "" };
    println!(
        "{} conflicts, {pending} of them pending{and_more}",
        conflicts.len()
    );
    Ok(())
}

pub(super) fn show(reply: pb::ShowReply, format: Format) -> Result<()> {
    let conflict = Conflict::of(reply.conflict.context("an answer without a conflict")?);
    let both = Both {
        conflict,
        loser: reply.loser.as_ref().and_then(Shown::of),
        current: reply.current.as_ref().and_then(Shown::of),
    };
    if format == Format::Json {
        return json(&both);
    }
    let conflict = &both.conflict;
    println!("{}", conflict.text());
    println!("    lost     {}", Shown::text(both.loser.as_ref()));
    println!(
        "    won      written {} by {}",
        conflict.won.at, conflict.won.by
    );
    println!("    current  {}", Shown::text(both.current.as_ref()));
    match &conflict.recorded {
        Some(recorded) => println!("    recorded {} by {}", recorded.at, recorded.by),
        None => println!("    pending: not every filer has both yet"),
    }
    Ok(())
}

pub(super) fn restored(reply: &pb::RestoreReply, format: Format) -> Result<()> {
    let (path, in_place) = (reply.path.as_str(), reply.in_place);
    if format == Format::Json {
        return json(&Restored { path, in_place });
    }
    match in_place {
        true => println!("{path} has the content that lost"),
        false => println!("restored a copy to {path}"),
    }
    Ok(())
}

pub(super) fn dismissed(id: &str, format: Format) {
    if format == Format::Text {
        println!("dismissed {id}");
    }
}

/// An id as text, empty for what is none.
pub(super) fn name(id: &Bytes) -> String {
    Identity::read(&mut Reader::new(id)).map_or_else(|_| String::new(), |id| id.to_string())
}

fn time(ns: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(ns.into());
    time.map_or_else(|_| ns.to_string(), |time| format!("{time:.3}"))
}

fn json(value: &impl Serialize) -> Result<()> {
    println!(
        "{}",
        serde_json::to_string_pretty(value).context("write JSON")?
    );
    Ok(())
}
