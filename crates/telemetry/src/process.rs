// SPDX-License-Identifier: Apache-2.0
//! What a process takes of its machine, as Linux tells it.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

crate::declare! {
    RESIDENT: gauge "process_resident_memory_bytes", Bytes, [], Stable,
        "Memory of the process that is in RAM.";
    OPEN_FDS: gauge "process_open_fds", Count, [], Stable,
        "Files and sockets that the process has open.";
    MAX_FDS: gauge "process_max_fds", Count, [], Stable,
        "Files and sockets that the process may have open.";
    CPU: counter "process_cpu_seconds_total", Seconds, [], Stable,
        "CPU time of the process, whole seconds.";
    THREADS: gauge "process_threads", Count, [], Stable,
        "Threads of the process.";
    START: gauge "process_start_time_seconds", Seconds, [], Stable,
        "When the process set up its metrics, since 1970.";
    BUILD: gauge "dulse_build_info", Flag, ["version"], Stable,
        "Always 1; the label tells the version.";
    DISK_FREE: gauge "dulse_disk_free_bytes", Bytes, ["role"], Stable,
        "Space left on the disk of a role's directory.";
    DISK_SIZE: gauge "dulse_disk_size_bytes", Bytes, ["role"], Stable,
        "Size of the disk of a role's directory.";
}

/// Clock ticks per second in /proc, a constant of Linux' interface to programs.
const TICKS_PER_SECOND: u64 = 100;

static STARTED: OnceLock<SystemTime> = OnceLock::new();

/// Sets the gauges of the process. Cost: four small files in /proc; what cannot be read is
/// left as it was.
pub(crate) fn observe() {
    let started = STARTED.get_or_init(SystemTime::now);
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    START.set(since.as_secs_f64());
    BUILD
        .gauge(&[("version", env!("CARGO_PKG_VERSION"))])
        .set(1.0);
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(kib) = field(&status, "VmRSS:") {
            RESIDENT.set(kib as f64 * 1024.0);
        }
        if let Some(threads) = field(&status, "Threads:") {
            THREADS.set(threads as f64);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        OPEN_FDS.set(open.count() as f64);
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(max) = field(&limits, "Max open files") {
        MAX_FDS.set(max as f64);
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(ticks) = cpu_ticks(&stat) {
        CPU.total(ticks / TICKS_PER_SECOND);
    }
}

/// Sets the gauges of the disk that holds a role's directory.
pub fn observe_disk(role: &'static str, dir: &Path) {
    let Ok(disk) = rustix::fs::statvfs(dir) else {
        return;
    };
    let labels = [("role", role)];
    DISK_FREE
        .gauge(&labels)
        .set(disk.f_bavail as f64 * disk.f_frsize as f64);
    DISK_SIZE
        .gauge(&labels)
        .set(disk.f_blocks as f64 * disk.f_frsize as f64);
}

/// The first number behind a key at the beginning of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/self/stat`, proc(5): fields 14 and 15. The second field is
/// the program's name, which may hold anything but ends with the last parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_cannot_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 4 5 6 7 8 120 30 0 0 20 0 9";
        assert_eq!(cpu_ticks(stat), Some(150));
        assert_eq!(cpu_ticks("7 (x) S 1"), None);
    }

    #[test]
    fn fields_are_found_by_the_beginning_of_their_line() {
        let text = "Name:\tx\nVmRSS:\t  1234 kB\nThreads:\t5\n";
        assert_eq!(field(text, "VmRSS:"), Some(1234));
        assert_eq!(field(text, "Threads:"), Some(5));
        assert_eq!(field(text, "Rss"), None);
    }
}
