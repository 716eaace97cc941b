// SPDX-License-Identifier: Apache-2.0
//! The directories above a new entry.

use bytes::Bytes;
use dulse_store::{Expect, Found, Step, Transaction};
use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{Entry, EntryFields, FullPath, FuseAttributes, UnknownFields};

use crate::clock::Moment;
use crate::entry::inode_number;
use crate::{Error, ErrorKind, Namespace, texts};

/// Search permission, which a directory needs to be of use.
const MODE_SEARCH: u32 = 0o111;

/// Extended key by which upstream's S3 gateway knows a directory that is an object, too.
const PREFIX_OBJECT_KEY: &str = "x-seaweedfs-prefix-object";

/// Shortest and longest name of a bucket, in bytes.
const BUCKET_NAME_LEN: std::ops::RangeInclusive<usize> = 3..=63;

/// What becomes of a file where a directory is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnFile {
    /// It becomes one and keeps its content.
    Promote,
    /// It stays, and the call fails.
    Refuse,
}

impl Namespace {
    /// Adds steps that make what is missing above `path`, topmost first.
    pub(crate) fn parents(
        &self,
        path: &FullPath,
        child: &EntryFields,
        on_file: OnFile,
        transaction: &mut Transaction,
    ) -> Result<(), Error> {
        let now = self.now();
        let mut missing = Vec::new();
        let mut at = path.parent();
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            at = dir.parent();
            match self.store.find(&dir)? {
                Some(found) if found.entry.is_dir() => {
                    transaction.expects.push(Expect::Directory(dir));
                    break;
                }
                Some(found) if found.entry.is_expired(now.s) => {
                    // Hidden, but still there: it goes first.
                    let expect = Expect::Same(dir.clone(), found.token);
                    transaction.expects.push(expect);
                    transaction.steps.push(Step::Delete {
                        path: dir.clone(),
                        delete_chunks: true,
                    });
                    missing.push(dir);
                }
                Some(found) => {
                    promote(dir, &found, on_file, transaction)?;
                    break;
                }
                None => {
                    transaction.expects.push(Expect::Absent(dir.clone()));
                    missing.push(dir);
                }
            }
        }
        for dir in missing.into_iter().rev() {
            self.check_bucket(&dir)?;
            self.check_name(&dir)?;
            let entry = directory_like(child, &dir, now);
            transaction.steps.push(Step::Create { path: dir, entry });
        }
        Ok(())
    }

    /// The first component below the buckets folder must be a bucket's name.
    fn check_bucket(&self, dir: &FullPath) -> Result<(), Error> {
        let Some((parent, name)) = dir.split() else {
            return Ok(());
        };
        if parent != self.options().buckets_folder || name.starts_with('.') {
            return Ok(());
        }
        let is_fine = BUCKET_NAME_LEN.contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.ends_with(|c: char| c.is_ascii_alphanumeric());
        if is_fine {
            Ok(())
        } else {
            Err(Error::invalid(format!("invalid bucket name {name}")))
        }
    }
}

/// A file becomes a directory. One with hard links cannot: its other names stay files.
fn promote(
    dir: FullPath,
    found: &Found,
    on_file: OnFile,
    transaction: &mut Transaction,
) -> Result<(), Error> {
    let mut fields = found.entry.fields()?;
    if on_file == OnFile::Refuse || found.n_links > 1 || !fields.hard_link_id.is_empty() {
        let message = format!("{}: {dir}", texts::PARENT_IS_FILE);
        return Err(Error::new(ErrorKind::ParentIsFile, message));
    }
    fields.attrs_mut().file_mode |= MODE_DIRECTORY | MODE_SEARCH;
    let mark = Bytes::from_static(b"true");
    fields.extended.insert(PREFIX_OBJECT_KEY.to_owned(), mark);
    let expect = Expect::Same(dir.clone(), found.token);
    transaction.expects.push(expect);
    transaction.steps.push(Step::Update {
        entry: fields.to_entry(&found.entry.unknown()),
        path: dir,
        delete_chunks: false,
    });
    Ok(())
}

/// A directory made for a child: its owner, its mode with search permission.
fn directory_like(child: &EntryFields, dir: &FullPath, now: Moment) -> Entry {
    let child = child.attrs();
    let mut fields = EntryFields::default();
    *fields.attrs_mut() = FuseAttributes {
        file_mode: MODE_DIRECTORY | (child.file_mode & 0o777) | MODE_SEARCH,
        uid: child.uid,
        gid: child.gid,
        user_name: child.user_name,
        group_name: child.group_name,
        mtime: now.s,
        mtime_ns: now.ns,
        ctime: now.s,
        ctime_ns: now.ns,
        atime: now.s,
        atime_ns: now.ns,
        crtime: now.s,
        inode: inode_number(dir, now.s, b""),
        ..FuseAttributes::default()
    };
    fields.to_entry(&UnknownFields::default())
}
