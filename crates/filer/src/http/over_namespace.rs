// SPDX-License-Identifier: Apache-2.0
//! [`Names`] over the namespace.

use dulse_namespace::{
    Caller, Change, CreateOptions, DeleteOptions, Error, ErrorKind, Namespace, Rule,
};
use dulse_replica::Progress;
use dulse_store::{Expect, Found, ListRange, Listed, Step, Token, Transaction};
use dulse_types::FullPath;
use tokio::sync::watch;

use super::names::{Answer, Delete, Expected, NameError, Names, Write, Written};
use crate::session::{self, SessionError, SessionToken};

/// Rows that are listed without leaving the thread of the request.
const ROWS_IN_PLACE: usize = 100;

/// The namespace as HTTP sees it.
pub struct OverNamespace {
    namespace: Namespace,
    /// What is applied; without it (shared stores) every read sees every write.
    progress: Option<watch::Receiver<Progress>>,
}

impl OverNamespace {
    /// Serves a namespace; `progress` is its replica's, where there is one.
    #[must_use]
    pub fn new(namespace: Namespace, progress: Option<watch::Receiver<Progress>>) -> Self {
        Self {
            namespace,
            progress,
        }
    }

    fn written(&self, change: &Change) -> Written {
        match change.position {
            Some((origin, stamp)) if origin == self.namespace.origin() => Written {
                token: SessionToken { origin, stamp }.to_string(),
            },
            // As over gRPC: what is in a directory's own store every read sees.
            _ => self.seen(),
        }
    }

    async fn create(&self, write: &Write, is_exclusive: bool) -> Result<Written, NameError> {
        let options = CreateOptions {
            is_exclusive,
            skip_parents: !write.make_parents,
            keeps_file_parents: true,
            ..CreateOptions::default()
        };
        let change = self.namespace.create(&write.path, &write.entry, options);
        Ok(self.written(&change.await?))
    }

    /// Writes over exactly what was read. The entry was made from it, so that nothing
    /// is left for the namespace to complete.
    async fn replace(&self, write: Write, token: Token) -> Result<Written, NameError> {
        let transaction = Transaction {
            expects: vec![Expect::Same(write.path.clone(), token)],
            steps: vec![Step::Update {
                path: write.path,
                entry: write.entry,
                delete_chunks: true,
            }],
            ..Transaction::default()
        };
        let (answer, answered) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(answer.send(result)));
        self.namespace.store().commit(transaction, done);
        let stopped = || NameError::Failed("the store stopped".to_owned());
        let lost = |_| NameError::InDoubt(Box::new(stopped()));
        match answered.await.map_err(lost)? {
            Ok(commit) => Ok(self.written(&Change {
                position: Some((commit.origin, commit.stamp)),
                ..Change::default()
            })),
            Err(error) if error.kind() == dulse_store::ErrorKind::Conflict => {
                Err(NameError::Conflict)
            }
            Err(error) => Err(Error::from(error).into()),
        }
    }
}

impl Names for OverNamespace {
    fn find<'a>(&'a self, path: &'a FullPath) -> Answer<'a, Option<Found>> {
        let found = if path.is_root() {
            self.namespace.find(path).map(|entry| {
                Some(Found {
                    entry,
                    token: Token(0),
                    n_links: 1,
                })
            })
        } else {
            self.namespace.find_opt(path)
        };
        Box::pin(std::future::ready(found.map_err(NameError::from)))
    }

    fn list<'a>(&'a self, directory: &'a FullPath, range: ListRange) -> Answer<'a, Vec<Listed>> {
        Box::pin(async move {
            if range.limit <= ROWS_IN_PLACE {
                return Ok(self.namespace.list(directory, &range)?);
            }
            let (namespace, directory) = (self.namespace.clone(), directory.clone());
            let listed = tokio::task::spawn_blocking(move || namespace.list(&directory, &range));
            let stopped = |e: tokio::task::JoinError| NameError::Failed(e.to_string());
            Ok(listed.await.map_err(stopped)??)
        })
    }

    fn write(&self, write: Write) -> Answer<'_, Written> {
        Box::pin(async move {
            match write.expected {
                Expected::Anything => self.create(&write, false).await,
                Expected::Absent => self.create(&write, true).await,
                Expected::Same(token) => self.replace(write, token).await,
            }
        })
    }

    fn delete<'a>(&'a self, path: &'a FullPath, how: Delete) -> Answer<'a, Written> {
        Box::pin(async move {
            let options = DeleteOptions {
                is_recursive: how.is_recursive,
                ignores_errors_below: how.ignores_errors,
                keep_chunks: !how.deletes_chunks,
                ..DeleteOptions::default()
            };
            Ok(self.written(&self.namespace.delete(path, options).await?))
        })
    }

    fn rename<'a>(&'a self, from: &'a FullPath, to: &'a FullPath) -> Answer<'a, Written> {
        Box::pin(async move {
            let change = self.namespace.rename(from, to, Caller::default()).await?;
            Ok(self.written(&change))
        })
    }

    fn rule_of(&self, path: &str) -> Option<Rule> {
        self.namespace.rule_of(path)
    }

    fn wait_for<'a>(&'a self, tokens: Vec<&'a str>) -> Answer<'a, ()> {
        Box::pin(async move {
            let bad = |e: SessionError| NameError::Invalid(e.to_string());
            let tokens = session::parse(tokens.into_iter()).map_err(bad)?;
            let Some(progress) = self.progress.as_ref().filter(|_| !tokens.is_empty()) else {
                return Ok(());
            };
            let waited = session::wait(&tokens, progress).await;
            waited.map_err(|e| NameError::Unavailable(e.to_string()))
        })
    }

    fn seen(&self) -> Written {
        let tokens = self.progress.as_ref().map(|progress| {
            let tokens = session::seen(&progress.borrow().applied);
            let texts: Vec<String> = tokens.iter().map(ToString::to_string).collect();
            texts.join(",")
        });
        Written {
            token: tokens.unwrap_or_default(),
        }
    }
}

impl From<Error> for NameError {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let may_be_applied = error.may_be_applied();
        let told = match error.kind() {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::NameTooLong => Self::NameTooLong,
            ErrorKind::IsDirectory => Self::IsDirectory(text),
            ErrorKind::IsFile | ErrorKind::ParentIsFile => Self::IsFile(text),
            ErrorKind::Exists | ErrorKind::Precondition => Self::Conflict,
            ErrorKind::NotEmpty => Self::NotEmpty(text),
            ErrorKind::Invalid => Self::Invalid(text),
            ErrorKind::ReadOnly => {
                let prefix = text.strip_prefix(dulse_namespace::texts::READ_ONLY);
                Self::ReadOnly(prefix.unwrap_or(&text).trim().to_owned())
            }
            ErrorKind::DiskFull => Self::DiskFull(text),
            ErrorKind::Unavailable => Self::Unavailable(text),
            ErrorKind::Unacknowledged => Self::Unacknowledged(text),
            ErrorKind::Internal => Self::Failed(text),
        };
        // Whatever the reason: chunks that the entry may name must stay.
        if may_be_applied {
            Self::InDoubt(Box::new(told))
        } else {
            told
        }
    }
}
