// SPDX-License-Identifier: Apache-2.0
//! Cases and suites, and how they become tests.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use dulse_kv::{Engine, Error};
use libtest_mimic::{Arguments, Completion, Trial};

/// Opens or creates a store in a directory that exists.
pub type Open = dyn Fn(&Path) -> Result<Box<dyn Engine>, Error> + Send + Sync;

/// Shares an opener.
pub fn opener<E: Engine + 'static>(
    open: impl Fn(&Path) -> Result<E, Error> + Send + Sync + 'static,
) -> Arc<Open> {
    Arc::new(move |dir: &Path| open(dir).map(|engine| Box::new(engine) as Box<dyn Engine>))
}

/// What a case needs.
#[derive(Clone, Copy)]
pub enum Body {
    /// An empty store.
    Engine(fn(&dyn Engine)),
    /// An opener and an empty directory.
    Open(fn(&Open, &Path)),
    /// The same on a disk of its own, this many bytes large.
    SmallDisk(u64, fn(&Open, &Path)),
}

/// One test.
pub struct Case {
    /// A sentence.
    pub name: &'static str,
    /// What it does; panics when the engine is wrong.
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
    /// The tests, named `suite::case`.
    pub fn trials(&self, open: &Arc<Open>) -> Vec<Trial> {
        let trial = |case: &Case| {
            let (open, body) = (Arc::clone(open), case.body);
            let name = format!("{}::{}", self.name, case.name);
            Trial::ignorable_test(name.clone(), move || {
                let dir = scratch()?;
                match body {
                    Body::Engine(run) => run(&*open(dir.path())?),
                    Body::Open(run) => run(&*open, dir.path()),
                    Body::SmallDisk(bytes, run) => {
                        return crate::full_disk::on_small_disk(&name, bytes, |dir| {
                            run(&*open, dir);
                        });
                    }
                }
                Ok(Completion::Completed)
            })
        };
        self.cases.iter().map(trial).collect()
    }
}

/// A directory for one case: in memory where the system has such a place, as what is tested
/// is what was synced and not how long it took.
pub(crate) fn scratch() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
}

/// Runs the tests that the command line asks for.
#[must_use]
pub fn run(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
