// SPDX-License-Identifier: Apache-2.0
//! Renames, and the notes by which a mount moves its cache along.

use dulse_merge::{Change as LogChange, events};
use dulse_namespace::{Caller, Change};
use dulse_proto::filer as pb;
use dulse_types::{Entry, FullPath, Stamp};
use futures::StreamExt;
use tonic::{Response, Status};

use super::{Answers, FilerService, convert};
use crate::errors;

/// One moved entry.
struct Moved {
    from: FullPath,
    to: FullPath,
    entry: Entry,
    stamp: Stamp,
}

impl FilerService {
    pub(crate) async fn rename(
        &self,
        from: (String, String),
        to: (String, String),
        signatures: Vec<i32>,
    ) -> Result<Change, Status> {
        let from = convert::path(&from.0, &from.1)?;
        let to = convert::path(&to.0, &to.1)?;
        let caller = Caller {
            signatures,
            is_from_other_cluster: false,
        };
        let renamed = self.state.namespace.rename(&from, &to, caller).await;
        renamed.map_err(|e| errors::status(&e))
    }

    /// Notes for a mount's cache: of each entry what moved where, and behind what was below
    /// it that the old name is gone.
    pub(crate) async fn stream_rename(
        &self,
        r: pb::StreamRenameEntryRequest,
    ) -> Result<Response<Answers<pb::StreamRenameEntryResponse>>, Status> {
        let from = (r.old_directory, r.old_name);
        let to = (r.new_directory, r.new_name);
        let change = self.rename(from, to, r.signatures).await?;
        let moved = self.moved(&change)?;
        let notes = notes(moved).into_iter().map(Ok);
        Ok(self.with_token(futures::stream::iter(notes).boxed(), change.stamp))
    }

    /// Everything that a rename moved, from its record in the log; where that is not on disk
    /// yet, the entry itself.
    fn moved(&self, change: &Change) -> Result<Vec<Moved>, Status> {
        let Some(stamp) = change.stamp else {
            return Ok(Vec::new());
        };
        let shared = self.state.store.shared();
        let before = Stamp(stamp.0 - 1);
        let records = shared.changes_after(shared.origin(), before, 1);
        let records = records.map_err(|e| errors::status(&e.into()))?;
        let record = records.first().filter(|record| record.stamp == stamp);
        let logged = record.and_then(|record| LogChange::decode(&record.payload).ok());
        if let Some(logged) = logged {
            let moved = events(&logged).into_iter().filter_map(|event| {
                let parse = |path: Option<bytes::Bytes>| {
                    FullPath::parse(std::str::from_utf8(&path?).ok()?).ok()
                };
                let (from, to) = (parse(event.old_path)?, parse(event.new_path)?);
                (from != to).then_some(Moved {
                    from,
                    to,
                    entry: event.new_entry?,
                    stamp: event.stamp,
                })
            });
            return Ok(moved.collect());
        }
        let moved = change.events.iter().filter_map(|event| {
            let ((from, _), (to, entry)) = (event.old.clone()?, event.new.clone()?);
            (from != to).then_some(Moved {
                from,
                to,
                entry,
                stamp: event.stamp,
            })
        });
        Ok(moved.collect())
    }
}

/// Two notes per entry, those of what is below it between them.
fn notes(mut moved: Vec<Moved>) -> Vec<pb::StreamRenameEntryResponse> {
    // Parents first, children in order of names behind them.
    moved.sort_by(|a, b| {
        let key = |m: &Moved| m.from.as_str().replace('/', "\0");
        key(a).cmp(&key(b))
    });
    let mut notes = Vec::with_capacity(moved.len() * 2);
    let mut open: Vec<(FullPath, Stamp)> = Vec::new();
    for one in moved {
        while let Some((dir, _)) = open.last() {
            if one.from.is_below(dir) {
                break;
            }
            notes.extend(open.pop().map(|(path, stamp)| gone(&path, stamp)));
        }
        notes.push(pb::StreamRenameEntryResponse {
            directory: parent(&one.from),
            event_notification: Some(pb::EventNotification {
                old_entry: Some(Entry::default().with_name(one.from.name())),
                new_entry: Some(one.entry.with_name(one.to.name())),
                new_parent_path: parent(&one.to),
                ..pb::EventNotification::default()
            }),
            ts_ns: one.stamp.0,
        });
        open.push((one.from, one.stamp));
    }
    notes.extend(open.iter().rev().map(|(path, stamp)| gone(path, *stamp)));
    notes
}

fn gone(path: &FullPath, stamp: Stamp) -> pb::StreamRenameEntryResponse {
    pb::StreamRenameEntryResponse {
        directory: parent(path),
        event_notification: Some(pb::EventNotification {
            old_entry: Some(Entry::default().with_name(path.name())),
            ..pb::EventNotification::default()
        }),
        ts_ns: stamp.0,
    }
}

fn parent(path: &FullPath) -> String {
    path.parent().unwrap_or_else(FullPath::root).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_close_each_directory_behind_what_was_in_it() {
        let moved = |from: &str, to: &str| Moved {
            from: FullPath::parse(from).unwrap(),
            to: FullPath::parse(to).unwrap(),
            entry: Entry::default(),
            stamp: Stamp(1),
        };
        let all = vec![
            moved("/a", "/z"),
            moved("/a/b", "/z/b"),
            moved("/a/b.txt", "/z/b.txt"),
            moved("/a/b/c", "/z/b/c"),
        ];
        let shown: Vec<String> = notes(all)
            .into_iter()
            .map(|note| {
                let n = note.event_notification.unwrap();
                let sign = if n.new_entry.is_some() { '+' } else { '-' };
                format!("{sign}{}:{}", note.directory, n.old_entry.unwrap().name())
            })
            .collect();
        assert_eq!(
            shown,
            [
                "+/:a",
                "+/a:b",
                "+/a/b:c",
                "-/a/b:c",
                "-/a:b",
                "+/a:b.txt",
                "-/a:b.txt",
                "-/:a"
            ]
        );
    }
}
