// SPDX-License-Identifier: Apache-2.0
//! Entries, trees, events and errors without what must differ: clocks and signatures.

use std::collections::VecDeque;

use anyhow::{Context, Result};
use dulse_proto::filer as pb;
use dulse_types::{Entry, EntryFields, FileChunk};

use crate::Filer;

/// Times above it are the moment of the call: no case writes them.
const WRITTEN_TIME_MAX_S: i64 = 1_700_000_000;

/// Words by which clients tell errors apart, the more telling ones first.
const CLASSES: &[&str] = &[
    "entry name too long",
    "existing entry is a directory",
    "existing entry is a file",
    "parent path is a file",
    "entry already exists",
    "precondition failed",
    "fail to delete non-empty folder",
    "is not empty",
    "is not directory",
    "can not move directory to a subdirectory of itself",
    "bucket renaming is not allowed",
    "can not move across collection",
    "invalid bucket name",
    "extended attribute",
    "find dir",
    "no entry is found in filer store",
];

/// The kind of an error by the words that clients compare.
pub(crate) fn class(text: &str) -> String {
    if text.is_empty() {
        return "ok".to_owned();
    }
    let class = CLASSES.iter().find(|words| text.contains(**words));
    class.map_or_else(|| "another error".to_owned(), |words| format!("`{words}`"))
}

/// The same for a streamed rename, of which mounts compare other words.
pub(crate) fn class_of_stream(text: &str) -> String {
    let words = ["is not directory", "is not empty"];
    let known = words.iter().find(|words| text.contains(**words));
    known.map_or_else(|| class(text), |words| format!("`{words}`"))
}

fn time(seconds: i64) -> String {
    match seconds {
        0 => "0".to_owned(),
        s if s > WRITTEN_TIME_MAX_S => "now".to_owned(),
        s => s.to_string(),
    }
}

/// An entry of an answer, with its name.
pub(crate) fn entry(entry: &Entry) -> String {
    match entry.fields() {
        Ok(fields) => {
            let both = |c: &FileChunk| c.fid.is_some() && !c.file_id.is_empty();
            let is_whole = fields.chunks.iter().all(both);
            let lack = if is_whole {
                ""
            } else {
                " lacks a form of a file id"
            };
            format!("{}{lack}", shown(&fields))
        }
        Err(error) => format!("unreadable entry: {error}"),
    }
}

fn shown(fields: &EntryFields) -> String {
    let a = fields.attrs();
    let mut out = format!("{} {:o}", fields.name, a.file_mode);
    let mut add = |name: &str, value: String| out.push_str(&format!(" {name}={value}"));
    if fields.is_directory != (a.file_mode >> 31 == 1) {
        add("is_directory", fields.is_directory.to_string());
    }
    let is_dated = a.crtime != 0 && a.crtime <= WRITTEN_TIME_MAX_S;
    for (name, value) in [
        ("uid", u64::from(a.uid)),
        // Upstream keeps an older one beside longer content.
        ("size", fields.size()),
        ("ttl", u64::from(a.ttl_sec.unsigned_abs())),
        ("links", u64::from(fields.hard_link_counter.unsigned_abs())),
        ("inode", if is_dated { a.inode } else { 0 }),
        ("content", fields.content.len() as u64),
    ] {
        if value != 0 {
            add(name, value.to_string());
        }
    }
    for (name, value) in [("mtime", a.mtime), ("crtime", a.crtime)] {
        add(name, time(value));
    }
    // Upstream shows the year 1, 1970 or now of what it made itself. Of access times ours
    // keeps the greatest, so they are not compared.
    if a.ctime > 0 && a.ctime <= WRITTEN_TIME_MAX_S {
        add("ctime", time(a.ctime));
    }
    if !a.mime.is_empty() {
        add("mime", a.mime.clone());
    }
    if !a.symlink_target.is_empty() {
        add("symlink", a.symlink_target.clone());
    }
    for chunk in &fields.chunks {
        let id = chunk.id().map_or_else(String::new, |id| id.to_string());
        add("chunk", format!("{id}@{}+{}", chunk.offset, chunk.size));
    }
    let mut extended: Vec<_> = fields.extended.iter().collect();
    extended.sort();
    for (key, value) in extended {
        add(key, String::from_utf8_lossy(value).into_owned());
    }
    out
}

/// A note of a streamed rename.
pub(crate) fn note(note: &pb::StreamRenameEntryResponse) -> String {
    let n = note.event_notification.clone().unwrap_or_default();
    let name = |entry: &Option<Entry>| {
        let name = entry.as_ref().map(|entry| entry.name().into_owned());
        name.unwrap_or_else(|| "-".to_owned())
    };
    format!(
        "{}:{}>{}:{}",
        note.directory,
        name(&n.old_entry),
        n.new_parent_path,
        name(&n.new_entry)
    )
}

/// The case of an event and the event; `None` for what is none.
pub(crate) fn event(e: &pb::SubscribeMetadataResponse, own: i32) -> Option<(String, String)> {
    let n = e.event_notification.as_ref()?;
    let first = n.old_entry.as_ref().or(n.new_entry.as_ref())?;
    let path = format!("{}/{}", e.directory.trim_end_matches('/'), first.name());
    let case = path.split('/').nth(1).unwrap_or_default().to_owned();
    let side = |side: &Option<Entry>| match side.as_ref().map(Entry::fields) {
        None => "-".to_owned(),
        Some(Ok(fields)) => shown(&fields),
        Some(Err(error)) => format!("unreadable entry: {error}"),
    };
    let signatures = n.signatures.iter().map(|signature| match *signature {
        s if s == own => "own".to_owned(),
        s => s.to_string(),
    });
    let signatures: Vec<String> = signatures.collect();
    let shown = format!(
        "{} [{}] -> {} [{}] delete_chunks={} other_cluster={} signatures={}",
        e.directory,
        side(&n.old_entry),
        n.new_parent_path,
        side(&n.new_entry),
        // Without an old entry there are no old chunks.
        n.delete_chunks && n.old_entry.is_some(),
        n.is_from_other_cluster,
        signatures.join(",")
    );
    Some((case, shown))
}

/// Everything below a directory, one line each, as a listing of each directory shows it.
pub(crate) async fn tree(filer: &mut Filer, top: &str) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let mut open = VecDeque::from([top.to_owned()]);
    while let Some(directory) = open.pop_front() {
        let request = pb::ListEntriesRequest {
            directory: directory.clone(),
            limit: 10_000,
            ..pb::ListEntriesRequest::default()
        };
        let mut rows = filer.list_entries(request).await?.into_inner();
        while let Some(row) = rows.message().await? {
            let found = row.entry.context("a row has an entry")?;
            out.push(format!("{directory}: {}", entry(&found)));
            if found.is_dir() {
                open.push_back(format!("{directory}/{}", found.name()));
            }
        }
    }
    Ok(out)
}
