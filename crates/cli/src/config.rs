// SPDX-License-Identifier: Apache-2.0
//! `dulse config`: a file to begin with, and whether one can be used.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Command, Subcommand};
use dulse_config::{Security, Stores};
use dulse_registry::Choice;

use crate::exit::Usage;
use crate::settings;

/// Arguments of `dulse config`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Prints a commented file with every key at its default
    Template {
        /// Only the section of one role
        #[arg(value_parser = settings::ROLES)]
        role: Option<String>,
    },
    /// Says OK, or what is wrong in which line with exit code 2
    Check {
        /// A configuration file, a `security.toml` or a `filer.toml`
        file: PathBuf,
    },
}

/// Prints or checks.
///
/// # Errors
///
/// `Usage` with the line that is not understood.
pub(crate) fn config(args: ConfigArgs, command: &Command) -> Result<()> {
    match args.action {
        Action::Template { role } => {
            let mut schemas = settings::schemas(command);
            schemas.retain(|s| role.as_ref().is_none_or(|role| s.name == *role));
            print!("{}", dulse_config::template(&schemas));
        }
        Action::Check { file } => {
            let is_called = |name: &str| file.file_name().is_some_and(|n| n == name);
            if is_called(dulse_config::security::FILE_NAME) {
                check_security(&file)?;
            } else if is_called(dulse_config::stores::FILE_NAME) {
                check_stores(&file)?;
            } else {
                settings::read(command, &file)?;
            }
            println!("OK");
        }
    }
    Ok(())
}

fn check_security(file: &std::path::Path) -> Result<()> {
    let nothing = |_: &str| None;
    let read = Security::read(file, &nothing).map_err(|e| Usage(e.to_string()))?;
    if read.unknown.is_empty() {
        return Ok(());
    }
    let unknown = read.unknown.join(", ");
    Err(Usage(format!("{}: unknown keys {unknown}", file.display())).into())
}

fn check_stores(file: &std::path::Path) -> Result<()> {
    let nothing = |_: &str| None;
    let read = Stores::read(file, &nothing).map_err(|e| Usage(e.to_string()))?;
    let usage = |e: dulse_registry::ChooseError| Usage(e.to_string());
    let chosen = dulse_registry::choose(&read).map_err(usage)?;
    let is_embedded = !matches!(chosen, Some(Choice::Shared(_)));
    dulse_registry::choose_located(&read, is_embedded).map_err(usage)?;
    Ok(())
}
