// SPDX-License-Identifier: Apache-2.0
//! A server's process that does not outlive its test, however that ends.
//!
//! A shell stands between: it ends the server by its id as soon as the pipe to it closes. A
//! signal for the parent's death would follow a thread of the test, which may end before it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// What the shell does: tells the id of what it started, and ends that when its input ends.
const GUARD: &str = "log=$1; shift; \"$@\" </dev/null >>\"$log\" 2>&1 & echo $!; \
                     cat >/dev/null; kill -9 $!; wait";

/// See the module.
pub struct Process {
    shell: Child,
    id: u32,
}

impl Process {
    /// Starts a program.
    ///
    /// - `command`: program, arguments, variables and directory.
    /// - `log`: what it prints goes to the end of this file.
    ///
    /// # Errors
    ///
    /// When there is no shell. A program that cannot be started is one that has ended.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let mut guarded = Command::new("sh");
        guarded.args(["-c", GUARD, "sh"]).arg(log);
        guarded.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            guarded.current_dir(dir);
        }
        let mut shell = guarded
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("no `sh`")?;
        let mut told = String::new();
        let stdout = shell.stdout.take().context("it is piped")?;
        BufReader::new(stdout).read_line(&mut told)?;
        let id = told.trim().parse();
        let id = id.with_context(|| format!("`sh` said `{told}`"))?;
        Ok(Self { shell, id })
    }

    /// Ends it as a machine that loses power would end it; waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the shell is not waited for.
    pub fn kill(&mut self) -> Result<()> {
        drop(self.shell.stdin.take());
        self.shell.wait()?;
        Ok(())
    }

    /// Sends it a signal by its name; after `STOP` it runs no more.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.id.to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()?;
        ensure!(status.success(), "kill -{name}");
        if name == "STOP" {
            stands_still(self.id)?;
        }
        Ok(())
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // Its arguments do not tell: there are none either while it is about to be what it will be.
        let state = state(Path::new(&format!("/proc/{}", self.id)));
        state.is_none_or(|state| matches!(state, 'Z' | 'X'))
    }
}

/// What the kernel says of a process or a thread; nothing of one that is gone.
fn state(of: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(of.join("stat")).ok()?;
    let (_, behind) = stat.rsplit_once(") ")?;
    behind.chars().next()
}

/// Waits until a process that was sent a SIGSTOP runs no more.
///
/// One of its threads takes the signal and stops the others. Until that one is given a processor
/// they run on, and may answer.
///
/// - `id`: of the process.
///
/// # Errors
///
/// When one of its threads still runs after a minute, or it is gone.
pub fn stands_still(id: u32) -> Result<()> {
    let threads = format!("/proc/{id}/task");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let mut runs = None;
        for thread in std::fs::read_dir(&threads).context("it is gone")? {
            let thread = thread?.path();
            // A thread may end meanwhile.
            if state(&thread).is_some_and(|state| !matches!(state, 'T' | 't' | 'Z' | 'X')) {
                runs = Some(thread);
            }
        }
        let Some(runs) = runs else { return Ok(()) };
        ensure!(Instant::now() < end, "{} still runs", runs.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing of it is kept.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping(dir: &Path) -> Process {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $WORD; exec sleep 1000"])
            .env("WORD", "here");
        Process::start(&command, &dir.join("log")).unwrap()
    }

    #[test]
    fn what_it_prints_is_kept_and_a_killed_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = sleeping(dir.path());
        let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        while log() != "here\n" {
            assert!(!process.has_ended());
            std::thread::yield_now();
        }
        process.signal("STOP").unwrap();
        process.kill().unwrap();
        assert!(process.has_ended());
        assert!(process.signal("CONT").is_err());
    }

    #[test]
    fn a_stopped_one_does_nothing_more() {
        let dir = tempfile::tempdir().unwrap();
        let counted = dir.path().join("counted");
        let mut command = Command::new("sh");
        let count = "while :; do echo >>\"$1\"; done";
        command.args(["-c", count, "sh"]).arg(&counted);
        let process = Process::start(&command, &dir.path().join("log")).unwrap();
        let size = || std::fs::metadata(&counted).map_or(0, |file| file.len());
        for _ in 0..20 {
            let before = size();
            while size() == before {
                assert!(!process.has_ended());
                std::thread::yield_now();
            }
            process.signal("STOP").unwrap();
            let stopped = size();
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(size(), stopped);
            process.signal("CONT").unwrap();
        }
    }

    /// A test that is killed closes its pipe and does nothing else.
    #[test]
    fn it_ends_when_nobody_holds_its_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = sleeping(dir.path());
        drop(process.shell.stdin.take());
        while !process.has_ended() {
            std::thread::yield_now();
        }
    }
}
