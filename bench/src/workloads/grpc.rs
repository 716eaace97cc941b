// SPDX-License-Identifier: Apache-2.0
//! Creates, lookups, updates, listings and deletes over gRPC.

use anyhow::{Result, ensure};
use dulse_proto::filer as pb;

use super::{Cpu, GRPC_CLIENTS, Plan, create};
use crate::drive::{Driven, Limits, drive};
use crate::entries::{self, FILES_PER_DIRECTORY, scatter};
use crate::report::{Report, Sample};
use crate::system::{Client, Kind, System};

/// One kind of call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Call {
    /// Creates new files, 1,000 a directory; directories come with their first file.
    Create,
    /// Looks up files at random.
    Lookup,
    /// Writes files again with another mtime, at random.
    Update,
    /// Lists a directory of 1,000 files.
    List,
    /// Deletes files in the order of their creation; chunks stay.
    Delete,
}

/// In this order, so that each finds what it needs.
pub(crate) const CALLS: [Call; 5] = [
    Call::Create,
    Call::Lookup,
    Call::Update,
    Call::List,
    Call::Delete,
];

impl Call {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Lookup => "lookup",
            Self::Update => "update",
            Self::List => "list-1000",
            Self::Delete => "delete",
        }
    }

    /// Does the n-th call on a set of `size` files.
    pub(crate) async fn perform(
        self,
        client: Client,
        set: String,
        size: u64,
        n: u64,
    ) -> Result<()> {
        let at_random = scatter(n) % size.max(1);
        match self {
            Self::Create => create(client, set, n).await,
            Self::Lookup => lookup(client, &set, at_random).await,
            Self::Update => update(client, &set, at_random, n + 1).await,
            Self::List => {
                let full = (size / FILES_PER_DIRECTORY).max(1);
                list(client, &set, scatter(n) % full * FILES_PER_DIRECTORY).await
            }
            Self::Delete => delete(client, &set, n).await,
        }
    }
}

async fn lookup(mut client: Client, set: &str, n: u64) -> Result<()> {
    let request = pb::LookupDirectoryEntryRequest {
        directory: entries::directory(set, n),
        name: entries::name(n),
    };
    let answer = client.lookup_directory_entry(request).await?;
    ensure!(answer.get_ref().entry.is_some(), "lookup: no entry");
    Ok(())
}

async fn update(mut client: Client, set: &str, n: u64, revision: u64) -> Result<()> {
    let request = pb::UpdateEntryRequest {
        directory: entries::directory(set, n),
        entry: Some(entries::file(n, revision)),
        ..Default::default()
    };
    client.update_entry(request).await?;
    Ok(())
}

async fn list(mut client: Client, set: &str, n: u64) -> Result<()> {
    let request = pb::ListEntriesRequest {
        directory: entries::directory(set, n),
        limit: u32::try_from(FILES_PER_DIRECTORY)?,
        ..Default::default()
    };
    let mut rows = client.list_entries(request).await?.into_inner();
    let mut count = 0;
    while rows.message().await?.is_some() {
        count += 1;
    }
    ensure!(count == FILES_PER_DIRECTORY, "listing: {count} entries");
    Ok(())
}

async fn delete(mut client: Client, set: &str, n: u64) -> Result<()> {
    let request = pb::DeleteEntryRequest {
        directory: entries::directory(set, n),
        name: entries::name(n),
        ..Default::default()
    };
    let answer = client.delete_entry(request).await?;
    let error = &answer.get_ref().error;
    ensure!(error.is_empty(), "delete: {error}");
    Ok(())
}

/// Runs all calls on each system, the systems in turn.
pub(crate) async fn run(
    systems: &[System],
    plan: Plan,
    wanted: impl Fn(&str) -> bool,
    report: &mut Report,
) -> Result<()> {
    let mut clients = Vec::new();
    for system in systems {
        clients.push(system.filers[0].clients(GRPC_CLIENTS).await?);
    }
    for repetition in 0..plan.repetitions {
        let set = format!("r{repetition}");
        let mut sizes = vec![0; systems.len()];
        for call in CALLS {
            if call != Call::Create && !wanted(call.name()) {
                continue;
            }
            for (i, system) in systems.iter().enumerate() {
                let (driven, cpu) = one(system, &clients[i], call, &set, sizes[i], plan).await?;
                if call == Call::Create {
                    sizes[i] = driven.operations;
                    ensure!(
                        sizes[i] >= FILES_PER_DIRECTORY,
                        "{} files are too few to list a directory",
                        sizes[i]
                    );
                }
                let n_filers = if system.filers.len() > 1 {
                    "2 filers"
                } else {
                    "1 filer"
                };
                let workload = format!("{}, {n_filers}", call.name());
                if wanted(call.name()) {
                    report.add(&workload, system.kind, Sample::of(&driven, cpu))?;
                }
            }
        }
    }
    Ok(())
}

/// One call for as long as planned, or until there is nothing left to delete.
///
/// - `clients`: of the first filer.
/// - `size`: files of the set.
///
/// # Errors
///
/// The first call that fails.
pub(crate) async fn one(
    system: &System,
    clients: &[Client],
    call: Call,
    set: &str,
    size: u64,
    plan: Plan,
) -> Result<(Driven, Cpu)> {
    let mut limits = Limits::time(plan.time);
    if call == Call::Delete && system.kind != Kind::Ceiling {
        limits.operations = size;
    }
    let before = Cpu::of(system)?;
    let set_of_clients = set.to_owned();
    let driven = drive(clients, limits, move |client, n| {
        call.perform(client, set_of_clients.clone(), size, n)
    })
    .await?;
    if system.filers.len() > 1 {
        // The second filer's part of the work belongs to the operations, too.
        let name = format!("{set}-{}", call.name());
        system.filers[0].mark("/bench/marks", &name).await?;
        system.filers[1].wait_visible("/bench/marks", &name).await?;
    }
    let used = Cpu::of(system)?.since(before);
    Ok((driven, used))
}
