// SPDX-License-Identifier: Apache-2.0
//! Making entries, and the parents they need.

use dulse_store::{Expect, Found, Step, Transaction};
use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{Entry, EntryFields, FullPath, FuseAttributes, UnknownFields};

use crate::condition::{Condition, holds};
use crate::entry::{complete, inode_number, mark_s3_expiry};
use crate::parents::OnFile;
use crate::{Caller, Change, Error, ErrorKind, Namespace, texts};

/// How an entry is made.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct CreateOptions {
    /// Nothing may be there. Holds at this filer only.
    pub is_exclusive: bool,
    /// What must hold of the entry that is there.
    pub condition: Condition,
    /// Parents are there already; none is made or looked at.
    pub skip_parents: bool,
    /// A file above stays one and the create fails; else it becomes a directory.
    pub keeps_file_parents: bool,
    /// Who asked.
    pub caller: Caller,
}

impl Namespace {
    /// Makes an entry, or writes over the one that is there unless that is forbidden.
    /// Missing parents are made in the same change.
    ///
    /// # Errors
    ///
    /// `NameTooLong`, `Exists`, `Precondition`, `IsDirectory`, `IsFile`, `ParentIsFile`,
    /// `Invalid` for a bucket's name, `ReadOnly`, or the store's.
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
        self.transact(path, &options.caller, || {
            let mut fields = entry.fields()?;
            self.apply_rule(path, &mut fields)?;
            self.create_on(path, fields, &unknown, &options).map(Some)
        })
        .await
    }

    /// What the rules say of writes there: not at all, or with a time to live.
    fn apply_rule(&self, path: &FullPath, fields: &mut EntryFields) -> Result<(), Error> {
        let Some(rule) = self.rule_of(path.as_str()) else {
            return Ok(());
        };
        if rule.read_only {
            let message = format!("{} {}", texts::READ_ONLY, rule.location_prefix);
            return Err(Error::new(ErrorKind::ReadOnly, message));
        }
        let attributes = fields.attrs_mut();
        if attributes.ttl_sec == 0 {
            attributes.ttl_sec = rule.ttl_sec();
        }
        Ok(())
    }

    pub(crate) fn create_on(
        &self,
        path: &FullPath,
        mut fields: EntryFields,
        unknown: &UnknownFields,
        options: &CreateOptions,
    ) -> Result<Transaction, Error> {
        let now = self.now();
        let found = self.store.find(path)?;
        let shown = found.as_ref().filter(|f| !f.entry.is_expired(now.s));
        let there = shown.map(|found| found.entry.fields()).transpose()?;
        if !holds(&options.condition, there.as_ref(), now.s) {
            return Err(Error::of(
                ErrorKind::Precondition,
                texts::PRECONDITION_FAILED,
            ));
        }
        complete(&mut fields, path, there.as_ref(), now);
        mark_s3_expiry(&mut fields);
        if let (Some(found), Some(there)) = (shown, &there) {
            if options.is_exclusive {
                return Err(Error::of(ErrorKind::Exists, texts::ALREADY_EXISTS));
            }
            return overwrite(path, found, there, fields, unknown);
        }
        let mut transaction = Transaction::default();
        match &found {
            None => transaction.expects.push(Expect::Absent(path.clone())),
            // An expired entry is still there for the store: it goes first.
            Some(expired) => {
                let expect = Expect::Same(path.clone(), expired.token);
                transaction.expects.push(expect);
                transaction.steps.push(Step::Delete {
                    path: path.clone(),
                    delete_chunks: true,
                });
            }
        }
        if !options.skip_parents {
            let on_file = if options.keeps_file_parents {
                OnFile::Refuse
            } else {
                OnFile::Promote
            };
            self.parents(path, &fields, on_file, &mut transaction)?;
        }
        transaction.steps.push(Step::Create {
            path: path.clone(),
            entry: fields.to_entry(unknown),
        });
        Ok(transaction)
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

/// Writes over what is there. Another inode takes the name's place when the name was a hard
/// link and the new entry is none, or one of something else: its other names keep theirs.
pub(crate) fn overwrite(
    path: &FullPath,
    found: &Found,
    there: &EntryFields,
    mut fields: EntryFields,
    unknown: &UnknownFields,
) -> Result<Transaction, Error> {
    if there.is_dir() != fields.is_dir() {
        return Err(Error::other_type(there.is_dir()));
    }
    let path = path.clone();
    let expects = vec![Expect::Same(path.clone(), found.token)];
    let leaves_links = !there.hard_link_id.is_empty() && there.hard_link_id != fields.hard_link_id;
    let steps = if leaves_links {
        let id = fields.hard_link_id.clone();
        let attributes = fields.attrs_mut();
        attributes.inode = inode_number(&path, attributes.crtime, &id);
        let entry = fields.to_entry(unknown);
        let delete = Step::Delete {
            path: path.clone(),
            delete_chunks: true,
        };
        vec![delete, Step::Create { path, entry }]
    } else {
        vec![Step::Update {
            path,
            entry: fields.to_entry(unknown),
            delete_chunks: true,
        }]
    };
    Ok(Transaction {
        expects,
        steps,
        ..Transaction::default()
    })
}
