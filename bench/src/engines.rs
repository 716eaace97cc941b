// SPDX-License-Identifier: Apache-2.0
//! The embedded engines beside one another, each under a replica, as a filer has it.
//!
//! Each engine is measured in processes of its own: one that fills a store and reads from it,
//! and is killed with -9 while it writes; then one that opens what was left. So memory is the
//! engine's and the replica's, and opening is that after a crash.

pub(crate) mod work;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::machine::{self, Machine};
use crate::page;

/// Arguments of a comparison of engines.
#[derive(Args, Debug)]
pub(crate) struct EnginesArgs {
    /// Entries in each store
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// Only these; all that this program has by default
    #[arg(long, value_delimiter = ',')]
    engine: Vec<String>,
    /// Where stores are made; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A page in which the table is replaced
    #[arg(long)]
    out: Option<PathBuf>,
    /// What else the machine did meanwhile, for readers of the table
    #[arg(long, default_value = "not told")]
    beside: String,
}

/// Measures each engine and prints the table.
///
/// # Errors
///
/// When a store fails or the page cannot be written.
pub(crate) fn run(args: &EnginesArgs) -> Result<()> {
    let engines: Vec<&str> = match args.engine.is_empty() {
        true => dulse_registry::ENGINES.to_vec(),
        false => args.engine.iter().map(String::as_str).collect(),
    };
    let machine = Machine::look()?;
    let mut rows = Vec::new();
    for engine in engines {
        let scratch = match &args.dir {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        };
        eprintln!("measuring {engine}, {} entries", args.entries);
        rows.push(measure(engine, scratch.path(), args.entries)?);
    }
    let mut text = format!(
        "{machine}; load after it {}. Beside it ran: {}.\n\n",
        machine::load(),
        args.beside
    );
    text.push_str(&table(args.entries, &rows));
    println!("{text}");
    match &args.out {
        Some(page) => page::replace(page, &text),
        None => Ok(()),
    }
}

/// What one engine came to.
fn measure(engine: &str, dir: &Path, entries: u64) -> Result<Value> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["engine-fill", "--engine", engine])
        .args(["--entries", &entries.to_string(), "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .context("start the process that fills")?;
    let said = child.stdout.take().context("its output")?;
    let figures = BufReader::new(said).lines().next().transpose()?;
    // It writes on and on behind its figures; so it is killed within a write.
    std::thread::sleep(work::BEFORE_KILL);
    let killed = child.kill().and_then(|()| child.wait());
    let figures = figures.with_context(|| format!("{engine} ended early: {killed:?}"))?;
    let mut figures: Value = serde_json::from_str(&figures)?;
    let opened = Command::new(std::env::current_exe()?)
        .args(["engine-open", "--engine", engine])
        .args(["--entries", &entries.to_string(), "--dir"])
        .arg(dir)
        .output()
        .context("run the process that opens")?;
    ensure!(
        opened.status.success(),
        "{engine} does not open what a kill left: {}",
        String::from_utf8_lossy(&opened.stderr)
    );
    let opened: Value = serde_json::from_slice(&opened.stdout)?;
    figures["open_s"] = opened["open_s"].clone();
    eprintln!("  {figures}");
    Ok(figures)
}

/// One column for each engine.
fn table(entries: u64, rows: &[Value]) -> String {
    let mut text = format!("| {entries} entries |");
    for row in rows {
        // Writing to a string cannot fail.
        let _ = write!(text, " {} |", row["engine"].as_str().unwrap_or("?"));
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(rows.len()));
    text.push('\n');
    for (what, key, digits) in LINES {
        let _ = write!(text, "| {what} |");
        for row in rows {
            let figure = row[*key].as_f64().unwrap_or(f64::NAN);
            let _ = write!(text, " {figure:.digits$} |");
        }
        text.push('\n');
    }
    text
}

/// Lines of the table: what is shown, its figure, digits behind the point.
const LINES: &[(&str, &str, usize)] = &[
    ("creates, per second", "put_per_s", 0),
    ("one create, CPU time, µs", "put_cpu_us", 1),
    ("lookups, per second", "get_per_s", 0),
    ("one lookup, CPU time, µs", "get_cpu_us", 1),
    ("listings of 1,000 entries, per second", "list_per_s", 0),
    ("one listing, CPU time, µs", "list_cpu_us", 0),
    ("engine on disk, MiB", "engine_mib", 0),
    ("bytes of it for one entry", "engine_bytes_per_entry", 0),
    ("memory of the process, MiB", "resident_mib", 0),
    ("its greatest, MiB", "resident_max_mib", 0),
    ("opening after kill -9, seconds", "open_s", 2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_line() {
        let row = serde_json::json!({"engine": "redb", "put_per_s": 1234.5, "open_s": 0.456});
        let text = table(10, &[row]);
        assert!(
            text.contains("| 10 entries | redb |\n|---|---:|\n"),
            "{text}"
        );
        assert!(
            text.contains("| opening after kill -9, seconds | 0.46 |"),
            "{text}"
        );
    }
}
