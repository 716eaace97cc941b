// SPDX-License-Identifier: Apache-2.0
//! What `dulse up` prints: a table once, then live lines, or lines of change off a terminal.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::UpArgs;
use super::plan::Server;
use super::printer::Printer;
use super::watch::Seen;

/// Filers that are behind for less than this are no change of state: under load they always are.
const BEHIND_TIME_MAX: Duration = Duration::from_secs(5);

/// Width of a terminal that does not tell.
const WIDTH_DEFAULT: usize = 80;

/// Prints the cluster's state.
pub(super) struct Display {
    is_terminal: bool,
    printer: Printer,
    rows: Vec<Row>,
    is_table_out: bool,
    /// Characters of each live line.
    live_lines: Vec<usize>,
    last_said: BTreeMap<String, String>,
    unequal_since: Option<Instant>,
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

/// Whether the filers agree, as far as they answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Agreement {
    Equal,
    Behind,
    /// Equal vectors, different digests: never, unless there is a defect.
    Differ,
}

impl Display {
    /// Knows the servers; prints nothing yet.
    pub(super) fn new(args: &UpArgs, servers: &[Server]) -> Self {
        let row = |server: &Server| Row {
            name: server.name.clone(),
            http: server.address.http(),
            grpc: server.address.grpc(),
            engine: server.engine.clone().unwrap_or_else(|| "-".to_owned()),
            // As typed: the whole path would push the table off the screen.
            log: match server.role.log.file_name() {
                Some(name) => args.dir.join("logs").join(name).display().to_string(),
                None => server.role.log.display().to_string(),
            },
            pid: None,
        };
        let filers = servers.iter().filter(|server| server.engine.is_some());
        let first = filers.clone().next().map(|f| f.address.http());
        let other = filers.clone().nth(1).map(|f| f.address.http());
        let first = first.unwrap_or_else(|| format!("{}:{}", args.ip, args.filer_port));
        let other = other.unwrap_or_else(|| first.clone());
        Self {
            is_terminal: std::io::stdout().is_terminal(),
            printer: Printer::start(),
            rows: servers.iter().map(row).collect(),
            is_table_out: false,
            live_lines: Vec::new(),
            last_said: BTreeMap::new(),
            unequal_since: None,
            hint: format!(
                "try   curl -T photo.jpg http://{first}/pics/\nthen  curl http://{other}/pics/photo.jpg\n\
                 Ctrl-C stops everything.\n"
            ),
        }
    }

    /// False once nobody reads any more.
    pub(super) fn is_open(&self) -> bool {
        self.printer.is_open()
    }

    /// Prints a sentence, above the live lines.
    pub(super) fn say(&mut self, text: &str) {
        let erase = self.erase();
        self.print(&format!("{erase}{text}\n"));
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
            let table = self.table();
            self.print(&table);
        }
    }

    fn table(&self) -> String {
        let widest = |of: fn(&Row) -> &str, least: usize| {
            let longest = self.rows.iter().map(|row| of(row).len()).max();
            longest.unwrap_or(0).max(least)
        };
        let http = widest(|row| &row.http, 4);
        let grpc = widest(|row| &row.grpc, 4);
        let line = |name: &str, h: &str, g: &str, pid: &str, engine: &str, log: &str| {
            format!("{name:<9} {h:<http$}  {g:<grpc$}  {pid:>7}  {engine:<7} {log}\n")
        };
        let mut table = line("role", "http", "grpc", "process", "engine", "log");
        for row in &self.rows {
            let pid = row.pid.map_or_else(String::new, |pid| pid.to_string());
            table += &line(&row.name, &row.http, &row.grpc, &pid, &row.engine, &row.log);
        }
        table + &self.hint + "\n"
    }

    /// Shows every filer's state: redrawn on a terminal, else only what changed.
    pub(super) fn refresh(&mut self, filers: &[Seen]) {
        if !self.is_table_out || filers.is_empty() {
            return;
        }
        let agreement = agreement(filers);
        if self.is_terminal {
            self.redraw(filers, agreement);
        } else {
            self.changes(filers, agreement);
        }
    }

    fn redraw(&mut self, filers: &[Seen], agreement: Agreement) {
        let width = width();
        let mut text = self.erase();
        for seen in filers {
            let line = format!("{:<9} {}", seen.name, detail(seen, agreement));
            // A line that wrapped would be two to go back over.
            let shown: String = line.chars().take(width.saturating_sub(1)).collect();
            self.live_lines.push(shown.chars().count());
            text = text + &shown + "\n";
        }
        self.print(&text);
    }

    fn changes(&mut self, filers: &[Seen], agreement: Agreement) {
        for seen in filers {
            self.change(&seen.name, &state(seen));
        }
        let is_ready = |seen: &Seen| seen.filer.as_ref().is_some_and(|filer| filer.ready);
        let is_all_there = filers.iter().all(is_ready);
        let said = match agreement {
            Agreement::Equal => {
                self.unequal_since = None;
                // What a filer that is away has is not known; one that begins has nothing yet.
                if is_all_there { "equal" } else { return }
            }
            Agreement::Differ => {
                "DIFFER though the filers have the same changes; see `dulse verify`"
            }
            Agreement::Behind => {
                let since = *self.unequal_since.get_or_insert_with(Instant::now);
                if since.elapsed() < BEHIND_TIME_MAX {
                    return;
                }
                "differ: changes are on their way"
            }
        };
        self.change("digests", said);
    }

    fn change(&mut self, name: &str, state: &str) {
        let before = self.last_said.insert(name.to_owned(), state.to_owned());
        if before.as_deref() != Some(state) {
            self.print(&format!("{name}: {state}\n"));
        }
    }

    /// What takes the live lines off the screen.
    fn erase(&mut self) -> String {
        // A terminal that became narrower has wrapped them meanwhile.
        let width = width();
        let rows = self.live_lines.drain(..).map(|n| n.div_ceil(width).max(1));
        match rows.sum::<usize>() {
            0 => String::new(),
            // From the first column: the terminal has echoed `^C` by now.
            rows => format!("\r\x1b[{rows}A\x1b[J"),
        }
    }

    fn print(&self, text: &str) {
        self.printer.print(text.to_owned());
    }
}

/// Columns of the terminal.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { WIDTH_DEFAULT } else { columns }
}

fn agreement(filers: &[Seen]) -> Agreement {
    let answered: Vec<_> = filers
        .iter()
        .filter_map(|seen| seen.filer.as_ref())
        .collect();
    let has_equal_digests = answered.windows(2).all(|w| w[0].digest == w[1].digest);
    let has_equal_vectors = answered.windows(2).all(|w| w[0].vector == w[1].vector);
    match (has_equal_digests, has_equal_vectors) {
        (true, _) => Agreement::Equal,
        (false, true) => Agreement::Differ,
        (false, false) => Agreement::Behind,
    }
}

/// What counts as a filer's state.
fn state(seen: &Seen) -> String {
    match &seen.filer {
        None if seen.is_starting => "starting".to_owned(),
        None => "does not answer".to_owned(),
        Some(filer) if filer.ready => "ready".to_owned(),
        Some(filer) => format!("not ready: {}", filer.not_ready_reason),
    }
}

/// The live line of a filer.
fn detail(seen: &Seen, agreement: Agreement) -> String {
    let Some(filer) = &seen.filer else {
        return state(seen);
    };
    let equal = match agreement {
        Agreement::Equal => "digest equal",
        Agreement::Behind => "digest not equal yet",
        Agreement::Differ => "digest DIFFERS",
    };
    let transfer = filer.transfer.as_ref().map_or_else(String::new, |t| {
        format!(
            "  {} of {} rows, {:.0} s left",
            t.rows, t.rows_total, t.eta_seconds
        )
    });
    format!(
        "{:<6} {:>7.0} changes/s  lag {} changes {:.1} s  {equal}  {} entries{transfer}",
        state(seen),
        seen.changes_per_second,
        filer.lag_changes(),
        filer.lag_seconds(),
        filer.entries,
    )
}

#[cfg(test)]
mod tests;
