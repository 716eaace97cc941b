// SPDX-License-Identifier: Apache-2.0
//! One process of a cluster: started, frozen, killed, started again.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dulse_shared_testkit::stands_still;
use rustix::process::{Pid, Signal, kill_process};

use crate::program;

/// One running role; killed when dropped.
pub struct Role {
    child: Child,
    program: PathBuf,
    arguments: Vec<String>,
    /// What it says; `None` where the developer wants to see it (`DULSE_TEST_LOGS`).
    log: Option<File>,
}

/// Whose program plays a role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// Ours.
    Ours,
    /// Upstream's 4.48.
    Upstreams,
}

impl Role {
    pub(crate) fn start(arguments: Vec<String>) -> Result<Self> {
        Self::start_program(program()?, arguments)
    }

    /// Starts any program as a role.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_program(program: PathBuf, arguments: Vec<String>) -> Result<Self> {
        let is_shown = std::env::var_os("DULSE_TEST_LOGS").is_some();
        let log = if is_shown {
            None
        } else {
            Some(tempfile::tempfile()?)
        };
        let child = Command::new(&program)
            .args(&arguments)
            // Its end stops the role, so that none outlives the test.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(match &log {
                Some(log) => Stdio::from(log.try_clone()?),
                None => Stdio::inherit(),
            })
            .spawn()?;
        Ok(Self {
            child,
            program,
            arguments,
            log,
        })
    }

    /// What it has said since it was started.
    ///
    /// # Errors
    ///
    /// When that cannot be read, or goes elsewhere (`DULSE_TEST_LOGS`).
    pub fn said(&self) -> Result<String> {
        let log = self.log.as_ref().context("DULSE_TEST_LOGS is set")?;
        let mut said = vec![0; usize::try_from(log.metadata()?.len())?];
        // The process writes at the place that it shares with this file.
        log.read_exact_at(&mut said, 0)?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Greatest resident memory since it was started, in bytes (`VmHWM`).
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn peak_memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path)?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Stops it from running, without its knowing.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        stands_still(self.child.id())
    }

    /// SIGHUP: has it read `security.toml` again.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// Lets it run again.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// kill -9.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again as it was started.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        *self = Self::start_program(self.program.clone(), self.arguments.clone())?;
        Ok(())
    }

    /// Starts it again with another value of one of its flags.
    ///
    /// # Errors
    ///
    /// When it has no such flag or cannot be started.
    pub fn restart_with(&mut self, flag: &str, value: &str) -> Result<()> {
        self.restart_replacing(&format!("--{flag}="), value)
    }

    /// The same for a flag as it is written, with its dashes and `=`.
    ///
    /// # Errors
    ///
    /// When it has no such flag or cannot be started.
    pub fn restart_replacing(&mut self, prefix: &str, value: &str) -> Result<()> {
        let mut arguments = self.arguments.clone();
        let of_flag = arguments.iter_mut().find(|a| a.starts_with(prefix));
        *of_flag.with_context(|| format!("no {prefix}"))? = format!("{prefix}{value}");
        *self = Self::start_program(self.program.clone(), arguments)?;
        Ok(())
    }

    /// Starts it again with one more argument.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn restart_adding(&mut self, argument: &str) -> Result<()> {
        let mut arguments = self.arguments.clone();
        arguments.push(argument.to_owned());
        *self = Self::start_program(self.program.clone(), arguments)?;
        Ok(())
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Runs it again as it was started, until it ends by itself.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn run(&self) -> Result<std::process::Output> {
        let mut command = Command::new(&self.program);
        Ok(command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .output()?)
    }

    /// Asks it to stop and waits.
    ///
    /// # Errors
    ///
    /// When it does not stop within ten seconds.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{:?} did not stop within ten seconds", self.arguments);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
