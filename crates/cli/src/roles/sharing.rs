// SPDX-License-Identifier: Apache-2.0
//! A filer on a shared store: opens it, and says what this filer is.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use dulse_filer::{Entries, Located, SharedSettings};
use dulse_registry::{AnyShared, LOCATED, LOCATED_OF, LocatedChoice, SharedChoice, check_apart};
use dulse_store::Error;

use super::args::FilerArgs;
use super::place::ANNOUNCEMENTS;
use super::{random_bytes, usage};
use crate::settings;

/// Flags that say something of embedded stores only.
const EMBEDDED_ONLY: [&str; 8] = [
    "durability",
    "durability_below",
    "peers_wait",
    "scrub_rate",
    "alone",
    "max_offline",
    "leave_on_shutdown",
    "leave_wait",
];

/// Opens a shared store; blocks until the database answers.
///
/// # Errors
///
/// `Usage` when the database does not answer or is none, or the journal is another's.
pub(super) async fn open(args: &FilerArgs, shared: SharedChoice) -> Result<Entries> {
    for flag in EMBEDDED_ONLY
        .into_iter()
        .filter(|flag| settings::is_given(flag))
    {
        let flag = flag.replace('_', "-");
        tracing::warn!(
            "--{flag} says something of embedded stores: on a shared one the database \
            decides"
        );
    }
    let (section, place) = (shared.section().to_owned(), shared.place().to_owned());
    let open = move |journal, random| shared.open(journal, random);
    let (store, settings) = open_in(args.dir.clone(), args, (section, place), open).await?;
    Ok(Entries::Shared(store, settings))
}

/// Opens the stores of directories beside a default store; blocks until the databases answer.
/// Journals lie in the default store's directory under its origin: with a new one, as a copy of
/// the directory gets, all that this filer announces is another's, too.
///
/// # Errors
///
/// As [`open`]; `Usage` when two of the stores are one.
pub(super) async fn open_located(
    args: &FilerArgs,
    entries: &Entries,
    choices: Vec<LocatedChoice>,
) -> Result<Vec<Located>> {
    let (own, default) = match entries {
        Entries::Embedded(store) => (store.shared().origin(), None),
        Entries::Shared(store, _) => (store.origin(), Some(&**store)),
    };
    if choices.is_empty() {
        return Ok(Vec::new());
    }
    let dir = args.dir.join(format!("{LOCATED_OF}{own}"));
    let left = args.dir.join(LOCATED);
    if left.is_dir() && !dir.exists() {
        std::fs::rename(&left, &dir)
            .with_context(|| format!("rename `{}` to `{}`", left.display(), dir.display()))?;
    }
    let mut located = Vec::with_capacity(choices.len());
    for choice in choices {
        let (section, place) = (choice.section().to_owned(), choice.place());
        let in_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let name: String = section
            .chars()
            .map(|c| if in_name(c) { c } else { '_' })
            .collect();
        let open = move |journal, random| choice.open(journal, random);
        located.push(open_in(dir.join(name), args, (section, place), open).await?);
    }
    let stores: Vec<_> = located.iter().map(|(store, _)| Arc::clone(store)).collect();
    check_apart(default, &stores).map_err(usage)?;
    Ok(located)
}

/// Opens a store whose journal is in a directory.
///
/// - `names`: section and place, for people.
async fn open_in(
    dir: PathBuf,
    args: &FilerArgs,
    (section, place): (String, String),
    open: impl FnOnce(PathBuf, u64) -> Result<Arc<dyn AnyShared>, Error> + Send + 'static,
) -> Result<Located> {
    dulse_journal::make_durably(&dir).with_context(|| format!("make `{}`", dir.display()))?;
    let random = u64::from_be_bytes(random_bytes()?);
    let journal = dir.join(ANNOUNCEMENTS);
    let opening = move || open(journal, random);
    let opened = tokio::task::spawn_blocking(opening).await?;
    let store = opened.map_err(usage)?;
    let origin = store.origin();
    tracing::info!(
        kind = "shared",
        store = section,
        at = place,
        dir = %dir.display(),
        store_id = origin.signature(),
        %origin,
        group = args.filer_group,
        peers = "found through the master; nothing is replicated between filers on one store",
        "shared store is open"
    );
    let settings = SharedSettings {
        dir,
        place,
        retention: args.log_retention.0,
        budget_bytes: args.log_budget.0,
    };
    Ok((store, settings))
}
