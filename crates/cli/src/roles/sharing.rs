// SPDX-License-Identifier: Apache-2.0
//! A filer on a shared store: opens it, and says what this filer is.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use dulse_filer::{Entries, Located, SharedSettings};
use dulse_registry::{AnyShared, LocatedChoice, SharedChoice, check_apart};
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
    let dir = args.dir.join(format!("located-{own}"));
    let mut located = Vec::with_capacity(choices.len());
    for choice in choices {
        let (section, place) = (choice.section().to_owned(), choice.place());
        let name = file_name(choice.path().as_str());
        let open = move |journal, random| choice.open(journal, random);
        located.push(open_in(dir.join(name), args, (section, place), open).await?);
    }
    let stores: Vec<_> = located.iter().map(|(store, _)| Arc::clone(store)).collect();
    check_apart(default, &stores).map_err(usage)?;
    Ok(located)
}

/// The name of a location's directory: the path, with all that is no letter, digit, dot or dash
/// as its bytes.
fn file_name(path: &str) -> String {
    let mut name = String::new();
    for byte in path.trim_start_matches('/').bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    name
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_location_has_a_directory_of_its_own() {
        let paths = ["/tmp", "/var/log", "/var_log", "/var%2Flog", "/ä"];
        let names: std::collections::BTreeSet<_> = paths.map(file_name).into_iter().collect();
        assert_eq!(names.len(), paths.len());
        assert!(
            names.contains("tmp") && names.contains("var%2Flog"),
            "{names:?}"
        );
    }
}
