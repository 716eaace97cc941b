// SPDX-License-Identifier: Apache-2.0
//! Flags over environment over file over default, with one definition of each.
//!
//! The definition is the flag's. Its name in the environment and its key in the file are
//! derived from it; the file's values become the defaults of the flags, so that whatever
//! judges a flag judges them, too.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;
use clap::builder::ValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use dulse_config::{File, Key, Kind, Schema, Size, Span};

use crate::exit::Usage;

/// Sub-commands with a section in the file.
pub(crate) const ROLES: [&str; 4] = ["master", "volume", "filer", "server"];

/// Understands a command line, with what the environment and the file say beneath it.
///
/// # Errors
///
/// `Usage` when the file cannot be used. A command line that cannot ends the process, as
/// does one that asks for help.
pub(crate) fn parse(command: Command, arguments: Vec<OsString>) -> Result<ArgMatches> {
    let command = with_environment(command);
    let first = command.clone().get_matches_from(&arguments);
    let Some((role, matches)) = first.subcommand() else {
        return Ok(first);
    };
    if !ROLES.contains(&role) {
        return Ok(first);
    }
    let ids = matches.ids().map(|id| id.as_str().to_owned());
    let mut given: BTreeSet<String> = ids
        .filter(|id| {
            let source = matches
                .try_contains_id(id)
                .is_ok()
                .then(|| matches.value_source(id));
            !matches!(source.flatten(), None | Some(ValueSource::DefaultValue))
        })
        .collect();
    let Some(path) = matches.get_one::<std::path::PathBuf>("config") else {
        note_given(given);
        return Ok(first);
    };
    let file = read(&command, path)?;
    given.extend(file.section(role).map(|(key, _)| key.replace('-', "_")));
    note_given(given);
    let mut command = command;
    for (key, value) in file.section(role) {
        let id = key.replace('-', "_");
        let texts = value.texts.clone();
        command = command.mut_subcommand(role, |c| c.mut_arg(id, |a| a.default_values(texts)));
    }
    Ok(command.get_matches_from(&arguments))
}

/// What the role was given by flag, environment or file; the rest is at its default.
static GIVEN: OnceLock<BTreeSet<String>> = OnceLock::new();

fn note_given(given: BTreeSet<String>) {
    // A process has one role.
    let _ = GIVEN.set(given);
}

/// Whether flag, environment or file say something of a key of this process's role.
pub(crate) fn is_given(key: &str) -> bool {
    GIVEN.get().is_some_and(|given| given.contains(key))
}

/// Reads a file and has every value judged as its flag would be.
///
/// # Errors
///
/// `Usage` with the line that is not understood.
pub(crate) fn read(command: &Command, path: &Path) -> Result<File> {
    let usage = |e: dulse_config::Error| Usage(e.to_string());
    let file = File::read(path, &schemas(command)).map_err(usage)?;
    for role in ROLES {
        let sub = command.find_subcommand(role);
        for (key, value) in file.section(role) {
            let arg = sub.and_then(|c| c.get_arguments().find(|a| a.get_long() == Some(key)));
            for text in &value.texts {
                arg.map_or(Ok(()), |arg| judge(arg, text))
                    .map_err(|what| usage(file.refuse(value, format!("`{key}`: {what}"))))?;
            }
        }
    }
    Ok(file)
}

/// Whether the flag would take the text; else why not.
fn judge(arg: &Arg, text: &str) -> Result<(), String> {
    let alone = Command::new("file").arg(arg.clone().env(None::<&str>));
    let argument = format!("--{}={text}", arg.get_long().unwrap_or_default());
    let judged = alone.try_get_matches_from(["file".to_owned(), argument]);
    judged.map(drop).map_err(|error| {
        let shown = error.to_string();
        let first = shown.lines().next().unwrap_or_default();
        // "error: invalid value 'x' for '--master <MASTER>': `x` is no server address; …"
        let why = first.split_once("': ").map_or(first, |(_, why)| why);
        why.trim_start_matches("error: ").to_owned()
    })
}

/// The sections of the file and their keys.
pub(crate) fn schemas(command: &Command) -> Vec<Schema> {
    let roles = ROLES
        .iter()
        .filter_map(|role| command.find_subcommand(role));
    roles
        .map(|role| Schema {
            name: role.get_name().to_owned(),
            about: role
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default(),
            keys: role
                .get_arguments()
                .filter(|a| is_key(a))
                .map(key)
                .collect(),
        })
        .collect()
}

/// Hidden flags are for our own programs, and a file does not name itself.
fn is_key(arg: &Arg) -> bool {
    let long = arg.get_long().unwrap_or_default();
    !arg.is_hide_set() && !arg.is_global_set() && !["", "config", "help", "version"].contains(&long)
}

fn key(arg: &Arg) -> Key {
    let defaults = arg.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|d| d.to_string_lossy().into_owned()).collect();
    Key {
        name: arg.get_long().unwrap_or_default().to_owned(),
        kind: kind(arg),
        default: defaults.join(","),
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
    }
}

fn kind(arg: &Arg) -> Kind {
    let parser: &ValueParser = arg.get_value_parser();
    let is = |id: TypeId| parser.type_id() == id;
    let values = arg.get_possible_values();
    if arg.get_value_delimiter().is_some() {
        Kind::List
    } else if is(TypeId::of::<bool>()) {
        Kind::Boolean
    } else if is(TypeId::of::<u16>()) {
        Kind::Integer(u16::MAX.into())
    } else if is(TypeId::of::<u32>()) {
        Kind::Integer(u32::MAX.into())
    } else if is(TypeId::of::<u64>()) {
        // TOML has no greater whole numbers.
        Kind::Integer(i64::MAX.unsigned_abs())
    } else if is(TypeId::of::<Size>()) {
        Kind::Size
    } else if is(TypeId::of::<Span>()) {
        Kind::Span
    } else if values.is_empty() {
        Kind::Text
    } else {
        Kind::OneOf(values.iter().map(|v| v.get_name().to_owned()).collect())
    }
}

/// Gives every key of every role its variable, `DULSE_FILER_PORT`.
fn with_environment(mut command: Command) -> Command {
    for role in ROLES {
        command = command.mut_subcommand(role, |c| {
            c.mut_args(|arg| {
                let is_asked = is_key(&arg) || arg.get_long() == Some("config");
                let long = arg.get_long().unwrap_or_default().replace('-', "_");
                let name = format!("DULSE_{role}_{long}").to_uppercase();
                if is_asked { arg.env(name) } else { arg }
            })
        });
    }
    command
}

#[cfg(test)]
mod tests;
