// SPDX-License-Identifier: Apache-2.0
//! One key space over a file and the environment, without case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::error::{Error, line_of};

/// Reads a variable; an argument, so that tests need not change the process.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Prefix of variables that override keys.
const PREFIX: &str = "WEED_";

pub(super) struct Lookup<'a> {
    path: PathBuf,
    environment: &'a Environment<'a>,
    values: BTreeMap<String, Found>,
}

/// A value of the file as text.
pub(super) struct Found {
    text: String,
    pub(super) line: usize,
}

impl<'a> Lookup<'a> {
    pub(super) fn parse(
        path: &Path,
        text: &str,
        environment: &'a Environment<'a>,
    ) -> Result<Self, Error> {
        let table = DeTable::parse(text).map_err(|e| {
            let offset = e.span().map_or(text.len(), |span| span.start);
            Error::at(path, text, offset, e.message().trim().to_owned())
        })?;
        let mut values = BTreeMap::new();
        flatten("", table.get_ref(), text, &mut values)
            .map_err(|(offset, what)| Error::at(path, text, offset, what))?;
        Ok(Self {
            path: path.to_owned(),
            environment,
            values,
        })
    }

    /// All keys of the file.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.values.iter().map(|(key, found)| (key.as_str(), found))
    }

    fn value(&self, key: &str) -> Option<String> {
        let variable = format!("{PREFIX}{}", key.to_uppercase().replace('.', "_"));
        let given = (self.environment)(&variable).filter(|text| !text.is_empty());
        given.or_else(|| self.values.get(&key.to_lowercase()).map(|f| f.text.clone()))
    }

    pub(super) fn text(&self, key: &str) -> String {
        self.value(key).unwrap_or_default()
    }

    /// A comma list, blanks around its items dropped; `None` when the key is not set.
    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        let text = self.value(key)?;
        let items = text.split(',').map(str::trim).filter(|s| !s.is_empty());
        Some(items.map(str::to_owned).collect())
    }

    pub(super) fn boolean(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.value(key).as_deref() {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    pub(super) fn number(&self, key: &str, default: u64) -> Result<u64, Error> {
        let Some(text) = self.value(key) else {
            return Ok(default);
        };
        let wrong = |_| self.wrong(key, &text, "a whole number of seconds");
        text.parse().map_err(wrong)
    }

    fn wrong(&self, key: &str, got: &str, expected: &str) -> Error {
        Error::Line {
            path: self.path.clone(),
            line: self.values.get(&key.to_lowercase()).map_or(0, |f| f.line),
            what: format!("`{key}` is `{got}`; expected {expected}"),
        }
    }
}

fn flatten(
    prefix: &str,
    table: &DeTable<'_>,
    text: &str,
    out: &mut BTreeMap<String, Found>,
) -> Result<(), (usize, String)> {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref().to_lowercase());
        let shown = match value.get_ref() {
            DeValue::Table(inner) => {
                flatten(&format!("{key}."), inner, text, out)?;
                continue;
            }
            DeValue::String(text) => text.clone().into_owned(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Array(items) => {
                let texts: Option<Vec<_>> = items.iter().map(|i| i.get_ref().as_str()).collect();
                let what = || format!("`{key}` holds something that is no text");
                texts.ok_or_else(|| (value.span().start, what()))?.join(",")
            }
            other => {
                let what = format!(
                    "`{key}` is of type {}; expected a text, a number, true or false",
                    other.type_str()
                );
                return Err((value.span().start, what));
            }
        };
        let line = line_of(text, name.span().start);
        out.insert(key, Found { text: shown, line });
    }
    Ok(())
}
