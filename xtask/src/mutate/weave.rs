// SPDX-License-Identifier: Apache-2.0
//! A copy of the tree in which every mutant stands beside what it replaces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::list::{Kind, Mutant, place};
use crate::cache::{cache, root};
use crate::run::output;

/// The variable that names the mutant which a test runs with.
pub(crate) const VARIABLE: &str = "DULSE_MUTANT";

/// Asked where a mutant was woven in; appended to each such file.
const CHOOSER: &str = r#"
#[allow(missing_docs, unreachable_pub, clippy::all)]
fn dulse_mutant(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("DULSE_MUTANT").ok());
    chosen.as_deref() == Some(name)
}
"#;

/// Writes the copy; what did not change is left alone, so that builds go on where they were.
///
/// # Errors
///
/// When two mutants overlap, or files cannot be written.
pub(crate) fn tree(mutants: &[Mutant]) -> Result<PathBuf> {
    let copy = cache().join("mutate/tree");
    let mut woven = files(mutants)?;
    let mut listed = Command::new("git");
    listed.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = output(&mut listed)?;
    let wanted: Vec<PathBuf> = listed.lines().map(PathBuf::from).collect();
    for path in &wanted {
        let from = root().join(path);
        let Ok(bytes) = std::fs::read(&from) else {
            // Removed, and not committed yet.
            continue;
        };
        let bytes = woven.remove(path).map_or(bytes, String::into_bytes);
        put(&copy.join(path), &bytes)?;
    }
    remove_others(&copy, &copy, &wanted)?;
    Ok(copy)
}

/// Every file that has mutants, with them.
///
/// # Errors
///
/// When two of them overlap, or a file cannot be read.
pub(crate) fn files(mutants: &[Mutant]) -> Result<BTreeMap<PathBuf, String>> {
    let mut files: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        files.entry(&mutant.file).or_default().push(mutant);
    }
    let woven = files.into_iter();
    let woven = woven.map(|(file, mutants)| Ok((PathBuf::from(file), weave(&mutants)?)));
    woven.collect()
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    Ok(std::fs::write(path, bytes)?)
}

/// Removes sources that the tree no longer has: a test file among them would be built.
fn remove_others(copy: &Path, dir: &Path, wanted: &[PathBuf]) -> Result<()> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.is_dir() {
            remove_others(copy, &path, wanted)?;
        } else if let Ok(relative) = path.strip_prefix(copy)
            && !wanted.iter().any(|w| w == relative)
        {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// One file with its mutants.
fn weave(mutants: &[&Mutant]) -> Result<String> {
    let mut places = Vec::new();
    let mut text = String::new();
    for mutant in mutants {
        let (at, whole) = place(mutant)?;
        places.push((at, *mutant));
        text = whole;
    }
    places.sort_by_key(|(at, _)| *at);
    for pair in places.windows(2) {
        let ((at, first), (next, second)) = (&pair[0], &pair[1]);
        if at + first.from.len() > *next {
            bail!("{} and {} overlap", first.name, second.name);
        }
    }
    // From the end, so that what lies before stays where it is.
    for (at, mutant) in places.iter().rev() {
        let Mutant { name, from, to, .. } = mutant;
        let both = match mutant.kind {
            Kind::Expression => {
                format!("(if dulse_mutant(\"{name}\") {{ {to} }} else {{ {from} }})")
            }
            Kind::Statement => {
                format!("if dulse_mutant(\"{name}\") {{ {to} }} else {{ {from} }}")
            }
        };
        text.replace_range(*at..at + from.len(), &both);
    }
    // Inner documentation must stay first, so the chooser goes last.
    text.push_str(CHOOSER);
    for mutant in mutants {
        text.push_str(&mutant.items);
    }
    Ok(text)
}
