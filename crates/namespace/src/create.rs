// SPDX-License-Identifier: Apache-2.0
//! Making entries, and the parents they need.

use dulse_store::{Expect, Found, Step, Transaction};
use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{Entry, EntryFields, FullPath, FuseAttributes, UnknownFields};

use crate::condition::{Condition, holds};
use crate::entry::inode_number;
use crate::{Caller, Change, Error, ErrorKind, Namespace, now};

/// How an entry is made.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct CreateOptions {
    /// Nothing may be there. Holds at this filer only.
    pub is_exclusive: bool,
    /// What must hold of the entry that is there.
    pub condition: Condition,
    /// Parents are there already; none is made or looked at.
    pub skip_parents: bool,
    /// Who asked.
    pub caller: Caller,
}

impl Namespace {
    /// Makes an entry, or writes over the one that is there unless that is forbidden.
    /// Missing parents are made in the same change.
    ///
    /// # Errors
    ///
    /// `NameTooLong`, `Exists`, `Precondition`, `IsDirectory`, `IsFile`, or the store's.
    pub async fn create(
        &self,
        path: &FullPath,
        entry: &Entry,
        options: CreateOptions,
    ) -> Result<Change, Error> {
        if path.is_root() {
            return Ok(Change::default());
        }
        self.check_name(path)?;
        let unknown = entry.unknown();
        let fields = entry.fields()?;
        self.transact(&options.caller, || {
            let found = self.find_opt(path)?;
            self.create_on(path, &fields, &unknown, found, &options)
                .map(Some)
        })
        .await
    }

    fn create_on(
        &self,
        path: &FullPath,
        fields: &EntryFields,
        unknown: &UnknownFields,
        found: Option<Found>,
        options: &CreateOptions,
    ) -> Result<Transaction, Error> {
        let there = found
            .as_ref()
            .map(|found| found.entry.fields())
            .transpose()?;
        if !options.condition.is_empty() && !holds(&options.condition, there.as_ref(), now().0) {
            return Err(Error::new(
                ErrorKind::Precondition,
                "precondition failed".into(),
            ));
        }
        let mut fields = fields.clone();
        complete(&mut fields, path, there.as_ref());
        if let (Some(found), Some(there)) = (found, there) {
            if options.is_exclusive {
                return Err(Error::new(ErrorKind::Exists, "entry already exists".into()));
            }
            if there.is_dir() != fields.is_dir() {
                let was_dir = there.is_dir();
                return Err(if was_dir {
                    Error::is_directory()
                } else {
                    Error::is_file()
                });
            }
            return Ok(Transaction {
                expects: vec![Expect::Same(path.clone(), found.token)],
                steps: vec![Step::Update {
                    path: path.clone(),
                    entry: fields.to_entry(unknown),
                    delete_chunks: true,
                }],
                ..Transaction::default()
            });
        }
        let mut transaction = Transaction::default();
        // An expired entry is still there for the store: it goes first.
        if self.store.find(path)?.is_some() {
            let step = Step::Delete {
                path: path.clone(),
                delete_chunks: true,
            };
            transaction.steps.push(step);
        } else {
            transaction.expects.push(Expect::Absent(path.clone()));
        }
        if !options.skip_parents {
            self.parents(path, &fields, &mut transaction)?;
        }
        transaction.steps.push(Step::Create {
            path: path.clone(),
            entry: fields.to_entry(unknown),
        });
        Ok(transaction)
    }

    /// Adds steps that make what is missing above `path`, topmost first. A file that is
    /// where a directory is needed becomes one and keeps its content.
    pub(crate) fn parents(
        &self,
        path: &FullPath,
        child: &EntryFields,
        transaction: &mut Transaction,
    ) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut at = path.parent();
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            let found = self.store.find(&dir)?;
            match found {
                Some(found) if found.entry.is_dir() => {
                    transaction.expects.push(Expect::Directory(dir));
                    break;
                }
                Some(_) => {
                    return Err(Error::new(
                        ErrorKind::IsFile,
                        format!("parent path is a file: {dir}"),
                    ));
                }
                None => missing.push(dir.clone()),
            }
            at = dir.parent();
        }
        for dir in missing.into_iter().rev() {
            self.check_bucket(&dir)?;
            self.check_name(&dir)?;
            transaction.expects.push(Expect::Absent(dir.clone()));
            let entry = directory_like(child, &dir);
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
        let is_fine = (3..=63).contains(&name.len())
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

    /// Makes a directory; parents too.
    ///
    /// # Errors
    ///
    /// `Exists`, or as [`Namespace::create`].
    pub async fn mkdir(&self, path: &FullPath, mode: u32, caller: Caller) -> Result<Change, Error> {
        let mut fields = EntryFields::default();
        let (uid, gid) = self.options().owner;
        *fields.attrs_mut() = FuseAttributes {
            file_mode: MODE_DIRECTORY | (mode & 0o7777),
            uid,
            gid,
            ..FuseAttributes::default()
        };
        let options = CreateOptions {
            is_exclusive: true,
            caller,
            ..CreateOptions::default()
        };
        self.create(path, &fields.to_entry(&UnknownFields::default()), options)
            .await
    }
}

/// Fills what a stored entry always has: times, inode number, both forms of file ids.
pub(crate) fn complete(fields: &mut EntryFields, path: &FullPath, there: Option<&EntryFields>) {
    let (now_s, now_ns) = now();
    for chunk in &mut fields.chunks {
        chunk.fill_ids();
    }
    let size = fields.size();
    let hard_link_id = fields.hard_link_id.clone();
    let is_dir = fields.is_dir();
    let attributes = fields.attrs_mut();
    attributes.file_size = if is_dir { 0 } else { size };
    if attributes.mime == "application/octet-stream" {
        attributes.mime.clear();
    }
    if is_dir {
        attributes.ttl_sec = 0;
    }
    if attributes.mtime == 0 {
        (attributes.mtime, attributes.mtime_ns) = (now_s, now_ns);
    }
    match there.map(EntryFields::attrs) {
        // An update keeps birth and inode number, whatever the caller says.
        Some(there) => {
            attributes.crtime = there.crtime;
            attributes.crtime_ns = there.crtime_ns;
            attributes.inode = there.inode;
        }
        None => {
            if attributes.crtime == 0 {
                attributes.crtime = now_s;
            }
            if attributes.inode == 0 {
                attributes.inode = inode_number(path, attributes.crtime, &hard_link_id);
            }
        }
    }
}

/// A directory made for a child: its owner, its mode with search permission.
fn directory_like(child: &EntryFields, dir: &FullPath) -> Entry {
    let child = child.attrs();
    let (now_s, now_ns) = now();
    let mut fields = EntryFields::default();
    *fields.attrs_mut() = FuseAttributes {
        file_mode: MODE_DIRECTORY | (child.file_mode & 0o777) | 0o111,
        uid: child.uid,
        gid: child.gid,
        user_name: child.user_name,
        group_name: child.group_name,
        mtime: now_s,
        mtime_ns: now_ns,
        crtime: now_s,
        inode: inode_number(dir, now_s, b""),
        ..FuseAttributes::default()
    };
    fields.to_entry(&UnknownFields::default())
}
