// SPDX-License-Identifier: Apache-2.0
//! How far it is, and what came of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use dulse_import::{Counts, Problems};
use serde_json::json;

use crate::status::Format;

/// Pause between two lines.
const SHOW_EVERY: Duration = Duration::from_secs(2);

/// Lines on standard error.
pub(super) struct Progress {
    verb: &'static str,
    since: Instant,
    shown: Instant,
}

impl Progress {
    pub(super) fn new(verb: &'static str) -> Self {
        let now = Instant::now();
        Self {
            verb,
            since: now,
            shown: now,
        }
    }

    pub(super) fn show(&mut self, counts: &Counts) {
        let now = Instant::now();
        if now.saturating_duration_since(self.shown) < SHOW_EVERY {
            return;
        }
        self.shown = now;
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        let n = counts.n_entries;
        let rate = n as f64 / seconds;
        let (verb, pairs) = (self.verb, counts.n_pairs);
        eprintln!("{verb} {n} entries and {pairs} key-value pairs, {rate:.0} entries/s");
    }
}

/// What came of it.
pub(super) struct Report {
    pub(super) counts: Counts,
    /// What could not be taken.
    pub(super) refused: Problems,
    /// Names of hard links that became files of their own.
    pub(super) n_apart: u64,
    /// What was found when the store was compared with the source.
    pub(super) compared: Counts,
    /// What is not as in the source.
    pub(super) wrong: Problems,
}

impl Report {
    pub(super) fn print(
        &self,
        format: Format,
        dir: &Path,
        engine: &str,
        is_done: bool,
    ) -> Result<()> {
        let (counts, compared) = (&self.counts, &self.compared);
        if format == Format::Json {
            let report = json!({
                "done": is_done,
                "dir": dir.display().to_string(),
                "engine": engine,
                "entries": counts.n_entries,
                "pairs": counts.n_pairs,
                "there_already": counts.n_there,
                "left_out": counts.n_local,
                "equal": compared.n_there,
                "apart": self.n_apart,
                "refused": { "count": self.refused.count, "first": self.refused.shown },
                "wrong": { "count": self.wrong.count, "first": self.wrong.shown },
            });
            println!("{report}");
            return Ok(());
        }
        println!(
            "{} entries and {} key-value pairs read, {} of them there already; {} equal when \
             compared; {} rows left out that mean nothing elsewhere",
            counts.n_entries, counts.n_pairs, counts.n_there, compared.n_there, counts.n_local
        );
        if self.n_apart > 0 {
            println!(
                "{} names of hard links whose shared content is not in the source: each is a file \
                 of its own now",
                self.n_apart
            );
        }
        for (problems, what) in [
            (&self.refused, "could not be taken"),
            (&self.wrong, "are not as in the source"),
        ] {
            if problems.count == 0 {
                continue;
            }
            println!("{} {what}:", problems.count);
            for line in &problems.shown {
                println!("  {line}");
            }
        }
        let dir = dir.display();
        if is_done {
            println!("the store is in `{dir}`: start a filer with --engine {engine} --dir {dir}");
        } else if self.wrong.count == 0 {
            println!("run it again with --skip-refused to go without what could not be taken");
        } else {
            println!("the import is not finished");
        }
        Ok(())
    }
}
