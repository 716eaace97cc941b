// SPDX-License-Identifier: Apache-2.0
//! A disk that is really full: a small file system of its own.
//!
//! A case runs in a second process of the same test program, inside `unshare`, where a tmpfs
//! is mounted that vanishes with the process. Where the system permits no such mount the case
//! is ignored and says so; with `CI=true` that is a failure.

use std::path::Path;
use std::process::Command;

use dulse_kv::{Batch, Engine, ErrorKind};
use libtest_mimic::{Completion, Failed};

use crate::case::{Body, Case, Open, Suite};
use crate::model::{all, put, removes};

/// The suite.
pub const SUITE: Suite = Suite {
    name: "full_disk",
    cases: &[
        Case {
            name: "a_full_disk_refuses_writes_keeps_reading_and_loses_nothing",
            body: Body::SmallDisk(DISK_BYTES, a_full_disk_refuses_writes_and_loses_nothing),
        },
        Case {
            name: "a_disk_that_others_fill_loses_nothing",
            body: Body::SmallDisk(DISK_BYTES, a_disk_that_others_fill_loses_nothing),
        },
        Case {
            name: "a_store_is_opened_on_a_full_disk",
            body: Body::SmallDisk(DISK_BYTES, a_store_is_opened_on_a_full_disk),
        },
    ],
};

/// Small, but larger than what a store takes from the start.
const DISK_BYTES: u64 = 64 << 20;

/// Where the small disk is, in the second process.
const DISK_VARIABLE: &str = "DULSE_SMALL_DISK";

/// Runs a case on a disk of its own.
pub(crate) fn on_small_disk(
    name: &str,
    bytes: u64,
    run: impl FnOnce(&Path),
) -> Result<Completion, Failed> {
    if let Some(dir) = std::env::var_os(DISK_VARIABLE) {
        run(Path::new(&dir));
        return Ok(Completion::Completed);
    }
    let dir = crate::case::scratch()?;
    let Some(unshare) = permitted(dir.path()) else {
        let reason = "NOT RUN: this system permits no mount, not even inside `unshare`";
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(reason.into());
        }
        eprintln!("{name}: {reason}");
        return Ok(Completion::ignored_with(reason));
    };
    let mount = mount_then(bytes, "exec \"$@\"");
    let output = Command::new("unshare")
        .args([unshare, "sh", "-c", &mount])
        .arg(dir.path())
        .arg(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture"])
        .env(DISK_VARIABLE, dir.path())
        .output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() && said.contains("1 passed") {
        return Ok(Completion::Completed);
    }
    Err(said.into())
}

/// How `unshare` may mount here, if at all.
fn permitted(dir: &Path) -> Option<&'static str> {
    ["-m", "-Urm"].into_iter().find(|how| {
        let mut probe = Command::new("unshare");
        let mount = mount_then(1 << 20, "true");
        let output = probe.args([how, "sh", "-c", &mount]).arg(dir).output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// A shell line: mounts a disk at `$0`, then goes on.
fn mount_then(bytes: u64, then: &str) -> String {
    format!("mount -t tmpfs -o size={bytes} tmpfs \"$0\" && {then}")
}

/// Writes until the disk is full; how many batches were taken.
fn fill(engine: &dyn Engine, first: u32, checkpoint_every: u32) -> u32 {
    for n in first.. {
        assert!(n - first < 10_000, "the disk never fills");
        if let Err(error) = engine.write(row(n)) {
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
            return n;
        }
        if n % checkpoint_every == checkpoint_every - 1
            && let Err(error) = engine.checkpoint()
        {
            assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}");
            return n + 1;
        }
    }
    unreachable!("the loop has no end")
}

/// 20,000 bytes that no engine makes smaller.
fn row(n: u32) -> Batch {
    let mut state = u64::from(n) + 1;
    let words = (0..2500).flat_map(|_| {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let value: Vec<u8> = words.collect();
    put(&n.to_be_bytes(), &value)
}

/// Checks that exactly the first `n` batches are there.
fn holds(engine: &dyn Engine, n: u32) {
    let rows = all(engine);
    assert_eq!(rows.len() as u32, n);
    for (at, (key, value)) in (0..).zip(&rows) {
        let (expect_key, expect) = &row(at).writes[0];
        assert!(
            key == expect_key && Some(value) == expect.as_ref(),
            "row {at}"
        );
    }
}

fn a_full_disk_refuses_writes_and_loses_nothing(open: &Open, dir: &Path) {
    let engine = open(dir).unwrap();
    let n = fill(&*engine, 0, 40);
    assert!(
        n > 100,
        "only {n} rows of 20 kB fit a disk of {DISK_BYTES} bytes"
    );
    let mut n = n;
    for _ in 0..3 {
        // A little room may be left, or come back.
        n = fill(&*engine, n, u32::MAX);
        holds(&*engine, n);
    }
    let snapshot = engine.snapshot().unwrap();
    assert_eq!(all(&*snapshot).len() as u32, n);
    drop(snapshot);
    drop(engine);
    // What the last checkpoint covered is there, then a prefix.
    let engine = open(dir).unwrap();
    let kept = all(&*engine).len() as u32;
    assert!(
        (n / 40 * 40..=n).contains(&kept) || kept + 40 >= n,
        "{kept} of {n}"
    );
    holds(&*engine, kept);
}

fn a_disk_that_others_fill_loses_nothing(open: &Open, dir: &Path) {
    let store = dir.join("store");
    std::fs::create_dir(&store).unwrap();
    let engine = open(&store).unwrap();
    for n in 0..50 {
        engine.write(row(n)).unwrap();
    }
    engine.checkpoint().unwrap();
    for n in 50..90 {
        engine.write(row(n)).unwrap();
    }
    // Somebody takes all that is left.
    let other = dir.join("other");
    let mut size = 1 << 20;
    let mut taken = Vec::new();
    while size > 0 {
        taken.resize(taken.len() + size, 7u8);
        if std::fs::write(&other, &taken).is_err() {
            taken.truncate(taken.len() - size);
            std::fs::write(&other, &taken).unwrap();
            size /= 2;
        }
    }
    let n = fill(&*engine, 90, 10);
    holds(&*engine, n);
    // There is room again, so the same open store goes on.
    std::fs::remove_file(&other).unwrap();
    for more in n..n + 40 {
        engine.write(row(more)).unwrap();
    }
    holds(&*engine, n + 40);
    engine.checkpoint().unwrap();
    drop(engine);
    holds(&*open(&store).unwrap(), n + 40);
}

fn a_store_is_opened_on_a_full_disk(open: &Open, dir: &Path) {
    let store = dir.join("store");
    std::fs::create_dir(&store).unwrap();
    let engine = open(&store).unwrap();
    for n in 0..60 {
        engine.write(row(n)).unwrap();
    }
    engine.checkpoint().unwrap();
    let n = fill(&*engine, 60, 1);
    drop(engine);
    std::fs::write(dir.join("other"), vec![7u8; 256 << 20]).unwrap_err();
    match open(&store) {
        Ok(engine) => holds(&*engine, all(&*engine).len() as u32),
        Err(error) => assert_eq!(error.kind(), ErrorKind::DiskFull, "{error}"),
    }
    std::fs::remove_file(dir.join("other")).unwrap();
    let engine = open(&store).unwrap();
    let kept = all(&*engine).len() as u32;
    assert!(kept >= 60 && kept <= n, "{kept} of {n}");
    holds(&*engine, kept);
    engine.write(removes([&0u32.to_be_bytes()[..]])).unwrap();
}
