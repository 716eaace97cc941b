// SPDX-License-Identifier: Apache-2.0
//! `dulse import`: an upstream filer's entries into a new store of ours.

mod report;
mod scratch;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use dulse_import::{Counts, Failed, Problems};
use dulse_merge::change::MemberStep;
use dulse_registry::{ENGINES, open_embedded};
use dulse_replica::{Durability, ReplicaStore};
use dulse_types::ServerAddress;

use crate::exit::Usage;
use crate::status::Format;
use report::{Progress, Report};
use scratch::{Scratch, check_apart};
use source::{From, Opened};

/// Arguments of `dulse import`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Reads what upstream's filer wrote and changes nothing of it. Interrupted, it is \
                  run again and goes on. Import at one filer of a new cluster; the others start \
                  empty and take all from it.\n\
                  Exit code: 0 when the store is as the source; 1 when something could not be \
                  taken or is not as it was; 2 when the call cannot work as typed; 3 when it \
                  failed."
)]
pub(crate) struct ImportArgs {
    /// What to read: `leveldb:DIR`, `leveldb2:DIR` (upstream's default), `leveldb3:DIR`,
    /// `rocksdb:DIR` (where this program was built with RocksDB), `sqlite:FILE` of a stopped filer, or a copy of one; `meta:FILE` that `fs.meta.save` wrote
    #[arg(long)]
    from: From,
    /// The new store; `DIR.dulse` or `FILE.dulse` by default, where filer.toml looks for it
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Engine of the new store; by default the one that filer.toml's section for the source
    /// selects, redb for a file
    #[arg(long)]
    engine: Option<String>,
    /// Where the filer will run, `host:port`; a hint: it may run elsewhere
    #[arg(long, default_value = "127.0.0.1:8888")]
    address: ServerAddress,
    /// Finishes although something could not be taken; it is listed
    #[arg(long)]
    skip_refused: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What was settled of the arguments.
struct Plan {
    from: From,
    dir: PathBuf,
    engine: String,
    /// What goes on with it.
    command: String,
}

/// Imports; whether the store is as the source.
///
/// # Errors
///
/// `Usage`, or when source or store fail.
pub(crate) async fn import(args: ImportArgs) -> Result<bool> {
    let plan = plan(&args)?;
    check_target(&plan)?;
    check_apart(plan.from.place(), &plan.dir)?;
    let scratch = match plan.from.is_copied() {
        true => Some(Scratch::make(with_suffix(&plan.dir, ".source"))?),
        false => None,
    };
    let (from, copy) = (plan.from.clone(), scratch.as_ref().map(Scratch::copy));
    let opened = tokio::task::spawn_blocking(move || {
        let copy = copy.unwrap_or_default();
        from.open(&copy)
    });
    let opened = opened.await?;
    let opened = opened.map_err(|e| Usage(crate::roles::chain(&e)))?;
    dulse_registry::begin_import(&plan.dir, &plan.command)
        .with_context(|| format!("make `{}`", plan.dir.display()))?;
    let store = open(&plan).await?;
    if store.shared().is_fresh() {
        // Order: before the first entry. Whoever joins later finds a member that has them.
        let member = store.shared().origin();
        let address = args.address.to_string();
        let joined = store.member(MemberStep::Join { member, address }).await;
        joined.context("found a cluster")?;
    }
    let store = Arc::new(store);
    let working = Arc::clone(&store);
    let worked = tokio::task::spawn_blocking(move || run(&opened, &working)).await?;
    // Everything is on disk before the note that says otherwise goes.
    tokio::task::spawn_blocking(move || store.stop()).await?;
    let report = worked.map_err(|error| match error {
        Failed::Source(error) => anyhow::Error::new(error),
        other => anyhow::Error::new(other),
    });
    let report = report.with_context(|| {
        format!(
            "import into `{}`; run it again, it goes on",
            plan.dir.display()
        )
    })?;
    let is_whole = report.wrong.count == 0;
    let is_done = is_whole && (args.skip_refused || report.refused.count == 0);
    if is_done {
        dulse_registry::finish_import(&plan.dir)
            .with_context(|| format!("finish the import into `{}`", plan.dir.display()))?;
    }
    report.print(args.format, &plan.dir, &plan.engine, is_done)?;
    Ok(is_done)
}

fn plan(args: &ImportArgs) -> Result<Plan> {
    let engine = args.engine.as_deref().unwrap_or(args.from.engine());
    if !ENGINES.contains(&engine) {
        let have = ENGINES.join(", ");
        let elsewhere = dulse_registry::build_with(engine).unwrap_or_default();
        let text = format!(
            "this program has no engine `{engine}`; expected --engine with one of \
             {have}{elsewhere}"
        );
        return Err(Usage(text).into());
    }
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => args.from.beside(args.from.place(), ".dulse"),
    };
    let command = format!(
        "dulse import --from {} --engine {engine} --dir {}",
        args.from,
        dir.display()
    );
    Ok(Plan {
        from: args.from.clone(),
        dir,
        engine: engine.to_owned(),
        command,
    })
}

/// An import fills a new store, or goes on with the one that it began.
fn check_target(plan: &Plan) -> Result<()> {
    let dir = plan.dir.display();
    match dulse_registry::unfinished_import(&plan.dir) {
        Some(command) if command == plan.command => Ok(()),
        Some(command) => Err(Usage(format!(
            "`{dir}` is being filled by another import; go on with it:\n  {command}\nor remove \
             the directory"
        ))
        .into()),
        None if dulse_registry::is_ours(&plan.dir) => Err(Usage(format!(
            "`{dir}` holds a store already; expected --dir with a new directory"
        ))
        .into()),
        None => Ok(()),
    }
}

async fn open(plan: &Plan) -> Result<ReplicaStore> {
    let random = u64::from_be_bytes(crate::roles::random_bytes()?);
    let (engine, dir) = (plan.engine.clone(), plan.dir.clone());
    let opened = tokio::task::spawn_blocking(move || {
        open_embedded(&engine, &dir, &Durability::Fsync.into(), random)
    });
    let opened = opened.await?;
    Ok(opened.map_err(|e| Usage(crate::roles::chain(&e)))?)
}

/// Fills the store and compares it with the source.
fn run(source: &Opened, store: &ReplicaStore) -> Result<Report, Failed> {
    let mut progress = Progress::new("imported");
    let mut filled = source.fill(store, &mut |counts| progress.show(counts))?;
    let mut progress = Progress::new("compared");
    let (compared, wrong): (Counts, Problems) =
        source.verify(store, &mut |counts| progress.show(counts))?;
    if filled.n_unreached > 0 {
        let n = filled.n_unreached;
        let what = format!("{n} entries in directories that do not exist");
        filled.refused.add(
            &what,
            "they were not come upon, and their paths are not known",
        );
    }
    Ok(Report {
        counts: filled.counts,
        refused: filled.refused,
        n_apart: filled.n_apart,
        compared,
        wrong,
    })
}

/// A path with something behind its name.
fn with_suffix(place: &Path, suffix: &str) -> PathBuf {
    let place: PathBuf = place.components().collect();
    let mut name = place.into_os_string();
    name.push(suffix);
    name.into()
}
