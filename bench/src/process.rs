// SPDX-License-Identifier: Apache-2.0
//! A measured process: started, asked for its CPU time and memory, ended by its id.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end when asked.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);

/// Lines of its log that are told of a process that ended by itself.
const TOLD_MAX: usize = 60;

/// Unit of the times in `/proc/PID/stat`: Linux gives it to user space as 100 on every
/// architecture that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// A child; killed when dropped.
pub(crate) struct Process {
    child: Child,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    is_stopped: bool,
}

impl Process {
    /// Starts a program; what it prints goes to the end of `log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start(program: &Path, arguments: Vec<OsString>, log: &Path) -> Result<Self> {
        let to = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        // The kernel ends it with us, so that no server outlives a killed benchmark.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self {
            child,
            program: program.to_owned(),
            arguments,
            log: log.to_owned(),
            is_stopped: false,
        })
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    ///
    /// When it does not end within [`STOP_TIME_MAX`].
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.is_stopped = true;
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIME_MAX;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!(
                    "{} did not end within {STOP_TIME_MAX:?}; its log is {}",
                    self.program.display(),
                    self.log.display()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Starts it again as it was started.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let next = Self::start(&self.program, self.arguments.clone(), &self.log)?;
        *self = next;
        Ok(())
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and nobody has asked why.
    pub(crate) fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let state = stat.ok().and_then(|stat| {
            let mut fields = behind_name(&stat)?;
            fields.next().map(str::to_owned)
        });
        state.is_none_or(|state| state == "Z")
    }

    /// How its log ends.
    pub(crate) fn end_of_log(&self) -> String {
        last_lines(&self.log)
    }

    /// CPU time so far, user and system, all threads. Resolution: one tick, usually 10 ms.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id()).with_context(|| {
            format!(
                "{} is gone; its log is {}",
                self.program.display(),
                self.log.display()
            )
        })
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.and_then(|l| l.split_whitespace().next());
        Ok(kib.context("VmRSS in /proc/PID/status")?.parse::<u64>()? << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it printed goes with the run's directory, and calls to it fail with no more than
        // a refused connection.
        if let (false, Ok(Some(status))) = (self.is_stopped, self.child.try_wait()) {
            eprintln!(
                "{} {:?} had ended by itself, {status}; it printed last:\n{}",
                self.program.display(),
                self.arguments,
                last_lines(&self.log)
            );
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a text file, [`TOLD_MAX`] lines of it.
fn last_lines(file: &Path) -> String {
    match std::fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TOLD_MAX)..].join("\n")
        }
        Err(e) => format!("(not known: {}: {e})", file.display()),
    }
}

/// `utime + stime` of a process.
///
/// # Errors
///
/// When there is none with this id.
pub(crate) fn cpu_of(pid: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks_of(&text).context("utime and stime in /proc/PID/stat")?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The same of all that descend from a process, with their children that have ended, but not of
/// some and of what descends from these.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub(crate) fn cpu_of_descendants(of: u32, without: &[u32]) -> Result<Duration> {
    let mut all = Vec::new();
    for item in std::fs::read_dir("/proc")? {
        let name = item?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        if let Some((parent, ticks)) = family_of(&stat)
            && !without.contains(&id)
        {
            all.push((id, parent, ticks));
        }
    }
    let (mut parents, mut ticks) = (vec![of], 0);
    while let Some(parent) = parents.pop() {
        for (id, _, used) in all.iter().filter(|child| child.1 == parent) {
            ticks += used;
            parents.push(*id);
        }
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Fields 14 and 15.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = behind_name(stat)?.skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The parent, and the ticks of a process with its children that have ended: fields 4, 14 to 17.
fn family_of(stat: &str) -> Option<(u32, u64)> {
    let mut fields = behind_name(stat)?.skip(1);
    let parent = fields.next()?.parse().ok()?;
    let ticks = fields.skip(9).take(4).map(|field| field.parse().ok());
    let ticks: Option<Vec<u64>> = ticks.collect();
    Some((parent, ticks?.iter().sum()))
}

/// Fields from the third on; the name before them may hold spaces and brackets.
fn behind_name(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    Some(behind_name.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 3 4 20 0 9 0";
        assert_eq!(ticks_of(stat), Some(300));
        assert_eq!(family_of(stat), Some((1, 307)));
    }

    #[test]
    fn a_process_that_ended_by_itself_is_seen() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let start = |program: &str, argument: &str| {
            let log = dir.path().join("log");
            Process::start(Path::new(program), vec![argument.into()], &log)
        };
        assert!(!start("sleep", "1000")?.has_ended());
        let ended = start("true", "")?;
        while !ended.has_ended() {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// A shell between stands for what a database's server starts.
    #[test]
    fn cpu_time_of_grandchildren_counts_and_that_of_others_does_not() -> Result<()> {
        let mut shell = Command::new("sh")
            .args([
                "-c",
                "sh -c 'while :; do :; done' & echo $!; cat; kill -9 $!",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let own = std::process::id();
        let began = Instant::now();
        while cpu_of_descendants(own, &[])? < Duration::from_millis(50) {
            assert!(began.elapsed() < Duration::from_secs(60), "it stands still");
        }
        let without = cpu_of_descendants(own, &[shell.id()])?;
        drop(shell.stdin.take());
        shell.wait()?;
        assert!(without < Duration::from_millis(50), "{without:?}");
        Ok(())
    }

    #[test]
    fn the_last_lines_of_a_log_are_told() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let log = dir.path().join("log");
        let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        std::fs::write(&log, lines.join("\n"))?;
        assert_eq!(last_lines(&log), lines[100 - TOLD_MAX..].join("\n"));
        std::fs::write(&log, "one\n")?;
        assert_eq!(last_lines(&log), "one");
        assert!(last_lines(dir.path()).contains("not known"));
        Ok(())
    }

    #[test]
    fn cpu_time_of_this_process_grows() -> Result<()> {
        let before = cpu_of(std::process::id())?;
        let began = Instant::now();
        while cpu_of(std::process::id())? < before + Duration::from_millis(20) {
            assert!(began.elapsed() < Duration::from_secs(60), "it stands still");
        }
        Ok(())
    }
}
