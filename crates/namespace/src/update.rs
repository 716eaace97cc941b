// SPDX-License-Identifier: Apache-2.0
//! Writing over entries that are there, and appending.

use std::collections::HashMap;

use bytes::Bytes;
use dulse_store::{Expect, Step, Transaction};
use dulse_types::{Entry, EntryFields, FileChunk, FullPath, FuseAttributes, UnknownFields};

use crate::condition::{Condition, holds};
use crate::create::complete;
use crate::{Caller, Change, CreateOptions, Error, ErrorKind, Namespace, now, now_s};

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
        let unknown = entry.unknown();
        let fields = entry.fields()?;
        self.transact(&options.caller, || {
            let Some(found) = self.find_opt(path)? else {
                let message = format!("not found {path}: {}", crate::error::NOT_FOUND);
                return Err(Error::new(ErrorKind::NotFound, message));
            };
            let there = found.entry.fields()?;
            for (key, value) in &options.expected_extended {
                if there.extended.get(key).map(|v| &v[..]).unwrap_or_default() != &value[..] {
                    let message = format!("extended attribute \"{key}\" changed");
                    return Err(Error::new(ErrorKind::Precondition, message));
                }
            }
            if !holds(&options.condition, Some(&there), now_s()) {
                let message = format!("precondition failed: {path}");
                return Err(Error::new(ErrorKind::Precondition, message));
            }
            if there.is_dir() != fields.is_dir() {
                let was_dir = there.is_dir();
                return Err(if was_dir {
                    Error::is_directory()
                } else {
                    Error::is_file()
                });
            }
            let mut fields = fields.clone();
            complete(&mut fields, path, Some(&there));
            let entry = fields.to_entry(&unknown);
            if fields == there && unknown == found.entry.unknown() {
                return Ok(None);
            }
            Ok(Some(Transaction {
                expects: vec![Expect::Same(path.clone(), found.token)],
                steps: vec![Step::Update {
                    path: path.clone(),
                    entry,
                    delete_chunks: true,
                }],
                ..Transaction::default()
            }))
        })
        .await
    }

    /// Adds chunks behind the end of a file, making it when it is not there.
    ///
    /// # Errors
    ///
    /// `IsDirectory`, `Invalid` for a file with inline content, or the store's.
    pub async fn append(
        &self,
        path: &FullPath,
        chunks: Vec<FileChunk>,
        caller: Caller,
    ) -> Result<Change, Error> {
        if self.store.find(path)?.is_none() {
            let (uid, gid) = self.options().owner;
            let mut fields = EntryFields::default();
            *fields.attrs_mut() = FuseAttributes {
                file_mode: 0o644,
                uid,
                gid,
                ..FuseAttributes::default()
            };
            let options = CreateOptions {
                is_exclusive: true,
                caller: caller.clone(),
                ..CreateOptions::default()
            };
            match self
                .create(path, &fields.to_entry(&UnknownFields::default()), options)
                .await
            {
                Err(error) if error.kind() != ErrorKind::Exists => return Err(error),
                _ => {}
            }
        }
        self.transact(&caller, || {
            let Some(found) = self.find_opt(path)? else {
                return Err(Error::not_found(path));
            };
            let mut fields = found.entry.fields()?;
            if fields.is_dir() {
                return Err(Error::is_directory());
            }
            if !fields.content.is_empty() {
                let message = "append to small file is not supported yet";
                return Err(Error::invalid(message.to_owned()));
            }
            let mut end = fields.size();
            for chunk in &chunks {
                let mut chunk = chunk.clone();
                chunk.offset = i64::try_from(end).unwrap_or(i64::MAX);
                chunk.fill_ids();
                end = end.saturating_add(chunk.size);
                fields.chunks.push(chunk);
            }
            let attributes = fields.attrs_mut();
            attributes.file_size = end;
            attributes.md5 = Bytes::new();
            (attributes.mtime, attributes.mtime_ns) = now();
            let entry = fields.to_entry(&found.entry.unknown());
            Ok(Some(Transaction {
                expects: vec![Expect::Same(path.clone(), found.token)],
                steps: vec![Step::Update {
                    path: path.clone(),
                    entry,
                    delete_chunks: true,
                }],
                ..Transaction::default()
            }))
        })
        .await
    }
}
