// SPDX-License-Identifier: Apache-2.0
//! Hard links as upstream's stores have them: each name has a row, and the content of all is
//! the value of one key, the link's id, with a count of names.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, StepResult, Token};
use dulse_types::{Entry, FullPath};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::backend::Backend;
use crate::plan::{Planner, failed, token};
use crate::value;

/// Last byte of a link id, as upstream's clients make them.
const LINK_ID_MARK: u8 = 1;

impl<B: Backend> Planner<'_, B> {
    /// The entry of a row: of a hard link, the shared one.
    pub(super) async fn resolve(&mut self, row: Bytes) -> Result<Entry, Error> {
        let entry = value::decode(row)?;
        let id = value::fields(&entry)?.hard_link_id;
        if id.is_empty() {
            return Ok(entry);
        }
        match self.key(&id).await? {
            Some(shared) => value::decode(shared),
            None => Ok(entry),
        }
    }

    pub(super) async fn token(&mut self, row: Bytes) -> Result<Token, Error> {
        let id = value::fields(&value::decode(row.clone())?)?.hard_link_id;
        let shared = if id.is_empty() {
            None
        } else {
            self.key(&id).await?
        };
        Ok(token(&row, shared.as_deref()))
    }

    /// Writes what the names of a link share.
    pub(super) async fn share(&mut self, entry: &Entry, value: &Bytes) -> Result<(), Error> {
        let id = value::fields(entry)?.hard_link_id;
        if id.is_empty() {
            return Ok(());
        }
        self.put_key(&id, Some(value.clone())).await
    }

    /// A name of a link goes, or becomes another file: one name less.
    pub(super) async fn unlink(&mut self, old: &Entry, new: Option<&Entry>) -> Result<(), Error> {
        let id = value::fields(old)?.hard_link_id;
        let next = match new {
            None => Bytes::new(),
            Some(new) => value::fields(new)?.hard_link_id,
        };
        if id.is_empty() || id == next {
            return Ok(());
        }
        let Some(shared) = self.key(&id).await? else {
            return Ok(());
        };
        let entry = value::decode(shared)?;
        let mut fields = value::fields(&entry)?;
        fields.hard_link_counter -= 1;
        if fields.hard_link_counter <= 0 {
            return self.put_key(&id, None).await;
        }
        let now_s = self.now_s;
        let attributes = fields.attrs_mut();
        (attributes.ctime, attributes.ctime_ns) = (now_s, 0);
        let left = value::encode(&fields.to_entry(&entry.unknown()));
        self.put_key(&id, Some(left)).await
    }

    /// A further name of the file at `from`.
    pub(super) async fn link(
        &mut self,
        from: &FullPath,
        to: &FullPath,
    ) -> Result<StepResult, Error> {
        let there = self.there(from).await?;
        if there.is_dir() {
            let text = "a directory has one name";
            return Err(failed(ErrorKind::Invalid).with("because", text));
        }
        if self.row(to).await?.is_some() {
            return Err(failed(ErrorKind::Conflict).with("path", to));
        }
        let mut fields = value::fields(&there)?;
        if fields.hard_link_id.is_empty() {
            fields.hard_link_id = new_id(from);
            fields.hard_link_counter = 1;
        }
        fields.hard_link_counter += 1;
        let linked = fields.to_entry(&there.unknown());
        self.put(from, &linked).await?;
        self.put(to, &linked).await?;
        self.event(None, Some((to, &linked)), false)
    }
}

/// An id that no other link has: of the path, the time and a number of this process.
fn new_id(path: &FullPath) -> Bytes {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since.map_or(0, |since| since.as_nanos() as u64);
    let seed = now.rotate_left(17)
        ^ NUMBER.fetch_add(1, Ordering::Relaxed)
        ^ u64::from(std::process::id()) << 40;
    let mut id = xxh3_128_with_seed(path.as_str().as_bytes(), seed)
        .to_be_bytes()
        .to_vec();
    id.push(LINK_ID_MARK);
    id.into()
}
