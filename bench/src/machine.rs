// SPDX-License-Identifier: Apache-2.0
//! The machine that figures come from, and how quiet it was.

use std::fmt;
use std::io::Write;
use std::time::Instant;

use anyhow::Result;

/// Syncs timed to tell what one costs here.
const SYNCS: usize = 200;

/// What to know of it when figures are read.
#[derive(Clone, Default, Debug)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    memory_gib: u64,
    kernel: String,
    load: String,
    sync_us: u128,
}

impl Machine {
    /// Looks, and times a few syncs of 4 KiB in the temporary directory.
    ///
    /// # Errors
    ///
    /// When the temporary directory cannot be written.
    pub(crate) fn look() -> Result<Self> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|l| l.starts_with(name));
            let value = line.and_then(|l| l.split(':').nth(1));
            value.unwrap_or("unknown").trim().to_owned()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory
            .split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        Ok(Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load(),
            sync_us: sync_us()?,
        })
    }
}

/// How many processes were ready to run in the last one, five and fifteen minutes.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let numbers: Vec<&str> = text.split_whitespace().take(3).collect();
    numbers.join(" ")
}

fn sync_us() -> Result<u128> {
    let mut file = tempfile::tempfile()?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[1; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed().as_micros());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} processors ({}), {} GiB, Linux {}; load before the run {}; one sync of 4 KiB {} us",
            self.processors, self.processor, self.memory_gib, self.kernel, self.load, self.sync_us
        )
    }
}
