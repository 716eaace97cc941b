// SPDX-License-Identifier: Apache-2.0
//! Filers on one database, as real processes, whatever the database: one, two and three of them,
//! with subscribers at each, killed under load, and beside filers that do not go with them.
//!
//! A test program says how its server is reached ([`Database`]) and runs all cases ([`run`]).

mod calls;
mod follow;
mod groups;
mod kills;
mod load;
mod serving;

pub use follow::now_ns;
pub mod upstream;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_shared_testkit::{Database, Place};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tonic::transport::Channel;

use crate::Cluster;

type Filer = SeaweedFilerClient<Channel>;

/// A database of which another server takes over when one fails.
pub trait Replaced: Database {
    /// Ends the server that takes writes, or one of them, as soon as another one has all that it
    /// acknowledged; waits until that one takes them. [`Database::start_again`] brings it back.
    ///
    /// # Errors
    ///
    /// When none takes over.
    fn replace(&mut self) -> Result<()>;
}

/// A cluster whose filers are on one store.
pub struct Shared {
    pub(crate) cluster: Cluster,
    pub(crate) place: Place,
    config: PathBuf,
}

impl Shared {
    /// Starts a master, a volume server and filers.
    pub(crate) async fn start<D: Database>(
        server: &D,
        section: &str,
        n_filers: usize,
        flags: &[&str],
    ) -> Result<Self> {
        let cluster = Cluster::start(&[]).await?;
        // A directory of its own names it as nothing else does.
        let name = cluster.dir.path().display().to_string();
        let place = server.make(section, &name)?;
        let config = cluster.dir.path().join("config");
        configure(&config, &place)?;
        let mut shared = Self {
            cluster,
            place,
            config,
        };
        for _ in 0..n_filers {
            shared.add(flags).await?;
        }
        Ok(shared)
    }

    /// One more filer on the store, ready.
    pub(crate) async fn add(&mut self, flags: &[&str]) -> Result<usize> {
        let n = self.cluster.add_filer_on(&self.config, flags)?;
        self.cluster.wait_ready(n).await?;
        Ok(n)
    }

    pub(crate) async fn grpc(&self, filer: usize) -> Result<Filer> {
        self.cluster.grpc(filer).await
    }
}

/// Writes the configuration of filers on a store.
fn configure(dir: &std::path::Path, place: &Place) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    Ok(std::fs::write(dir.join("filer.toml"), &place.toml)?)
}

/// A test of one section.
pub type Case<D> =
    for<'a> fn(&'a mut D, &'static str) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Runs every case on a database.
#[must_use]
pub fn run<D: Database>() -> ExitCode {
    run_trials(all::<D>())
}

/// Every case of a database, as tests.
#[must_use]
pub fn all<D: Database>() -> Vec<Trial> {
    trials(
        every_section::<D>()
            .into_iter()
            .chain(first_section())
            .collect(),
    )
}

/// What is tried with servers that are replaced, as tests, in every section.
#[must_use]
pub fn replacements<D: Replaced>() -> Vec<Trial> {
    let case: Case<D> = |server, section| Box::pin(kills::a_server(server, section));
    let name = "a_server_that_is_killed_under_load_is_replaced_and_nothing_acknowledged_is_lost";
    let of = |section: &&'static str| (name, *section, case);
    trials(D::SECTIONS.iter().map(of).collect())
}

/// What depends on the database, as tests: filers that serve, and kills. The rest is the same on
/// all.
#[must_use]
pub fn briefly<D: Database>() -> Vec<Trial> {
    let kills = first_section::<D>().into_iter().take(N_KILLS);
    trials(every_section::<D>().into_iter().chain(kills).collect())
}

/// Runs that.
#[must_use]
pub fn run_briefly<D: Database>() -> ExitCode {
    run_trials(briefly::<D>())
}

/// A case with a server of its own, as a test.
#[must_use]
pub fn trial(name: &str, case: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(case).map_err(|error| failed(&error))
    })
}

/// Cases of kills, which are the first of those that one section is tried with.
const N_KILLS: usize = 2;

/// A case, and the section that it is tried with.
type Named<D> = (&'static str, &'static str, Case<D>);

fn every_section<D: Database>() -> Vec<Named<D>> {
    let cases: [(&str, Case<D>); 2] = [
        ("one_filer_serves_grpc_and_http", |server, section| {
            Box::pin(serving::one_filer(server, section))
        }),
        (
            "what_one_of_two_filers_does_shows_at_the_other_and_to_subscribers_of_both",
            |server, section| Box::pin(serving::two_filers(server, section)),
        ),
    ];
    let of = |(name, case)| D::SECTIONS.iter().map(move |of| (name, *of, case));
    cases.into_iter().flat_map(of).collect()
}

fn first_section<D: Database>() -> Vec<Named<D>> {
    let cases: [(&str, Case<D>); 7] = [
        (
            "subscribers_at_three_filers_see_one_sequence_through_a_kill",
            |server, section| Box::pin(kills::a_filer(server, section)),
        ),
        (
            "the_database_is_killed_under_load_and_nothing_acknowledged_is_lost",
            |server, section| Box::pin(kills::the_database(server, section)),
        ),
        (
            "chunks_that_were_dropped_are_freed_and_no_others",
            |server, section| Box::pin(serving::chunks(server, section)),
        ),
        (
            "what_has_expired_is_removed_from_the_database",
            |server, section| Box::pin(serving::expiry(server, section)),
        ),
        (
            "rules_of_directories_are_read_again_when_another_filer_changes_them",
            |server, section| Box::pin(serving::rules(server, section)),
        ),
        (
            "a_filer_that_does_not_go_with_the_others_does_not_start",
            |server, section| Box::pin(groups::odd_ones(server, section)),
        ),
        (
            "who_changes_to_a_filer_that_is_new_is_told_everything",
            |server, section| Box::pin(groups::a_new_one(server, section)),
        ),
    ];
    let of = |(name, case)| (name, D::SECTIONS[0], case);
    cases.into_iter().map(of).collect()
}

/// Runs tests one by one.
#[must_use]
pub fn run_trials(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Cases, each with its section, as tests. They share one server, which the first of them
/// starts; without it they are ignored with the reason, in CI failed.
#[must_use]
pub fn trials<D: Database>(cases: Vec<(&'static str, &'static str, Case<D>)>) -> Vec<Trial> {
    let server = Arc::new(Mutex::new(None));
    let trials = cases.into_iter().map(|(name, section, case)| {
        let server = Arc::clone(&server);
        Trial::ignorable_test(format!("{section}::{name}"), move || {
            // A case that panicked has failed; the server is as good as before.
            let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
            if server.is_none() {
                match D::start() {
                    Ok(started) => *server = Some(started),
                    Err(error) if std::env::var_os("CI").is_some() => return Err(failed(&error)),
                    Err(error) => return Ok(Completion::ignored_with(format!("{error:#}"))),
                }
            }
            let Some(server) = server.as_mut() else {
                return Err(Failed::from("it was started"));
            };
            let runtime = tokio::runtime::Runtime::new()?;
            let done = runtime.block_on(case(server, section));
            done.map(|()| Completion::Completed)
                .map_err(|error| failed(&error))
        })
    });
    trials.collect()
}

fn failed(error: &anyhow::Error) -> Failed {
    Failed::from(format!("{error:?}"))
}
