// SPDX-License-Identifier: Apache-2.0
//! A filer on a shared store: opens it, and says what this filer is.

use anyhow::{Context, Result};
use dulse_filer::{Entries, SharedSettings};
use dulse_registry::SharedChoice;

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
    let dir = args.dir.clone();
    dulse_journal::make_durably(&dir).with_context(|| format!("make `{}`", dir.display()))?;
    let (section, place) = (shared.section().to_owned(), shared.place().to_owned());
    let random = u64::from_be_bytes(random_bytes()?);
    let journal = dir.join(ANNOUNCEMENTS);
    let opening = move || shared.open(journal, random);
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
    Ok(Entries::Shared(store, settings))
}
