// SPDX-License-Identifier: Apache-2.0
//! What local writes may not touch while a tree change is open.
//!
//! A tree that is being moved or removed is locked with the place that it is moved to:
//! whatever makes, changes or removes a name there waits. So does what would move or remove
//! a directory above them. Other filers' changes are merged as ever; the parts look at what
//! is there.

use bytes::Bytes;
use dulse_merge::intent::TreeWork as Work;
use dulse_store::{Error, ErrorKind, Operation, Step};

use super::{Job, Tree, Trees};
use crate::sequencer::bytes;

impl Trees {
    /// Whether steps, and a tree change, may be done beside the open ones.
    ///
    /// # Errors
    ///
    /// `Unavailable`, with what is in the way and how far it has come.
    pub(crate) fn check(&self, steps: &[Step], tree: Option<&Tree>) -> Result<(), Error> {
        for job in &self.jobs {
            let is_free = steps.iter().all(|step| job.allows(step))
                && tree.is_none_or(|tree| job.allows_tree(tree));
            if !is_free {
                return Err(job.is_in_the_way());
            }
        }
        Ok(())
    }
}

impl Job {
    fn allows(&self, step: &Step) -> bool {
        let is_outside = |path| !self.holds(&bytes(path));
        match step {
            Step::Create { path, .. }
            | Step::Update { path, .. }
            | Step::RestoreInPlace { path, .. }
            | Step::RestoreCopy { path, .. } => is_outside(path),
            Step::Delete { path, .. } => self.is_apart(&bytes(path)),
            Step::Rename { from, to } => self.is_apart(&bytes(from)) && self.is_apart(&bytes(to)),
            Step::Link { from, to } => is_outside(from) && is_outside(to),
            Step::KvPut { .. } | Step::KvDelete { .. } | Step::Dismiss { .. } => true,
        }
    }

    fn allows_tree(&self, tree: &Tree) -> bool {
        let is_target_apart = match &tree.work {
            Work::Move { to } => self.is_apart(to),
            Work::Delete { .. } => true,
        };
        is_target_apart && self.is_apart(&tree.path)
    }

    /// The tops of what is locked.
    fn tops(&self) -> impl Iterator<Item = &Bytes> {
        [Some(&self.progress.path), self.progress.to.as_ref()]
            .into_iter()
            .flatten()
    }

    /// Whether a path lies in what is locked.
    fn holds(&self, path: &[u8]) -> bool {
        self.tops().any(|top| is_at_or_below(path, top))
    }

    /// Whether a tree at this path and what is locked have nothing in common.
    fn is_apart(&self, path: &[u8]) -> bool {
        !self.holds(path) && !self.tops().any(|top| is_at_or_below(top, path))
    }

    fn is_in_the_way(&self) -> Error {
        let text = |path: &Bytes| String::from_utf8_lossy(path).into_owned();
        let path = text(&self.progress.path);
        let doing = match &self.progress.to {
            Some(to) => format!("`{path}` is being moved to `{}`", text(to)),
            None => format!("`{path}` is being removed"),
        };
        let n_names = self.progress.n_names;
        let because = format!("{doing}, {n_names} names so far; try again when that is done");
        Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", because)
    }
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    path.starts_with(top) && matches!(path.get(top.len()), None | Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use dulse_merge::intent::TreeIntent;
    use dulse_types::{FullPath, Identity, Vector};

    use super::*;
    use crate::trees::rows::Open;

    fn open(path: &'static str, to: Option<&'static str>) -> Trees {
        let delete_chunks = true;
        let work = match to {
            Some(to) => Work::Move { to: to.into() },
            None => Work::Delete { delete_chunks },
        };
        let intent = TreeIntent {
            id: Identity::default(),
            path: path.into(),
            work,
            seen: Vector::new(),
            signatures: Vec::new(),
            is_from_other_cluster: false,
        };
        let jobs = [Job::of(Open::new(intent))].into();
        Trees { jobs }
    }

    fn is_free(trees: &Trees, step: Step) -> bool {
        trees.check(&[step], None).is_ok()
    }

    fn path(text: &str) -> FullPath {
        FullPath::parse(text).unwrap()
    }

    #[test]
    fn what_lies_in_a_tree_waits_and_what_would_move_it_too() {
        let trees = open("/a/t", Some("/b/u"));
        let create = |text| {
            let entry = dulse_types::Entry::default();
            let path = path(text);
            is_free(&trees, Step::Create { path, entry })
        };
        assert!(!create("/a/t") && !create("/a/t/x") && !create("/b/u/x/y"));
        assert!(create("/a/tx") && create("/a") && create("/b/v"));
        let delete = |text| {
            let (path, delete_chunks) = (path(text), true);
            is_free(
                &trees,
                Step::Delete {
                    path,
                    delete_chunks,
                },
            )
        };
        assert!(!delete("/b") && !delete("/a/t/x") && delete("/c"));
        let rename = |from, to| {
            let (from, to) = (path(from), path(to));
            is_free(&trees, Step::Rename { from, to })
        };
        assert!(!rename("/a", "/c") && !rename("/c", "/b/u/c") && rename("/c", "/d"));
    }

    #[test]
    fn another_tree_change_waits_when_it_has_anything_in_common() {
        let trees = open("/a/t", None);
        let check = |path: &'static str, to: &'static str| {
            let (path, work) = (path.into(), Work::Move { to: to.into() });
            trees.check(&[], Some(&Tree { path, work })).is_ok()
        };
        assert!(!check("/a", "/z") && !check("/z", "/a/t/z") && check("/a/s", "/a/r"));
        let error = trees.check(
            &[],
            Some(&Tree {
                path: "/a/t/x".into(),
                work: Work::Delete {
                    delete_chunks: true,
                },
            }),
        );
        let error = error.unwrap_err();
        assert!(error.is_retryable());
        assert!(
            error.to_string().contains("`/a/t` is being removed"),
            "{error}"
        );
    }
}
