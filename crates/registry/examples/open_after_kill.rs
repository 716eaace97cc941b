// SPDX-License-Identifier: Apache-2.0
//! How long a store takes to open after kill -9 with many changes in its log.
//!
//! `open_after_kill DIR ENGINE CHANGES`: a child makes the changes and kills itself right
//! after the last one was acknowledged; then the store is opened and the time printed. Nothing is asserted.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Instant;

use dulse_registry::open_embedded;
use dulse_replica::Durability;
use dulse_store::{EntryStore, Step, Transaction};
use dulse_types::entry::UnknownFields;
use dulse_types::{EntryFields, FullPath};

type Failure = Box<dyn std::error::Error>;

/// Callers at once.
const GROUP: usize = 512;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, engine, n_changes, rest @ ..] = &arguments[..] else {
        return Err("expected DIR ENGINE CHANGES".into());
    };
    if rest.is_empty() {
        let child = Command::new(std::env::current_exe()?)
            .args([dir, engine, n_changes, "child"])
            .status()?;
        println!("the writer ended with {child}");
        let began = Instant::now();
        let store = open_embedded(engine, Path::new(dir), &Durability::Fsync.into(), 1)?;
        let seconds = began.elapsed().as_secs_f64();
        let (entries, log) = (store.shared().n_entries(), store.shared().journal());
        let bytes = log.size_bytes();
        println!("{engine}: {entries} entries, {bytes} bytes of log, opened in {seconds:.3} s");
        return Ok(());
    }
    write(Path::new(dir), engine, n_changes.parse()?)
}

fn write(dir: &Path, engine: &str, n_changes: usize) -> Result<(), Failure> {
    let store = open_embedded(engine, dir, &Durability::Fsync.into(), 1 << 32 | 1)?;
    for from in (0..n_changes).step_by(GROUP) {
        let (done, answers) = channel();
        for n in from..from + GROUP {
            let done = done.clone();
            let mut fields = EntryFields::default();
            fields.attrs_mut().file_mode = 0o644;
            let transaction = Transaction {
                steps: vec![Step::Create {
                    path: FullPath::parse(&format!("/d{}/f{n}", n % 1000))?,
                    entry: fields.to_entry(&UnknownFields::default()),
                }],
                ..Transaction::default()
            };
            let answer = Box::new(move |result: Result<_, _>| drop(done.send(result.map(drop))));
            store.commit(transaction, answer);
        }
        for _ in 0..GROUP {
            answers.recv()??;
        }
    }
    let me = std::process::id().to_string();
    Command::new("kill").args(["-9", &me]).status()?;
    Err("still alive".into())
}
