// SPDX-License-Identifier: Apache-2.0
//! Cases and suites, and how they become tests.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use dulse_store::{EntryStore, Error};
use libtest_mimic::{Arguments, Completion, Trial};

/// Opens or creates the store that belongs to a directory.
pub type Open = dyn Fn(&Path) -> Result<Arc<dyn EntryStore>, Error> + Send + Sync;

/// Shares an opener.
pub fn opener<S: EntryStore + 'static>(
    open: impl Fn(&Path) -> Result<S, Error> + Send + Sync + 'static,
) -> Arc<Open> {
    Arc::new(move |dir: &Path| open(dir).map(|store| Arc::new(store) as Arc<dyn EntryStore>))
}

/// What a case needs.
#[derive(Clone, Copy)]
pub enum Body {
    /// An empty store.
    Store(fn(&Arc<dyn EntryStore>)),
    /// An opener and an empty directory.
    Open(fn(&Open, &Path)),
}

/// One test.
pub struct Case {
    /// A sentence.
    pub name: &'static str,
    /// What it does; panics when the store is wrong.
    pub body: Body,
}

/// Cases of one subject.
pub struct Suite {
    /// The module's name.
    pub name: &'static str,
    /// In reading order.
    pub cases: &'static [Case],
}

impl Suite {
    /// The tests, named `suite::case` behind a prefix; where the server is missing, which
    /// `lacks` says, they are ignored, in CI failed.
    pub fn trials(&self, open: &Arc<Open>, lacks: Option<&str>, prefix: &str) -> Vec<Trial> {
        let trial = |case: &Case| {
            let (open, body) = (Arc::clone(open), case.body);
            let lacks = lacks.map(str::to_owned);
            let name = format!("{prefix}{}::{}", self.name, case.name);
            Trial::ignorable_test(name, move || {
                if let Some(why) = lacks {
                    if std::env::var_os("CI").is_some() {
                        return Err(why.into());
                    }
                    return Ok(Completion::ignored_with(why));
                }
                let dir = tempfile::tempdir()?;
                match body {
                    Body::Store(run) => run(&open(dir.path())?),
                    Body::Open(run) => run(&*open, dir.path()),
                }
                Ok(Completion::Completed)
            })
        };
        self.cases.iter().map(trial).collect()
    }
}

/// Runs the tests that the command line asks for.
#[must_use]
pub fn run(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A table of cases of a suite, each named as its function.
macro_rules! suite {
    ($name:literal: $($kind:ident $case:ident,)*) => {
        /// The suite.
        pub const SUITE: $crate::case::Suite = $crate::case::Suite {
            name: $name,
            cases: &[$($crate::case::Case {
                name: stringify!($case),
                body: $crate::case::Body::$kind($case),
            }),*],
        };
    };
}
pub(crate) use suite;
