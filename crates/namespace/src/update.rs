// SPDX-License-Identifier: Apache-2.0
//! Writing over entries that are there.

use std::collections::HashMap;

use bytes::Bytes;
use dulse_types::{Entry, EntryFields, FullPath};

use crate::condition::{Condition, holds};
use crate::create::overwrite;
use crate::entry::complete;
use crate::{Caller, Change, Error, ErrorKind, Namespace, texts};

/// How an entry is updated.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct UpdateOptions {
    /// Extended keys that must have these values; an absent key matches an empty one.
    pub expected_extended: HashMap<String, Bytes>,
    /// What must hold of the entry that is there.
    pub condition: Condition,
    /// Who asked.
    pub caller: Caller,
}

impl Namespace {
    /// Writes an entry over the one that is there. Equal ones are not written.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Precondition`, `IsDirectory`, `IsFile`, or the store's.
    pub async fn update(
        &self,
        path: &FullPath,
        entry: &Entry,
        options: UpdateOptions,
    ) -> Result<Change, Error> {
        if path.is_root() {
            return Ok(Change::default());
        }
        let unknown = entry.unknown();
        self.transact(path, &options.caller, || {
            let now = self.now();
            let Some(found) = self.find_opt(path)? else {
                let message = format!("not found {path}: {}", texts::NOT_FOUND);
                return Err(Error::new(ErrorKind::NotFound, message));
            };
            let there = found.entry.fields()?;
            check(path, &there, &options, now.s)?;
            let mut fields = entry.fields()?;
            complete(&mut fields, path, Some(&there), now);
            if fields == there && unknown == found.entry.unknown() {
                return Ok(None);
            }
            overwrite(path, &found, &there, fields, &unknown).map(Some)
        })
        .await
    }
}

fn check(
    path: &FullPath,
    there: &EntryFields,
    options: &UpdateOptions,
    now_s: i64,
) -> Result<(), Error> {
    for (key, value) in &options.expected_extended {
        let stored = there.extended.get(key).map(|v| &v[..]).unwrap_or_default();
        if stored != &value[..] {
            let message = format!("extended attribute \"{key}\" changed");
            return Err(Error::new(ErrorKind::Precondition, message));
        }
    }
    if !holds(&options.condition, Some(there), now_s) {
        let message = format!("{}: {path}", texts::PRECONDITION_FAILED);
        return Err(Error::new(ErrorKind::Precondition, message));
    }
    Ok(())
}
