// SPDX-License-Identifier: Apache-2.0
//! `dulse cluster`: who is a member, and taking one out for good.

mod members;
mod remove;

use anyhow::Result;
use clap::{Args, Subcommand};
use dulse_types::ServerAddress;

/// Arguments of `dulse cluster`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum ClusterCommand {
    /// Lists every member, and every filer that was one
    Members(members::MembersArgs),
    /// Takes a member out of the cluster for good
    Remove(remove::RemoveArgs),
}

/// Where the cluster is.
#[derive(Args, Clone, Debug)]
struct Where {
    /// Masters, `host:port`, a comma list
    #[arg(long, default_value = "127.0.0.1:9333", value_delimiter = ',')]
    master: Vec<ServerAddress>,
    /// The filers' group
    #[arg(long, default_value = "")]
    filer_group: String,
}

/// Runs `dulse cluster …`.
///
/// # Errors
///
/// When nobody answers, or what was asked is refused.
pub(crate) async fn cluster(args: ClusterArgs) -> Result<()> {
    match args.command {
        ClusterCommand::Members(args) => members::members(args).await,
        ClusterCommand::Remove(args) => remove::remove(args).await,
    }
}
