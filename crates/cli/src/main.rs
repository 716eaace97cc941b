// SPDX-License-Identifier: Apache-2.0
//! The `dulse` program.
//!
//! Results go to standard output, diagnostics to standard error. Exit codes are those
//! of `exit`.

mod cluster;
mod config;
mod conflicts;
mod descriptors;
mod edges;
mod exit;
mod export;
mod import;
mod metrics;
mod roles;
mod settings;
mod status;
mod up;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use dulse_telemetry::{Exporter, logs};

use exit::{Damaged, Usage};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parallel filers, each with its own embedded metadata store, that always end up agreeing.
#[derive(Parser)]
#[command(name = "dulse", version)]
struct Cli {
    /// Where `security.toml` and `filer.toml` are looked for first, before `.`, `~/.seaweedfs`,
    /// `/usr/local/etc/seaweedfs` and `/etc/seaweedfs`
    #[arg(long, global = true, value_name = "DIR", env = "DULSE_CONFIG_DIR")]
    config_dir: Option<std::path::PathBuf>,
    #[command(flatten)]
    logs: LogArgs,
    #[command(subcommand)]
    command: Command,
}

/// How diagnostics are written to standard error.
#[derive(clap::Args)]
#[command(next_help_heading = "Logs")]
struct LogArgs {
    /// One line of text, or one JSON object a line
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// error, warn, info, debug, trace, off, or a list such as `info,dulse_replication=debug`
    #[arg(long, global = true, env = "DULSE_LOG", default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Starts a whole local cluster and shows it: one master, one volume server, N filers
    Up(up::UpArgs),
    /// Runs a master
    Master(roles::MasterArgs),
    /// Runs a volume server
    Volume(roles::VolumeArgs),
    /// Runs a filer with an embedded store, or on a shared one
    Filer(roles::FilerArgs),
    /// Runs one of each in one process
    Server(roles::ServerArgs),
    /// Shows every filer, its peers and whether they agree
    Status(status::StatusArgs),
    /// Compares all filers: exit code 0 when equal, 1 with the differing paths
    Verify(verify::VerifyArgs),
    /// Shows who belongs to the filers' cluster, and takes members out of it
    Cluster(cluster::ClusterArgs),
    /// Lists what lost to concurrent changes; restores or dismisses it
    Conflicts(conflicts::ConflictsArgs),
    /// Takes an upstream filer's entries into a new store
    Import(import::ImportArgs),
    /// Writes a filer's entries to a file that upstream's shell loads
    Export(export::ExportArgs),
    /// Prints or checks a configuration file
    Config(config::ConfigArgs),
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether it serves, and so has metrics.
    fn is_role(&self) -> bool {
        matches!(
            self,
            Self::Master(_) | Self::Volume(_) | Self::Filer(_) | Self::Server(_)
        )
    }
}

fn main() -> ExitCode {
    let parsed = settings::parse(Cli::command(), std::env::args_os().collect());
    let cli = match parsed.and_then(|matches| Ok(Cli::from_arg_matches(&matches)?)) {
        Ok(cli) => cli,
        Err(error) => {
            eprintln!("dulse: {error:#}");
            return ExitCode::from(exit::USAGE);
        }
    };
    edges::set_config_dir(cli.config_dir.clone());
    let format = match cli.logs.log_format {
        LogFormat::Text => logs::Format::Text,
        LogFormat::Json => logs::Format::Json,
    };
    if let Err(error) = logs::init(format, Some(&cli.logs.log_level)) {
        eprintln!("dulse: {error}");
        return ExitCode::from(exit::USAGE);
    }
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
            ExitCode::from(if error.is::<Usage>() {
                exit::USAGE
            } else if error.is::<Damaged>() {
                exit::DAMAGED
            } else {
                exit::FAILED
            })
        }
    }
}

async fn run(command: Command) -> anyhow::Result<u8> {
    if command.is_role() {
        descriptors::raise();
        Exporter::install(&metrics::declared())?;
    }
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
        Command::Cluster(args) => cluster::cluster(args).await?,
        Command::Conflicts(args) => {
            let is_done = conflicts::conflicts(args).await?;
            return Ok(if is_done { exit::OK } else { exit::DIFFERENT });
        }
        Command::Import(args) => {
            let is_done = import::import(args).await?;
            return Ok(if is_done { exit::OK } else { exit::DIFFERENT });
        }
        Command::Export(args) => export::export(args).await?,
        Command::Config(args) => config::config(args, &Cli::command())?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "dulse", &mut std::io::stdout());
        }
    }
    Ok(exit::OK)
}
