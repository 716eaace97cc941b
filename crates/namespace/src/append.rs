// SPDX-License-Identifier: Apache-2.0
//! Chunks behind the end of a file.

use bytes::Bytes;
use dulse_store::{Expect, Step, Transaction};
use dulse_types::{EntryFields, FileChunk, FullPath, FuseAttributes, UnknownFields};

use crate::clock::Moment;
use crate::entry::complete;
use crate::parents::OnFile;
use crate::{Caller, Change, Error, Namespace, texts};

/// Mode of a file that an append makes.
const MODE: u32 = 0o644;

impl Namespace {
    /// Adds chunks behind the end of a file, making it when it is not there, in one change.
    /// Concurrent appends at this filer all count, in some order; offsets are given here.
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
        if path.is_root() {
            return Err(Error::other_type(true));
        }
        self.check_name(path)?;
        self.transact(path, &caller, || self.append_on(path, &chunks).map(Some))
            .await
    }

    fn append_on(&self, path: &FullPath, chunks: &[FileChunk]) -> Result<Transaction, Error> {
        let now = self.now();
        let found = self.store.find(path)?;
        let mut transaction = Transaction::default();
        if let Some(found) = &found {
            let expect = Expect::Same(path.clone(), found.token);
            transaction.expects.push(expect);
            if !found.entry.is_expired(now.s) {
                let mut fields = found.entry.fields()?;
                if fields.is_dir() {
                    return Err(Error::other_type(true));
                }
                if !fields.content.is_empty() {
                    return Err(Error::invalid(texts::APPEND_TO_INLINE.to_owned()));
                }
                add(&mut fields, chunks, now);
                transaction.steps.push(Step::Update {
                    path: path.clone(),
                    entry: fields.to_entry(&found.entry.unknown()),
                    delete_chunks: true,
                });
                return Ok(transaction);
            }
            transaction.steps.push(Step::Delete {
                path: path.clone(),
                delete_chunks: true,
            });
        } else {
            transaction.expects.push(Expect::Absent(path.clone()));
        }
        let (uid, gid) = self.options().owner;
        let mut fields = EntryFields::default();
        *fields.attrs_mut() = FuseAttributes {
            file_mode: MODE,
            uid,
            gid,
            ..FuseAttributes::default()
        };
        add(&mut fields, chunks, now);
        complete(&mut fields, path, None, now);
        self.parents(path, &fields, OnFile::Promote, &mut transaction)?;
        transaction.steps.push(Step::Create {
            path: path.clone(),
            entry: fields.to_entry(&UnknownFields::default()),
        });
        Ok(transaction)
    }
}

/// Puts the chunks behind the end, whatever offsets they came with.
fn add(fields: &mut EntryFields, chunks: &[FileChunk], now: Moment) {
    let mut end = fields.size();
    for chunk in chunks {
        let mut chunk = chunk.clone();
        chunk.offset = i64::try_from(end).unwrap_or(i64::MAX);
        chunk.fill_ids();
        end = end.saturating_add(chunk.size);
        fields.chunks.push(chunk);
    }
    let attributes = fields.attrs_mut();
    attributes.file_size = end;
    attributes.md5 = Bytes::new();
    (attributes.mtime, attributes.mtime_ns) = (now.s, now.ns);
}
