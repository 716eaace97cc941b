// SPDX-License-Identifier: Apache-2.0
//! The `dulse` program.
//!
//! Results go to standard output, diagnostics to standard error. Exit codes are those
//! of `exit`.

mod config;
mod exit;
mod roles;
mod settings;
mod status;
mod up;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use exit::Usage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parallel filers, each with its own embedded metadata store, that always end up agreeing.
#[derive(Parser)]
#[command(name = "dulse", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Starts a whole local cluster and shows it: one master, one volume server, N filers
    Up(up::UpArgs),
    /// Runs a master
    Master(roles::MasterArgs),
    /// Runs a volume server
    Volume(roles::VolumeArgs),
    /// Runs a filer with an embedded store
    Filer(roles::FilerArgs),
    /// Runs one of each in one process
    Server(roles::ServerArgs),
    /// Shows every filer, its peers and whether they agree
    Status(status::StatusArgs),
    /// Compares all filers: exit code 0 when equal, 1 with the differing paths
    Verify(verify::VerifyArgs),
    /// Prints or checks a configuration file
    Config(config::ConfigArgs),
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("DULSE_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let parsed = settings::parse(Cli::command(), std::env::args_os().collect());
    let cli = match parsed.and_then(|matches| Ok(Cli::from_arg_matches(&matches)?)) {
        Ok(cli) => cli,
        Err(error) => {
            eprintln!("dulse: {error:#}");
            return ExitCode::from(exit::USAGE);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("dulse: cannot start threads: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => {
            // A reader of standard input would hold the process back.
            runtime.shutdown_background();
            ExitCode::from(code)
        }
        Err(error) => {
            eprintln!("dulse: {error:#}");
            runtime.shutdown_background();
            let is_usage = error.downcast_ref::<Usage>().is_some();
            ExitCode::from(if is_usage { exit::USAGE } else { exit::FAILED })
        }
    }
}

async fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Up(args) => up::up(args).await?,
        Command::Master(args) => roles::master(args).await?,
        Command::Volume(args) => roles::volume(args).await?,
        Command::Filer(args) => roles::filer(args).await?,
        Command::Server(args) => roles::server(args).await?,
        Command::Status(args) => status::status(args).await?,
        Command::Verify(args) => {
            let is_equal = verify::verify(args).await?;
            return Ok(if is_equal { exit::OK } else { exit::DIFFERENT });
        }
        Command::Config(args) => config::config(args, &Cli::command())?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "dulse", &mut std::io::stdout());
        }
    }
    Ok(exit::OK)
}
