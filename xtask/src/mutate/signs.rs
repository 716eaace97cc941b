// SPDX-License-Identifier: Apache-2.0
//! Every ⚠ in the code is a guard that some mutant removes.
//!
//! Most stand right above what they speak of. Where they do not, the mutant names them, in
//! `signs`, as `path: the words behind the sign`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::list::{Mutant, place};
use crate::cache::root;

/// The sign of a guard.
const SIGN: char = '⚠';

/// Lines below its sign within which a mutant is taken to be the guard's.
const NEAR: usize = 45;

/// Adds what is wrong: a sign without a mutant, a mutant that names no sign.
///
/// # Errors
///
/// When a source cannot be read.
pub(super) fn check(mutants: &[Mutant], wrong: &mut Vec<String>) -> Result<usize> {
    let mut woven: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for mutant in mutants {
        // That one has lost its place is told elsewhere.
        if let Ok((at, text)) = place(mutant) {
            let line = text[..at].lines().count();
            woven.entry(&mutant.file).or_default().push(line);
        }
    }
    let named: Vec<&str> = mutants
        .iter()
        .flat_map(|m| m.signs.iter().map(String::as_str))
        .collect();
    let mut seen = vec![false; named.len()];
    let mut sources = Vec::new();
    rust_files(&root().join("crates"), &mut sources)?;
    let mut n_signs = 0;
    for path in sources {
        let shown = path.strip_prefix(root()).unwrap_or(&path);
        let shown = shown.display().to_string();
        let text = std::fs::read_to_string(&path)?;
        let near = woven.get(&*shown).map_or(&[][..], Vec::as_slice);
        for sign in signs(&text) {
            n_signs += 1;
            let line = sign.line;
            let is_named = named.iter().zip(&mut seen).any(|(name, seen)| {
                let is_it = name
                    .split_once(": ")
                    .is_some_and(|(file, words)| file == shown && sign.words.starts_with(words));
                *seen |= is_it;
                is_it
            });
            let is_near = near.iter().any(|at| (line..line + NEAR).contains(at));
            if !is_named && !is_near {
                wrong.push(format!(
                    "{shown}:{line}: no mutant stands below \"{SIGN} {}\"; let the one of this \
                     guard name it in `signs`",
                    sign.words
                ));
            }
        }
    }
    let unseen = named.iter().zip(seen).filter(|(_, seen)| !seen);
    wrong.extend(unseen.map(|(name, _)| format!("no sign is \"{name}\"")));
    Ok(n_signs)
}

/// One ⚠: its line from 1 on, and what follows on that line.
struct Sign<'a> {
    line: usize,
    words: &'a str,
}

/// The signs of a source, without those of its unit tests.
fn signs(text: &str) -> impl Iterator<Item = Sign<'_>> {
    let code = text.lines().enumerate();
    let code = code.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    code.flat_map(|(at, line)| {
        line.split(SIGN).skip(1).map(move |words| Sign {
            line: at + 1,
            words: words.trim(),
        })
    })
}

/// Sources that are built into what is shipped.
fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let is_test = path
            .file_stem()
            .is_some_and(|s| s == "tests" || s == "target");
        if is_test {
            continue;
        }
        if path.is_dir() {
            rust_files(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_the_code_are_found_and_those_of_its_tests_are_not() {
        let text = "a\n/// ⚠ One. ⚠ Two\nb\n#[cfg(test)]\nmod tests {\n// ⚠ Three\n}\n";
        let found: Vec<_> = signs(text).map(|s| (s.line, s.words)).collect();
        assert_eq!(found, [(2, "One."), (2, "Two")]);
    }
}
