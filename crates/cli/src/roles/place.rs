// SPDX-License-Identifier: Apache-2.0
//! Where a filer keeps its entries: by its flags, else by upstream's `filer.toml`.

use std::path::Path;

use anyhow::Result;
use dulse_config::Stores;
use dulse_config::stores::StoreOptions;
use dulse_filer::http;
use dulse_registry::{
    Choice, LocatedChoice, SharedChoice, check_default, check_finished, check_imported, choose,
    choose_located, is_ours, shared_stores,
};

use super::args::FilerArgs;
use crate::exit::Usage;
use crate::{edges, settings};

/// Whose filer it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Within<'a> {
    /// Of `dulse filer`.
    Filer,
    /// Of `dulse server`, which keeps everything in this directory.
    Server(&'a Path),
}

/// Where a filer on a shared store has its journal, in its directory.
pub(super) const ANNOUNCEMENTS: &str = "announcements";

/// What was settled beside engine and directory.
pub(super) struct Settled {
    /// `[filer.options]`.
    pub(super) options: StoreOptions,
    /// The shared store, unless it is an embedded one.
    pub(super) shared: Option<SharedChoice>,
    /// Directories in shared stores beside that.
    pub(super) located: Vec<LocatedChoice>,
}

/// Settles engine and directory of a filer's store, and what `[filer.options]` says.
///
/// `--engine` and `--dir` win over the file, wherever they were given; on a shared store `--dir` is
/// where this filer's own journal lies.
///
/// # Errors
///
/// `Usage` for a file that cannot be used, a store that is not there yet, and upstream's data
/// that was not imported.
pub(super) fn settle(args: &mut FilerArgs, within: Within<'_>) -> Result<Settled> {
    let variable = |name: &str| std::env::var(name).ok();
    let stores = Stores::load(edges::config_dir(), &variable);
    let stores = stores.map_err(|e| Usage(e.to_string()))?;
    let from = stores.path.as_deref().unwrap_or(Path::new("environment"));
    let usage = |e: dulse_registry::ChooseError| Usage(e.to_string());
    let is_placed = within == Within::Filer && settings::is_given("dir");
    let section = stores.store.as_ref().map(|store| store.name());
    let is_shared = section.is_some_and(|name| shared_stores().any(|shared| shared == name));
    if settings::is_given("engine") || is_placed && !is_shared {
        if let Some(section) = section {
            tracing::warn!(
                from = %from.display(), section,
                "flags say where the store is: what filer.toml says of it does not count"
            );
        }
    } else if let Some(choice) = choose(&stores).map_err(usage)? {
        match choice {
            Choice::Embedded(chosen) => {
                check_imported(&chosen).map_err(usage)?;
                tracing::info!(
                    from = %from.display(),
                    section = chosen.upstream.kind.name(),
                    engine = chosen.engine,
                    dir = %chosen.dir.display(),
                    "filer.toml selects the store"
                );
                chosen.engine.clone_into(&mut args.engine);
                args.dir = chosen.dir;
            }
            Choice::Shared(shared) => {
                check_no_store(&args.dir, &shared)?;
                tracing::info!(
                    from = %from.display(),
                    section = shared.section(),
                    at = shared.place(),
                    dir = %args.dir.display(),
                    "filer.toml selects a shared store"
                );
                return Ok(Settled {
                    located: located(&stores, false)?,
                    options: stores.options,
                    shared: Some(shared),
                });
            }
        }
    } else {
        let upstreams = match within {
            Within::Filer => Path::new("."),
            Within::Server(dir) => dir,
        };
        check_default(&args.engine, &args.dir, upstreams).map_err(usage)?;
    }
    check_finished(&args.dir).map_err(usage)?;
    if args.dir.join(ANNOUNCEMENTS).is_dir() {
        let text = format!(
            "`{}` is the directory of a filer on a shared store; give this one, which has an \
             embedded store, another --dir, or enable the shared store's section in filer.toml",
            args.dir.display()
        );
        return Err(Usage(text).into());
    }
    let located = located(&stores, true)?;
    Ok(Settled {
        options: stores.options,
        shared: None,
        located,
    })
}

/// The stores of directories; says which there are.
fn located(stores: &Stores, is_embedded: bool) -> Result<Vec<LocatedChoice>> {
    let located = choose_located(stores, is_embedded).map_err(|e| Usage(e.to_string()))?;
    for one in &located {
        let (section, place) = (one.section(), one.place());
        tracing::info!(
            section,
            at = place,
            "filer.toml has a store of its own for a directory"
        );
    }
    Ok(located)
}

/// Refuses the directory of an embedded store: what that holds would not be shown.
fn check_no_store(dir: &Path, shared: &SharedChoice) -> Result<()> {
    if !is_ours(dir) {
        return Ok(());
    }
    let text = format!(
        "`{}` holds an embedded store, and filer.toml enables [{}]: what that store holds would \
         not be shown; give this filer another --dir, or take the section out",
        dir.display(),
        shared.section()
    );
    Err(Usage(text).into())
}

/// What `[filer.options]` means for a filer.
pub(super) fn apply(options: &StoreOptions, http: &mut http::Options) {
    http.deletes_recursively = options.recursive_delete;
    // At most the longest path, which any pointer's width holds.
    http.name_len_max = usize::try_from(options.name_len_max).unwrap_or(http.name_len_max);
    http.buckets_folder.clone_from(&options.buckets_folder);
}
