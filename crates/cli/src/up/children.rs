// SPDX-License-Identifier: Apache-2.0
//! Child processes of `dulse up`: started, watched, restarted, stopped.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long a role that died stays down before it is started again.
pub(super) const RESTART_DELAY: Duration = Duration::from_secs(3);

/// Bytes of a log that are looked at for its last line.
const LAST_LINE_MAX: u64 = 2_000;

/// How long a role may take to stop before it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(9);

/// One role of the cluster: how it is started and where it logs.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// `master`, `volume`, `filer 1` …
    pub(super) name: String,
    /// Arguments of the program.
    pub(super) arguments: Vec<String>,
    /// Where its output goes, appended.
    pub(super) log: PathBuf,
}

/// What happened to a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// It runs with this process id.
    Started {
        /// Which role.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// It ended by itself and will be started again.
    Died {
        /// Which role.
        name: String,
        /// How it ended.
        status: String,
        /// The last line of its log, where it ended by itself.
        last: Option<String>,
    },
}

/// Keeps one role running until `stop` turns true; then ends it within ten seconds.
///
/// # Errors
///
/// When the program cannot be started at all.
pub(super) async fn supervise(
    role: Role,
    events: mpsc::Sender<Event>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    loop {
        let mut child = start(&role)?;
        let pid = child.id().unwrap_or(0);
        // Waiting would close it, and its end tells the child to stop.
        let _held = child.stdin.take();
        let started = Event::Started {
            name: role.name.clone(),
            pid,
        };
        if events.send(started).await.is_err() {
            return end(&mut child).await;
        }
        let status = tokio::select! {
            status = child.wait() => status,
            () = stopping(&mut stop) => return end(&mut child).await,
        };
        // Who was killed had no last word.
        let has_said_why = status.as_ref().is_ok_and(|s| s.code().is_some());
        let status = status.map_or_else(|e| e.to_string(), how);
        let died = Event::Died {
            name: role.name.clone(),
            status,
            last: has_said_why.then(|| last_line(&role.log)).flatten(),
        };
        if events.send(died).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = sleep(RESTART_DELAY) => {}
            () = stopping(&mut stop) => return Ok(()),
        }
    }
}

/// How a role ended, in an operator's words.
fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Waits for the word to stop; whoever gives it being gone means the same.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn start(role: &Role) -> Result<Child> {
    let program = std::env::current_exe().context("find the own program")?;
    let log = open_log(&role.log)?;
    Command::new(program)
        .args(&role.arguments)
        // Held open by us: the child ends when it closes, even if we are killed.
        .stdin(Stdio::piped())
        .stdout(log.try_clone().context("share the log file")?)
        .stderr(log)
        // Ctrl-C in the terminal reaches us alone; we stop the roles in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {}", role.name))
}

fn open_log(path: &Path) -> Result<File> {
    let open = OpenOptions::new().create(true).append(true).open(path);
    open.with_context(|| format!("open the log `{}`", path.display()))
}

/// The last line of a log, which tells why a role ended.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(LAST_LINE_MAX);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    let text = String::from_utf8_lossy(&end);
    let line = text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    Some(line.strip_prefix("dulse: ").unwrap_or(line).to_owned())
}

async fn end(child: &mut Child) -> Result<()> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // It may have ended meanwhile, which is what we want.
        let _ = kill_process(pid, Signal::TERM);
    }
    if timeout(STOP_TIME_MAX, child.wait()).await.is_err() {
        child
            .kill()
            .await
            .context("kill a role that does not stop")?;
    }
    Ok(())
}
