// SPDX-License-Identifier: Apache-2.0
//! Reading a file: every key known, every value of its kind, or the line that is not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, line_of};
use crate::schema::{Key, Kind, Schema};

/// A file that was read whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    path: PathBuf,
    sections: BTreeMap<String, BTreeMap<String, Value>>,
}

/// A value of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// As on the command line; lists as several.
    pub texts: Vec<String>,
    /// Where it stands, counted from 1.
    pub line: usize,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// `Read` when there is none, `Line` at the first thing that is not understood.
    pub fn read(path: &Path, schemas: &[Schema]) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text, schemas)
    }

    /// Understands the text of a file; `path` is for errors.
    ///
    /// # Errors
    ///
    /// `Line` at the first thing that is not understood.
    pub fn parse(path: &Path, text: &str, schemas: &[Schema]) -> Result<Self, Error> {
        let at = |offset, what| Error::at(path, text, offset, what);
        let table = DeTable::parse(text).map_err(|e| {
            let offset = e.span().map_or(text.len(), |span| span.start);
            at(offset, e.message().trim().to_owned())
        })?;
        let mut sections = BTreeMap::new();
        for (name, section) in in_order(table.get_ref()) {
            let schema = schemas.iter().find(|s| s.name == *name.get_ref());
            let schema = schema.ok_or_else(|| {
                let known: Vec<_> = schemas.iter().map(|s| format!("[{}]", s.name)).collect();
                let what = format!(
                    "unknown section `{}`; expected one of {}",
                    name.get_ref(),
                    known.join(", ")
                );
                at(name.span().start, what)
            })?;
            let keys = section.get_ref().as_table().ok_or_else(|| {
                let what = format!("`{0}` is a section; expected [{0}]", name.get_ref());
                at(name.span().start, what)
            })?;
            let mut values = BTreeMap::new();
            for (name, value) in in_order(keys) {
                let key = find(schema, name).map_err(|what| at(name.span().start, what))?;
                let texts = texts(key, value).map_err(|what| at(value.span().start, what))?;
                let line = line_of(text, value.span().start);
                values.insert(key.name.clone(), Value { texts, line });
            }
            sections.insert(schema.name.clone(), values);
        }
        Ok(Self {
            path: path.to_owned(),
            sections,
        })
    }

    /// The values of a section by key; none when the file has no such section.
    pub fn section(&self, name: &str) -> impl Iterator<Item = (&str, &Value)> {
        let values = self.sections.get(name).into_iter().flatten();
        values.map(|(key, value)| (key.as_str(), value))
    }

    /// An error about a value that only its owner can judge.
    #[must_use]
    pub fn refuse(&self, value: &Value, what: String) -> Error {
        Error::Line {
            path: self.path.clone(),
            line: value.line,
            what,
        }
    }
}

type Pair<'a, 'i> = (
    &'a Spanned<std::borrow::Cow<'i, str>>,
    &'a Spanned<DeValue<'i>>,
);

/// As they stand in the file, so that the first error is the first line.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Pair<'a, 'i>> {
    let mut pairs: Vec<_> = table.iter().collect();
    pairs.sort_by_key(|(name, _)| name.span().start);
    pairs
}

fn find<'a>(
    schema: &'a Schema,
    name: &Spanned<std::borrow::Cow<'_, str>>,
) -> Result<&'a Key, String> {
    let found = schema.keys.iter().find(|key| key.name == *name.get_ref());
    found.ok_or_else(|| {
        let known: Vec<_> = schema.keys.iter().map(|k| k.name.as_str()).collect();
        format!(
            "unknown key `{}` in [{}]; expected one of {}",
            name.get_ref(),
            schema.name,
            known.join(", ")
        )
    })
}

fn texts(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
    let wrong = |got: &str| format!("`{}` is {got}; expected {}", key.name, key.kind.expected());
    let text = match (value.get_ref(), &key.kind) {
        (DeValue::Array(items), Kind::List) => {
            let texts = items.iter().map(|item| {
                let text = item.get_ref().as_str().map(str::to_owned);
                text.ok_or_else(|| wrong("a list with something that is no text"))
            });
            return texts.collect();
        }
        (DeValue::String(text), Kind::Text | Kind::OneOf(_) | Kind::Size | Kind::Span) => {
            text.clone().into_owned()
        }
        (DeValue::Boolean(value), Kind::Boolean) => value.to_string(),
        (DeValue::Integer(number), Kind::Integer(_)) if number.radix() == 10 => {
            number.as_str().to_owned()
        }
        (other, _) => return Err(wrong(&format!("of type {}", other.type_str()))),
    };
    if !key.kind.accepts(&text) {
        return Err(wrong(&format!("`{text}`")));
    }
    Ok(vec![text])
}
