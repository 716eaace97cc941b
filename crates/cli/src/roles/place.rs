// SPDX-License-Identifier: Apache-2.0
//! Where a filer keeps its entries: by its flags, else by upstream's `filer.toml`.

use std::path::Path;

use anyhow::Result;
use dulse_config::Stores;
use dulse_config::stores::StoreOptions;
use dulse_filer::http;
use dulse_registry::{Choice, check_default, check_finished, check_imported, choose};

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

/// Settles engine and directory of a filer's store, and what `[filer.options]` says.
///
/// `--engine` and `--dir` win over the file, wherever they were given.
///
/// # Errors
///
/// `Usage` for a file that cannot be used, a store that is not there yet, and upstream's data
/// that was not imported.
pub(super) fn settle(args: &mut FilerArgs, within: Within<'_>) -> Result<StoreOptions> {
    let variable = |name: &str| std::env::var(name).ok();
    let stores = Stores::load(edges::config_dir(), &variable);
    let stores = stores.map_err(|e| Usage(e.to_string()))?;
    let from = stores.path.as_deref().unwrap_or(Path::new("environment"));
    let usage = |e: dulse_registry::ChooseError| Usage(e.to_string());
    let is_placed = within == Within::Filer && settings::is_given("dir");
    if is_placed || settings::is_given("engine") {
        if let Some(store) = &stores.store {
            tracing::warn!(
                from = %from.display(), section = store.name(),
                "flags say where the store is: what filer.toml says of it does not count"
            );
        }
    } else if let Some(choice) = choose(&stores).map_err(usage)? {
        let chosen = match choice {
            Choice::Embedded(chosen) => chosen,
            Choice::Shared(shared) => {
                let text = format!("no role opens [{}] yet", shared.section());
                return Err(Usage(text).into());
            }
        };
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
    } else {
        let upstreams = match within {
            Within::Filer => Path::new("."),
            Within::Server(dir) => dir,
        };
        check_default(&args.engine, &args.dir, upstreams).map_err(usage)?;
    }
    check_finished(&args.dir).map_err(usage)?;
    Ok(stores.options)
}

/// What `[filer.options]` means for a filer.
pub(super) fn apply(options: &StoreOptions, http: &mut http::Options) {
    http.deletes_recursively = options.recursive_delete;
    // At most the longest path, which any pointer's width holds.
    http.name_len_max = usize::try_from(options.name_len_max).unwrap_or(http.name_len_max);
    http.buckets_folder.clone_from(&options.buckets_folder);
}
