// SPDX-License-Identifier: Apache-2.0
//! What the processes of a comparison do: fill and read, open.

use std::collections::VecDeque;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use dulse_registry::open_embedded;
use dulse_replica::{Durability, ReplicaStore};
use dulse_store::{Commit, EntryStore, Error, ListRange, Step, Transaction};
use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{EntryFields, FullPath, UnknownFields};
use serde_json::json;

use crate::entries::{FILES_PER_DIRECTORY, directory, file, name, scatter};
use crate::process::cpu_of;

/// How long a store is written to before it is killed: more than one checkpoint.
pub(crate) const BEFORE_KILL: Duration = Duration::from_secs(8);

/// Creates that are on their way at once, as of so many clients.
const WINDOW: usize = 64;

/// Lookups and listings, of random places.
const GETS: u64 = 200_000;
const LISTS: u64 = 1_000;

/// Writes behind the figures, should nobody kill the process.
const BEHIND_MAX: u64 = 2_000_000;

/// Set of the entries that are measured, and of those that are written behind.
const SET: &str = "engines";
const BEHIND: &str = "behind";

/// Arguments of such a process.
#[derive(Args, Debug)]
pub(crate) struct WorkArgs {
    #[arg(long)]
    engine: String,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    entries: u64,
}

/// Fills a store, reads from it, prints figures, and writes on until it is killed.
///
/// # Errors
///
/// When the store fails.
pub(crate) fn fill(args: &WorkArgs) -> Result<()> {
    let store = open(args)?;
    let mut sent = Sent::default();
    let puts = timed(args.entries, || {
        (0..args.entries).try_for_each(|n| sent.create(&store, SET, n))?;
        sent.all()
    })?;
    let gets = timed(GETS, || {
        (0..GETS).try_for_each(|n| find(&store, scatter(n) % args.entries))
    })?;
    let n_directories = args.entries.div_ceil(FILES_PER_DIRECTORY);
    let lists = timed(LISTS, || {
        (0..LISTS).try_for_each(|n| list(&store, scatter(n) % n_directories, args.entries))
    })?;
    let engine_bytes = engine_bytes(&args.dir)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let figures = json!({
        "engine": args.engine,
        "put_per_s": puts.per_second, "put_cpu_us": puts.cpu_us,
        "get_per_s": gets.per_second, "get_cpu_us": gets.cpu_us,
        "list_per_s": lists.per_second, "list_cpu_us": lists.cpu_us,
        "engine_mib": mib(engine_bytes),
        "engine_bytes_per_entry": engine_bytes as f64 / args.entries.max(1) as f64,
        "resident_mib": mib(resident("VmRSS:")?),
        "resident_max_mib": mib(resident("VmHWM:")?),
    });
    println!("{figures}");
    for n in 0..BEHIND_MAX {
        sent.create(&store, BEHIND, n)?;
    }
    anyhow::bail!("nobody killed it")
}

/// Opens what a kill left and prints how long that took; every entry that was measured is there.
///
/// # Errors
///
/// When it does not open, or an entry is missing.
pub(crate) fn open_again(args: &WorkArgs) -> Result<()> {
    let began = Instant::now();
    let store = open(args)?;
    let open_s = began.elapsed().as_secs_f64();
    for n in 0..args.entries.div_ceil(FILES_PER_DIRECTORY) {
        list(&store, n, args.entries)?;
    }
    println!("{}", json!({ "open_s": open_s }));
    Ok(())
}

fn open(args: &WorkArgs) -> Result<ReplicaStore> {
    let store = args.dir.join("store");
    let writes = Durability::Fsync.into();
    Ok(open_embedded(&args.engine, &store, &writes, 1 << 32 | 1)?)
}

/// Creates on their way.
#[derive(Default)]
struct Sent(VecDeque<Receiver<Result<Commit, Error>>>);

impl Sent {
    fn create(&mut self, store: &ReplicaStore, set: &str, n: u64) -> Result<()> {
        if n.is_multiple_of(FILES_PER_DIRECTORY) {
            let mut fields = EntryFields::default();
            fields.attrs_mut().file_mode = MODE_DIRECTORY | 0o755;
            let entry = fields.to_entry(&UnknownFields::default());
            self.send(store, &directory(set, n), entry)?;
        }
        let path = format!("{}/{}", directory(set, n), name(n));
        let (entry, _) = file(n, 0).take_name()?;
        self.send(store, &path, entry)
    }

    fn send(&mut self, store: &ReplicaStore, path: &str, entry: dulse_types::Entry) -> Result<()> {
        if self.0.len() >= WINDOW {
            self.one()?;
        }
        let path = FullPath::parse(path)?;
        let transaction = Transaction {
            steps: vec![Step::Create { path, entry }],
            ..Transaction::default()
        };
        let (tell, answer) = channel();
        store.commit(transaction, Box::new(move |done| drop(tell.send(done))));
        self.0.push_back(answer);
        Ok(())
    }

    fn one(&mut self) -> Result<()> {
        if let Some(first) = self.0.pop_front() {
            first.recv().context("the store stopped")??;
        }
        Ok(())
    }

    fn all(&mut self) -> Result<()> {
        while !self.0.is_empty() {
            self.one()?;
        }
        Ok(())
    }
}

fn find(store: &ReplicaStore, n: u64) -> Result<()> {
    let path = FullPath::parse(&format!("{}/{}", directory(SET, n), name(n)))?;
    let found = store.find(&path)?;
    ensure!(black_box(found).is_some(), "{path} is missing");
    Ok(())
}

/// Lists the n-th directory; all of its entries are there.
fn list(store: &ReplicaStore, n: u64, entries: u64) -> Result<()> {
    let first = n * FILES_PER_DIRECTORY;
    let range = ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: false,
        limit: 2 * usize::try_from(FILES_PER_DIRECTORY)?,
    };
    let path = FullPath::parse(&directory(SET, first))?;
    let listed = black_box(store.list(&path, &range)?).len() as u64;
    let expect = FILES_PER_DIRECTORY.min(entries - first);
    ensure!(listed == expect, "{path}: {listed} entries of {expect}");
    Ok(())
}

struct Timed {
    per_second: f64,
    /// Of all threads.
    cpu_us: f64,
}

fn timed(n: u64, work: impl FnOnce() -> Result<()>) -> Result<Timed> {
    let cpu = || cpu_of(std::process::id());
    let (began, used) = (Instant::now(), cpu()?);
    work()?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), cpu()?.saturating_sub(used));
    Ok(Timed {
        per_second: n as f64 / seconds,
        cpu_us: used.as_secs_f64() * 1e6 / n.max(1) as f64,
    })
}

/// Bytes on disk of all but the journal.
fn engine_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for item in std::fs::read_dir(dir.join("store"))? {
        let path = item?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "journal") {
            for item in std::fs::read_dir(&path)? {
                // Tables come and go.
                bytes += item?.metadata().map_or(0, |file| file.blocks() * 512);
            }
        } else if path.is_file() {
            bytes += path.metadata().map_or(0, |file| file.blocks() * 512);
        }
    }
    Ok(bytes)
}

/// Memory of this process, in bytes.
fn resident(which: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(which));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("memory in /proc/self/status")?.parse::<u64>()? << 10)
}
