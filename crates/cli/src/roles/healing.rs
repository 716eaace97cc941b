// SPDX-License-Identifier: Apache-2.0
//! A filer whose store is damaged: set aside and rebuilt from the others, or refused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dulse_registry::{OpenError, Writes, open_with_clock};
use dulse_replica::{Clock, ReplicaStore};
use dulse_types::ServerAddress;

use super::args::FilerArgs;
use super::{chain, random_bytes, usage};
use crate::exit::{self, Damaged};
use crate::status::ask;

/// How long another filer with a whole copy is looked for.
const LOOK_FOR: Duration = Duration::from_secs(15);

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a master may take to tell who is there.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// Opens the store; a damaged one is set aside when another filer has a copy.
///
/// # Errors
///
/// `Damaged` when this may be the only copy; `Usage` when it cannot be opened for another
/// reason.
pub(super) async fn open(
    args: &FilerArgs,
    own: &ServerAddress,
    writes: &Writes,
    clock: &Arc<dyn Clock>,
) -> Result<ReplicaStore> {
    note_panics(&args.dir);
    let error = match open_once(args, writes, clock).await? {
        Ok(store) => return Ok(guard(store, &args.dir)),
        Err(error) if error.is_damage() => error,
        Err(error) => return Err(usage(error)),
    };
    let why = chain(&error);
    tracing::error!(dir = %args.dir.display(), %why, "the store is damaged");
    let Some(copy) = other_copy(args, own).await else {
        let dir = args.dir.display();
        let text = format!(
            "the store in `{dir}` is damaged ({why}) and no other filer of this cluster that is \
             ready answers, so it may be the only copy and is left as it is; start another filer \
             of the cluster first, or restore the directory from a backup"
        );
        return Err(Damaged(text).into());
    };
    let aside = match dulse_registry::quarantine(&args.dir, &why) {
        // Whoever supervises it need not try again: somebody must look at the disk.
        Err(error @ OpenError::TooManyAside(_)) => {
            let dir = args.dir.display();
            let text =
                format!("the store in `{dir}` is damaged ({why}) and left as it is: {error}");
            return Err(Damaged(text).into());
        }
        aside => aside
            .with_context(|| format!("set the damaged store in `{}` aside", args.dir.display()))?,
    };
    tracing::error!(
        aside = %aside.display(),
        from = %copy,
        "set the damaged store aside; its place is taken by a new one that is filled from the \
         other filers"
    );
    let store = open_once(args, writes, clock).await?.map_err(usage)?;
    Ok(guard(store, &args.dir))
}

async fn open_once(
    args: &FilerArgs,
    writes: &Writes,
    clock: &Arc<dyn Clock>,
) -> Result<Result<ReplicaStore, OpenError>> {
    let (engine, dir, writes) = (args.engine.clone(), args.dir.clone(), writes.clone());
    let random = u64::from_be_bytes(random_bytes()?);
    let clock = Arc::clone(clock);
    let open = move || open_with_clock(&engine, &dir, &writes, random, clock);
    Ok(tokio::task::spawn_blocking(open).await?)
}

/// Another filer of the cluster that is ready and has a history.
async fn other_copy(args: &FilerArgs, own: &ServerAddress) -> Option<String> {
    // Who founds alone asks nobody.
    if args.alone {
        return None;
    }
    let deadline = Instant::now() + LOOK_FOR;
    let own = own.to_string();
    loop {
        for master in &args.master {
            let until = Instant::now() + ANSWER_TIME_MAX;
            let master = std::slice::from_ref(master);
            let Ok(cluster) = ask::cluster(master, &args.filer_group, until).await else {
                continue;
            };
            let mut others = cluster.filers.into_iter();
            let copy = others
                .find(|filer| filer.ready && !filer.vector.is_empty() && filer.address != own);
            if let Some(copy) = copy {
                return Some(copy.address);
            }
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// From now on an engine that cannot read what it wrote ends the process: the next start
/// checks the store.
fn guard(store: ReplicaStore, dir: &Path) -> ReplicaStore {
    let dir = dir.to_owned();
    dulse_registry::on_corrupt(move |why| {
        tracing::error!(%why, "the store cannot be read; it is checked at the next start");
        if let Err(error) = dulse_registry::suspect(&dir, why) {
            tracing::error!(%error, "cannot note that the store must be checked");
        }
        std::process::exit(exit::DAMAGED.into());
    });
    store
}

/// An engine may panic over a damaged file: the next start checks it then.
fn note_panics(dir: &Path) {
    let dir: PathBuf = dir.to_owned();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        let at = info.location().map(|at| at.file()).unwrap_or_default();
        if dulse_registry::is_of_an_engine(at) {
            // Whether it can be noted or not, this process cannot go on.
            let _ = dulse_registry::suspect(&dir, &format!("the engine panicked: {info}"));
            std::process::abort();
        }
    }));
}
