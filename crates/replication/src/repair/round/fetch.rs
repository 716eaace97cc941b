// SPDX-License-Identifier: Apache-2.0
//! Fetching rows: of items that the peer has, and what anybody knows of ambiguous ones.

use bytes::Bytes;
use dulse_merge::keys::{Space, join_path};
use dulse_proto::repair::{KnownRequest, RowsReply, RowsRequest, Wanted};
use dulse_replica::{ImportRow, identity_of, name_of};
use dulse_types::Identity;

use super::super::serve::WANTED_MAX;
use super::merge::Places;
use super::{Difference, Directory, Round, space_of};

/// What is asked about an item of a directory, and the name that it is about.
struct Asked<'a> {
    dir: &'a Directory,
    wanted: Wanted,
    name: Option<Identity>,
}

/// A row that was told about an item of a directory, and the name that it is about.
pub(super) struct Told<'a> {
    pub(super) dir: &'a Directory,
    pub(super) row: ImportRow,
    pub(super) name: Option<Identity>,
}

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
            let rows = self.ask_rows(request)?;
            let rows = self.count(rows, ahead.len())?;
            found.extend(rows);
        }
        Ok(found)
    }

    /// What the peer and all other members know of items that one side lacks.
    pub(super) fn ask_all<'a>(
        &mut self,
        ambiguous: &[(&'a Directory, &Difference)],
        places: &Places,
    ) -> Result<Vec<Told<'a>>, String> {
        let mut told = Vec::new();
        for some in ambiguous.chunks(WANTED_MAX) {
            let asked: Vec<Asked<'a>> = some
                .iter()
                .flat_map(|(dir, difference)| wanted(dir, &difference.key, places))
                .collect();
            for at in 0..=self.others.len() {
                let mut n_answered = 0;
                while n_answered < asked.len() {
                    let ahead = asked[n_answered..].iter().take(WANTED_MAX);
                    let request = KnownRequest {
                        group: String::new(),
                        wanted: ahead.map(|asked| asked.wanted.clone()).collect(),
                    };
                    let other = at.checked_sub(1);
                    let reply = match self.ask_known(other, request) {
                        Ok(reply) => reply,
                        Err(error) if other.is_none() => return Err(error),
                        Err(_) => {
                            self.report.n_silent += 1;
                            break;
                        }
                    };
                    let found = self.count(reply, asked.len() - n_answered)?;
                    for rows in found {
                        let Asked { dir, name, .. } = asked[n_answered];
                        let rows = rows.into_iter();
                        told.extend(rows.map(|row| Told { dir, row, name }));
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
        self.report.n_rows += found.iter().flatten().count() as u64;
        Ok(found)
    }
}

/// What is asked about one ambiguous item.
fn wanted<'a>(dir: &'a Directory, key: &Bytes, places: &Places) -> Vec<Asked<'a>> {
    let by_key = |space: Space| Asked {
        dir,
        wanted: Wanted {
            key: space.key(key).into(),
            ..Wanted::default()
        },
        name: None,
    };
    match dir.space() {
        Some(Space::Kv) => vec![by_key(Space::Kv), by_key(Space::KvGraves)],
        Some(space) => vec![by_key(space)],
        None => match identity_of(key) {
            Some(name) => vec![Asked {
                dir,
                wanted: Wanted {
                    identity: name.to_bytes().to_vec().into(),
                    paths: places.get(&name).cloned().unwrap_or_default(),
                    key: Bytes::new(),
                },
                name: Some(name),
            }],
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
