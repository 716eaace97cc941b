// SPDX-License-Identifier: Apache-2.0
//! Renames, and the notes by which a mount moves its cache along.

use std::sync::Arc;
use std::time::Duration;

use dulse_merge::{Change as LogChange, Step, events};
use dulse_namespace::{Caller, Change, Opened};
use dulse_proto::filer as pb;
use dulse_replica::ReplicaStore;
use dulse_shared::Announcement;
use dulse_telemetry::request;
use dulse_types::{Entry, FullPath, Identity, Origin, Stamp};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::{Response, Status};

use super::{Answers, FilerService, convert};
use crate::errors;
use crate::state::Kept;

/// What [`part_of`] says of the last part.
const IS_LAST: bool = true;

/// A rename that goes on though nobody waits for it.
type Renaming = JoinHandle<Result<Change, dulse_namespace::Error>>;

/// Where the notes of a rename in parts stand.
enum Telling {
    /// Behind this change.
    Parts {
        after: Stamp,
        notes: Notes,
        renaming: Renaming,
    },
    /// All parts are told; how it ended is not.
    End(Renaming),
}

/// What came of a rename.
async fn over(renaming: Renaming) -> Result<Change, Status> {
    let ended = renaming
        .await
        .map_err(|e| Status::internal(e.to_string()))?;
    ended.map_err(|e| errors::status(&e))
}

/// Pause before looking again for a change that is not on disk yet.
const DURABLE_SOON: Duration = Duration::from_millis(10);

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
    /// it that the old name is gone. A rename in parts is told part by part while it goes on,
    /// as it comes to the log; how it ended is the status behind the last note. It goes on
    /// though its caller does not.
    pub(crate) async fn stream_rename(
        &self,
        r: pb::StreamRenameEntryRequest,
    ) -> Result<Response<Answers<pb::StreamRenameEntryResponse>>, Status> {
        let from = convert::path(&r.old_directory, &r.old_name)?;
        let to = convert::path(&r.new_directory, &r.new_name)?;
        let caller = Caller {
            signatures: r.signatures,
            is_from_other_cluster: false,
        };
        let (tell, opened) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let tell: Opened = Arc::new(move |intent| {
            if let Some(tell) = tell.lock().take() {
                // Nobody may listen any more.
                let _ = tell.send(intent);
            }
        });
        let namespace = self.state.namespace.clone();
        let renaming = tokio::spawn(request::carried(async move {
            namespace
                .rename_telling(&from, &to, caller, Some(tell))
                .await
        }));
        // Without an intent it is over when this fails: nobody is left who could tell.
        if let Ok(intent) = opened.await {
            let store = Arc::clone(&self.state.embedded()?.store);
            let notes = notes_of_parts(store, intent, renaming);
            return Ok(self.with_token(notes, Some((intent.origin, intent.stamp))));
        }
        let change = over(renaming).await?;
        let mut notes = Notes::default();
        for moved in self.moved(&change)? {
            notes.moved(moved);
        }
        let notes = notes.end().into_iter().map(Ok);
        Ok(self.with_token(stream::iter(notes).boxed(), change.position))
    }

    /// What the change with a stamp moved, if it is on disk.
    fn logged(
        &self,
        origin: Origin,
        stamp: Stamp,
    ) -> Result<Option<Vec<Moved>>, dulse_store::Error> {
        let before = Stamp(stamp.0 - 1);
        let announced = self.state.all_shared().find(|on| on.origin() == origin);
        match (announced, &self.state.kept) {
            (None, Kept::Embedded(own)) => {
                let logged = part_behind(&own.store, before)?;
                let logged = logged.filter(|logged| logged.stamp == stamp);
                Ok(logged.map(|logged| moved_by(&logged).collect()))
            }
            (Some(on), _) | (None, Kept::Shared(on)) => {
                let logged = on.store.announcements(before, 1)?;
                let logged = logged.first().filter(|logged| logged.stamp_of(0) == stamp);
                Ok(logged.map(announced_moves))
            }
        }
    }

    /// Everything that a rename moved, from its record in the log; where that is not on disk
    /// yet, the entry itself.
    fn moved(&self, change: &Change) -> Result<Vec<Moved>, Status> {
        let Some((origin, stamp)) = change.position else {
            return Ok(Vec::new());
        };
        let logged = self
            .logged(origin, stamp)
            .map_err(|e| errors::status(&e.into()))?;
        if let Some(moved) = logged {
            return Ok(moved);
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

/// The notes of a rename that takes several changes. One part is in memory at a time.
fn notes_of_parts(
    store: Arc<ReplicaStore>,
    intent: Identity,
    renaming: Renaming,
) -> Answers<pb::StreamRenameEntryResponse> {
    let begin = Telling::Parts {
        after: intent.stamp,
        notes: Notes::default(),
        renaming,
    };
    let parts = stream::try_unfold(begin, move |telling| {
        let store = Arc::clone(&store);
        async move {
            let (after, mut notes, renaming) = match telling {
                Telling::Parts {
                    after,
                    notes,
                    renaming,
                } => (after, notes, renaming),
                Telling::End(renaming) => {
                    over(renaming).await?;
                    return Ok(None);
                }
            };
            // Order: looked at before the log, so that what it wrote last is seen.
            let is_over = renaming.is_finished();
            let read = tokio::task::spawn_blocking(move || part_behind(&store, after));
            let read = read.await.map_err(|e| Status::internal(e.to_string()))?;
            let Some(change) = read.map_err(|e| errors::status(&e.into()))? else {
                if is_over {
                    return Ok(Some((Vec::new(), Telling::End(renaming))));
                }
                // Not on disk yet, so not told: it is soon, whatever else happens.
                tokio::time::sleep(DURABLE_SOON).await;
                let again = Telling::Parts {
                    after,
                    notes,
                    renaming,
                };
                return Ok(Some((Vec::new(), again)));
            };
            let part = part_of(&change, intent);
            if part.is_some() {
                moved_by(&change).for_each(|moved| notes.moved(moved));
            }
            if part == Some(IS_LAST) {
                return Ok(Some((notes.end(), Telling::End(renaming))));
            }
            let told = notes.take();
            let next = Telling::Parts {
                after: change.stamp,
                notes,
                renaming,
            };
            Ok::<_, Status>(Some((told, next)))
        }
    });
    let notes = parts.map_ok(|notes| stream::iter(notes.into_iter().map(Ok)));
    notes.try_flatten().boxed()
}

/// This filer's next change behind a stamp that is on disk.
fn part_behind(
    store: &ReplicaStore,
    after: Stamp,
) -> Result<Option<LogChange>, dulse_store::Error> {
    let shared = store.shared();
    let records = shared.changes_after(shared.origin(), after, 1)?;
    let change = records.first().map(|r| LogChange::decode(&r.payload));
    change.transpose().map_err(|e| {
        dulse_store::Error::new(
            dulse_store::Operation::List,
            dulse_store::ErrorKind::Corrupt,
        )
        .source(e)
    })
}

/// Whether a change is a part of a tree change, and if so, whether it is the last.
fn part_of(change: &LogChange, of: Identity) -> Option<bool> {
    change.steps.iter().find_map(|step| match step {
        Step::TreePart {
            intent, is_last, ..
        } if *intent == of => Some(*is_last),
        _ => None,
    })
}

/// What a change moved, parents first.
fn moved_by(change: &LogChange) -> impl Iterator<Item = Moved> {
    events(change).into_iter().filter_map(|event| {
        let parse =
            |path: Option<bytes::Bytes>| FullPath::parse(std::str::from_utf8(&path?).ok()?).ok();
        let (from, to) = (parse(event.old_path)?, parse(event.new_path)?);
        (from != to).then_some(Moved {
            from,
            to,
            entry: event.new_entry?,
            stamp: event.stamp,
        })
    })
}

/// What an announcement moved, parents first.
fn announced_moves(of: &Announcement) -> Vec<Moved> {
    let events = of.announced.events.iter().enumerate();
    let moved = events.filter_map(|(n, event)| {
        let ((from, _), (to, entry)) = (event.old.clone()?, event.new.clone()?);
        (from != to).then_some(Moved {
            from,
            to,
            entry,
            stamp: of.stamp_of(n),
        })
    });
    moved.collect()
}

/// Two notes per entry, those of what is below it between them. What moved comes parents
/// first, what is in a directory right behind it.
#[derive(Default)]
struct Notes {
    notes: Vec<pb::StreamRenameEntryResponse>,
    /// What may have more below it.
    open: Vec<(FullPath, Stamp)>,
}

impl Notes {
    fn moved(&mut self, one: Moved) {
        while let Some((dir, _)) = self.open.last() {
            if one.from.is_below(dir) {
                break;
            }
            let closed = self.open.pop();
            self.notes
                .extend(closed.map(|(path, stamp)| gone(&path, stamp)));
        }
        self.notes.push(pb::StreamRenameEntryResponse {
            directory: parent(&one.from),
            event_notification: Some(pb::EventNotification {
                old_entry: Some(Entry::default().with_name(one.from.name())),
                new_entry: Some(one.entry.with_name(one.to.name())),
                new_parent_path: parent(&one.to),
                ..pb::EventNotification::default()
            }),
            ts_ns: one.stamp.0,
        });
        self.open.push((one.from, one.stamp));
    }

    /// What can be told so far.
    fn take(&mut self) -> Vec<pb::StreamRenameEntryResponse> {
        std::mem::take(&mut self.notes)
    }

    /// Nothing more moved.
    fn end(mut self) -> Vec<pb::StreamRenameEntryResponse> {
        let open = self.open.iter().rev();
        let closed = open.map(|(path, stamp)| gone(path, *stamp));
        self.notes.extend(closed);
        self.notes
    }
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
            moved("/a/b/c", "/z/b/c"),
            moved("/a/b.txt", "/z/b.txt"),
        ];
        let mut notes = Notes::default();
        let mut told = Vec::new();
        for moved in all {
            notes.moved(moved);
            // In whatever parts they come.
            told.extend(notes.take());
        }
        told.extend(notes.end());
        let shown: Vec<String> = told
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
