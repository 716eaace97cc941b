// SPDX-License-Identifier: Apache-2.0
//! What `dulse up` prints: a table once, then live lines, or lines of change off a terminal.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use super::UpArgs;
use super::plan::Server;
use crate::status::Filer;

/// Prints the cluster's state.
pub(super) struct Display {
    is_terminal: bool,
    rows: Vec<Row>,
    is_table_out: bool,
    live_lines: usize,
    last_said: BTreeMap<String, String>,
    last_changes: BTreeMap<String, u64>,
    hint: String,
}

struct Row {
    name: String,
    http: String,
    grpc: String,
    engine: String,
    log: String,
    pid: Option<u32>,
}

impl Display {
    /// Knows the servers; prints nothing yet.
    pub(super) fn new(args: &UpArgs, servers: &[Server]) -> Self {
        let row = |server: &Server| Row {
            name: server.name.clone(),
            http: format!("{}:{}", args.ip, server.port),
            grpc: format!("{}:{}", args.ip, server.port + 10_000),
            engine: server.engine.clone().unwrap_or_else(|| "-".to_owned()),
            log: server.role.log.display().to_string(),
            pid: None,
        };
        let other = args.filer_port + args.filers.saturating_sub(1).min(1);
        let hint = format!(
            "try   curl -T photo.jpg http://{ip}:{first}/pics/\nthen  curl http://{ip}:{other}/pics/photo.jpg",
            ip = args.ip,
            first = args.filer_port,
        );
        Self {
            is_terminal: std::io::stdout().is_terminal(),
            rows: servers.iter().map(row).collect(),
            is_table_out: false,
            live_lines: 0,
            last_said: BTreeMap::new(),
            last_changes: BTreeMap::new(),
            hint,
        }
    }

    /// Prints a sentence, above the live lines.
    pub(super) fn say(&mut self, text: &str) {
        self.erase();
        println!("{text}");
    }

    /// Takes note of a started role; the table is printed when all have started.
    pub(super) fn started(&mut self, name: &str, pid: u32) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.name == name) {
            row.pid = Some(pid);
        }
        if self.is_table_out {
            self.say(&format!("{name} started again, process {pid}"));
        } else if self.rows.iter().all(|row| row.pid.is_some()) {
            self.is_table_out = true;
            self.table();
        }
    }

    fn table(&self) {
        println!(
            "{:<9} {:<21} {:<21} {:>7}  {:<7} log",
            "role", "http", "grpc", "process", "engine"
        );
        for row in &self.rows {
            let pid = row.pid.map_or_else(String::new, |pid| pid.to_string());
            println!(
                "{:<9} {:<21} {:<21} {pid:>7}  {:<7} {}",
                row.name, row.http, row.grpc, row.engine, row.log
            );
        }
        println!("{}\nCtrl-C stops everything.\n", self.hint);
    }

    /// Shows every filer's state: redrawn on a terminal, else only what changed.
    pub(super) fn refresh(&mut self, filers: &[(String, Option<Filer>)]) {
        if !self.is_table_out {
            return;
        }
        let digests: Vec<_> = filers.iter().filter_map(|(_, f)| f.as_ref()).collect();
        let is_equal = digests.windows(2).all(|w| w[0].digest == w[1].digest);
        let mut lines = Vec::new();
        for (name, filer) in filers {
            let Some(filer) = filer else {
                lines.push((name.clone(), "does not answer".to_owned(), String::new()));
                continue;
            };
            let before = self
                .last_changes
                .insert(name.clone(), filer.changes_applied);
            let rate = filer
                .changes_applied
                .saturating_sub(before.unwrap_or(filer.changes_applied));
            let state = if filer.ready {
                "ready".to_owned()
            } else {
                format!("not ready: {}", filer.not_ready_reason)
            };
            let equal = if is_equal {
                "digest equal"
            } else {
                "digest differs"
            };
            let detail = format!(
                "{} entries, {rate} changes/s, lag {} changes {:.1} s, {equal}",
                filer.entries,
                filer.lag_changes(),
                filer.lag_seconds(),
            );
            lines.push((name.clone(), state, detail));
        }
        if self.is_terminal {
            self.redraw(&lines)
        } else {
            self.changes(&lines, is_equal)
        }
    }

    fn redraw(&mut self, lines: &[(String, String, String)]) {
        self.erase();
        for (name, state, detail) in lines {
            println!("{name:<9} {state}  {detail}");
        }
        self.live_lines = lines.len();
        // Nothing to do about a terminal that is gone; the signal comes by itself.
        let _ = std::io::stdout().flush();
    }

    fn changes(&mut self, lines: &[(String, String, String)], is_equal: bool) {
        for (name, state, _) in lines {
            self.change(name, state);
        }
        self.change("digests", if is_equal { "equal" } else { "differ" });
    }

    fn change(&mut self, name: &str, state: &str) {
        let before = self.last_said.insert(name.to_owned(), state.to_owned());
        if before.as_deref() != Some(state) {
            println!("{name}: {state}");
        }
    }

    fn erase(&mut self) {
        if self.live_lines > 0 {
            print!("\x1b[{}A\x1b[J", self.live_lines);
            self.live_lines = 0;
        }
    }
}
