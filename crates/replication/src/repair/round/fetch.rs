// SPDX-License-Identifier: Apache-2.0
//! Fetching rows: of items that the peer has, and what anybody knows of ambiguous ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use dulse_merge::keys::{Space, join_path};
use dulse_proto::repair::{KnownRequest, RowsReply, RowsRequest, Wanted};
use dulse_replica::{ImportRow, identity_of, name_of};
use dulse_types::Identity;

use super::super::serve::WANTED_MAX;
use super::{Difference, Directory, Round, space_of};

/// Rows, each with the name that it is about.
type Told = Vec<(ImportRow, Option<Identity>)>;

impl Round<'_, '_> {
    /// The peer's rows of some items of a directory; none for those it lacks.
    pub(super) fn fetch_rows(
        &mut self,
        dir: &Bytes,
        keys: &[Bytes],
    ) -> Result<Vec<Vec<ImportRow>>, String> {
        let mut found = Vec::with_capacity(keys.len());
        while found.len() < keys.len() {
            let ahead = &keys[found.len()..];
            let request = RowsRequest {
                group: String::new(),
                directory: dir.clone(),
                keys: ahead[..ahead.len().min(WANTED_MAX)].to_vec(),
            };
            let rows = self.peer.rows(request)?;
            let rows = self.count(rows, ahead.len())?;
            found.extend(rows);
        }
        Ok(found)
    }

    /// What the peer and all other members know of items that one side lacks.
    pub(super) fn ask_all(
        &mut self,
        dir: &Directory,
        ambiguous: &[&Difference],
        places: &BTreeMap<Identity, Vec<Bytes>>,
    ) -> Result<Told, String> {
        let mut told = Vec::new();
        for some in ambiguous.chunks(WANTED_MAX) {
            let wanted: Vec<(Wanted, Option<Identity>)> = some
                .iter()
                .flat_map(|difference| wanted(dir, &difference.key, places))
                .collect();
            let request = |from: usize| KnownRequest {
                group: String::new(),
                wanted: wanted[from..]
                    .iter()
                    .take(WANTED_MAX)
                    .map(|(wanted, _)| wanted.clone())
                    .collect(),
            };
            for at in 0..=self.others.len() {
                let mut n_answered = 0;
                while n_answered < wanted.len() {
                    let request = request(n_answered);
                    let reply = match at.checked_sub(1) {
                        None => self.peer.known(request)?,
                        Some(other) => match self.others[other].known(request) {
                            Ok(reply) => reply,
                            Err(_) => {
                                self.report.n_silent += 1;
                                break;
                            }
                        },
                    };
                    let found = self.count(reply, wanted.len() - n_answered)?;
                    for rows in found {
                        let of = wanted[n_answered].1;
                        told.extend(rows.into_iter().map(|row| (row, of)));
                        n_answered += 1;
                    }
                }
            }
        }
        Ok(told)
    }

    fn count(&mut self, reply: RowsReply, n_asked: usize) -> Result<Vec<Vec<ImportRow>>, String> {
        if reply.found.is_empty() || reply.found.len() > n_asked {
            return Err("an answer does not fit its question".to_owned());
        }
        let found = reply.found.into_iter().map(|found| {
            let rows = found.rows.into_iter().map(|row| (row.key, row.value));
            rows.collect::<Vec<_>>()
        });
        let found: Vec<_> = found.collect();
        for (key, value) in found.iter().flatten() {
            self.report.n_rows += 1;
            self.report.n_bytes += (key.len() + value.len()) as u64;
        }
        Ok(found)
    }
}

/// What is asked about one ambiguous item.
fn wanted(
    dir: &Directory,
    key: &Bytes,
    places: &BTreeMap<Identity, Vec<Bytes>>,
) -> Vec<(Wanted, Option<Identity>)> {
    let by_key = |space: Space| {
        let key = space.key(key).into();
        let wanted = Wanted {
            key,
            ..Wanted::default()
        };
        (wanted, None)
    };
    match dir.space() {
        Some(Space::Kv) => vec![by_key(Space::Kv), by_key(Space::KvGraves)],
        Some(space) => vec![by_key(space)],
        None => match identity_of(key) {
            Some(name) => vec![(
                Wanted {
                    identity: name.to_bytes().to_vec().into(),
                    paths: places.get(&name).cloned().unwrap_or_default(),
                    key: Bytes::new(),
                },
                Some(name),
            )],
            None => Vec::new(),
        },
    }
}

/// An item in an operator's words.
pub(super) fn title(dir: &[u8], key: &[u8]) -> String {
    match space_of(dir) {
        Some(Space::Kv) => format!("key {}", String::from_utf8_lossy(key)),
        Some(Space::Conflicts) => "a conflict record".to_owned(),
        Some(_) => "the content of a hard-linked file".to_owned(),
        None => String::from_utf8_lossy(&join_path(dir, name_of(key))).into_owned(),
    }
}
