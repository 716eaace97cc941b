// SPDX-License-Identifier: Apache-2.0
//! What subscribers are fed from: a replica's journal, or the announcements of the filers on a
//! shared store; and those on directories' own stores beside that.

use std::sync::Arc;

use dulse_proto::filer::SubscribeMetadataResponse;
use dulse_replica::Shared;
use dulse_store::{EntryStore, Error, ListRange, Listed};
use dulse_types::{Entry, FullPath, Origin, Stamp, Vector};

use super::log::{Page, read_replica};
use super::replay::is_older_than_log;
use crate::shared::OnShared;

/// Changes of all filers, and the tree in place of those that are no longer kept.
pub(crate) trait Source: Send + Sync {
    /// Who stamps the changes made here.
    fn origin(&self) -> Origin;

    /// Changes of an origin behind `after` and at or below `until`, which is on disk here;
    /// about `max_bytes` of them.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn read(
        &self,
        origin: Origin,
        after: Stamp,
        until: Stamp,
        max_bytes: usize,
    ) -> Result<Page, Error>;

    /// What can be read of every origin.
    fn durable(&self) -> Vector;

    /// Lists one directory as it is.
    ///
    /// # Errors
    ///
    /// The store's.
    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error>;

    /// Whether events at or above `since` may be missing here.
    ///
    /// # Errors
    ///
    /// `Corrupt`, `Io`.
    fn is_older_than_log(&self, since: Stamp, is_local: bool) -> Result<bool, Error>;
}

impl Source for Shared {
    fn origin(&self) -> Origin {
        Shared::origin(self)
    }

    fn read(
        &self,
        origin: Origin,
        after: Stamp,
        until: Stamp,
        max_bytes: usize,
    ) -> Result<Page, Error> {
        read_replica(self, origin, after, until, max_bytes)
    }

    fn durable(&self) -> Vector {
        self.durable_vector()
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        Shared::list(self, directory, range)
    }

    fn is_older_than_log(&self, since: Stamp, is_local: bool) -> Result<bool, Error> {
        is_older_than_log(self, since, is_local)
    }
}

/// A default store's changes, and those of directories in stores of their own.
pub(crate) struct Beside {
    /// Of the default store.
    pub(crate) default: Arc<dyn Source>,
    /// Of the others.
    pub(crate) located: Vec<Arc<OnShared>>,
    /// The tree of all.
    pub(crate) tree: Arc<dyn EntryStore>,
}

/// Whether all that an event tells of lies where directories' own stores are: what lay there
/// before is hidden by them.
fn is_hidden(event: &SubscribeMetadataResponse, is_below: impl Fn(&FullPath) -> bool) -> bool {
    let Some(told) = &event.event_notification else {
        return false;
    };
    let hides = |directory: &str, entry: &Option<Entry>| {
        let path = entry.as_ref().map(|e| FullPath::of(directory, &e.name()));
        path.and_then(Result::ok).is_none_or(|path| is_below(&path))
    };
    (told.old_entry.is_some() || told.new_entry.is_some())
        && hides(&event.directory, &told.old_entry)
        && hides(&told.new_parent_path, &told.new_entry)
}

impl Source for Beside {
    fn origin(&self) -> Origin {
        self.default.origin()
    }

    fn read(
        &self,
        origin: Origin,
        after: Stamp,
        until: Stamp,
        max_bytes: usize,
    ) -> Result<Page, Error> {
        match self.located.iter().find(|on| on.is_on_it(origin)) {
            Some(on) => on.read(origin, after, until, max_bytes),
            None => {
                let mut page = self.default.read(origin, after, until, max_bytes)?;
                let is_below =
                    |path: &FullPath| self.located.iter().any(|on| on.above(path).is_some());
                page.leave_out(|event| is_hidden(event, is_below));
                Ok(page)
            }
        }
    }

    fn durable(&self) -> Vector {
        let mut all = self.default.durable();
        for on in &self.located {
            all.merge_max(&on.readable());
        }
        all
    }

    fn list(&self, directory: &FullPath, range: &ListRange) -> Result<Vec<Listed>, Error> {
        self.tree.list(directory, range)
    }

    fn is_older_than_log(&self, since: Stamp, is_local: bool) -> Result<bool, Error> {
        let mut is_older = self.default.is_older_than_log(since, is_local)?;
        for on in &self.located {
            is_older |= on.is_older_than_log(since, is_local)?;
        }
        Ok(is_older)
    }
}

#[cfg(test)]
mod tests {
    use dulse_namespace::Happened;
    use dulse_types::{EntryFields, UnknownFields};

    use super::*;
    use crate::grpc::convert;

    #[test]
    fn what_a_directorys_own_store_hides_is_not_told() {
        let entry = || EntryFields::default().to_entry(&UnknownFields::default());
        let at = |path: &str| (FullPath::parse(path).unwrap(), entry());
        let tmp = FullPath::parse("/tmp").unwrap();
        for (old, new, is_out) in [
            (Some("/tmp/a"), None, true),
            (None, Some("/tmp/d/a"), true),
            (Some("/tmp/a"), Some("/tmp/b"), true),
            (Some("/tmp/a"), Some("/a"), false),
            (None, Some("/tmp"), false),
            (Some("/tmpx"), Some("/tmpx"), false),
        ] {
            let happened = Happened {
                stamp: Stamp(1),
                old: old.map(at),
                new: new.map(at),
                delete_chunks: false,
            };
            let event = convert::event(&happened, Origin(1), &[], false);
            let hidden = is_hidden(&event, |path| path.is_below(&tmp));
            assert_eq!(hidden, is_out, "{old:?} to {new:?}");
        }
        assert!(!is_hidden(&SubscribeMetadataResponse::default(), |_| true));
    }
}
