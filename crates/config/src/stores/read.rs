// SPDX-License-Identifier: Apache-2.0
//! From the text and the environment to values of their types.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::schema::{self, Kind, OPTIONS};
use super::section::{Section, Value};
use super::{PathStore, StoreOptions, Stores};
use crate::error::{Error, line_of};
use crate::security::Environment;
use crate::units::Span;

/// Prefix of variables that override keys.
const PREFIX: &str = "WEED_";

/// Longest name of an entry that can be asked for, in bytes: the longest path less its slash.
const NAME_LEN_MAX: i64 = 4_094;

/// The file while it is read.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    environment: &'a Environment<'a>,
}

/// Keys of one section as they stand, by name in lower case.
type Found<'t, 'i> = BTreeMap<String, (&'t Spanned<DeValue<'i>>, usize)>;

/// Tables within a section, by name in lower case, with where they begin.
type Inner<'t, 'i> = Vec<(String, &'t DeTable<'i>, usize)>;

pub(super) fn stores(
    path: &Path,
    text: &str,
    environment: &Environment<'_>,
) -> Result<Stores, Error> {
    let table = DeTable::parse(text).map_err(|e| {
        let offset = e.span().map_or(text.len(), |span| span.start);
        Error::at(path, text, offset, e.message().trim().to_owned())
    })?;
    Reader {
        path,
        text,
        environment,
    }
    .stores(table.get_ref())
}

impl Reader<'_> {
    fn stores(&self, table: &DeTable<'_>) -> Result<Stores, Error> {
        let mut tops: Vec<_> = table.iter().collect();
        tops.sort_by_key(|(name, _)| name.span().start);
        let mut options = BTreeMap::new();
        let mut given = BTreeMap::new();
        let mut paths = Vec::new();
        for (name, value) in tops {
            let (at, shown) = (name.span().start, name.get_ref().to_lowercase());
            let is_known = shown == "filer" || schema::names().any(|known| known == shown);
            if !is_known {
                return Err(self.at(at, unknown_section(&shown)));
            }
            let Some(section) = value.get_ref().as_table() else {
                let what = format!("`{shown}` is a section; expected [{shown}]");
                return Err(self.at(at, what));
            };
            if shown == "filer" {
                self.filer(section, &mut options)?;
                continue;
            }
            let (found, inner) = self.keys(&shown, &schema::keys(&shown, false), section)?;
            for (id, keys, at) in inner {
                paths.push((shown.clone(), id, keys, at));
            }
            // A table that only holds others is no section of its own.
            if !found.is_empty() || section.is_empty() {
                given.insert(shown, (found, at));
            }
        }
        Ok(Stores {
            options: self.options(&options)?,
            store: self.enabled(&given)?,
            paths: self.paths(&paths)?,
            path: None,
        })
    }

    /// `[filer.options]`, which is all that this file has below `filer`.
    fn filer<'t, 'i>(
        &self,
        section: &'t DeTable<'i>,
        options: &mut Found<'t, 'i>,
    ) -> Result<(), Error> {
        for (name, value) in section {
            let at = name.span().start;
            let shown = format!("filer.{}", name.get_ref().to_lowercase());
            let inner = value.get_ref().as_table();
            match inner.filter(|_| shown == "filer.options") {
                Some(inner) => {
                    let (found, tables) = self.keys(&shown, OPTIONS, inner)?;
                    if let Some((id, _, at)) = tables.first() {
                        return Err(self.at(*at, unknown_key(id, &shown, OPTIONS)));
                    }
                    options.extend(found);
                }
                None => return Err(self.at(at, unknown_section(&shown))),
            }
        }
        Ok(())
    }

    /// Splits a section into its keys and the tables in it that are no parts of keys.
    fn keys<'t, 'i>(
        &self,
        shown: &str,
        known: &[(&str, Kind)],
        section: &'t DeTable<'i>,
    ) -> Result<(Found<'t, 'i>, Inner<'t, 'i>), Error> {
        let (mut found, mut inner) = (Found::new(), Inner::new());
        let mut pairs: Vec<_> = section.iter().collect();
        pairs.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in pairs {
            let at = name.span().start;
            let key = name.get_ref().to_lowercase();
            let is_part = known.iter().any(|(k, _)| k.starts_with(&format!("{key}.")));
            match value.get_ref().as_table() {
                Some(table) if is_part => {
                    for (part, value) in table {
                        let key = format!("{key}.{}", part.get_ref().to_lowercase());
                        self.known(&key, shown, known, part.span().start)?;
                        found.insert(key, (value, part.span().start));
                    }
                }
                Some(table) => inner.push((key, table, at)),
                None => {
                    self.known(&key, shown, known, at)?;
                    // Of two spellings of one key nobody knows which was meant.
                    if found.insert(key.clone(), (value, at)).is_some() {
                        let what = format!("`{key}` stands twice in [{shown}]");
                        return Err(self.at(at, what));
                    }
                }
            }
        }
        Ok((found, inner))
    }

    fn known(
        &self,
        key: &str,
        shown: &str,
        known: &[(&str, Kind)],
        at: usize,
    ) -> Result<(), Error> {
        match known.iter().any(|(k, _)| k.to_lowercase() == key) {
            true => Ok(()),
            false => Err(self.at(at, unknown_key(key, shown, known))),
        }
    }

    fn options(&self, found: &Found<'_, '_>) -> Result<StoreOptions, Error> {
        let section = self.section("filer.options", "filer.options", OPTIONS, found, 0)?;
        let wrong = |key: &str, what: String| self.refuse("filer.options", key, found, what);
        let name_len_max = section.integer("max_file_name_length");
        if !(1..=NAME_LEN_MAX).contains(&name_len_max) {
            let what = format!("is `{name_len_max}`; expected 1 to {NAME_LEN_MAX}");
            return Err(wrong("max_file_name_length", what));
        }
        let buckets_folder = section.text("buckets_folder").trim_end_matches('/');
        if !buckets_folder.starts_with('/') {
            let what = format!("is `{buckets_folder}`; expected a path such as \"/buckets\"");
            return Err(wrong("buckets_folder", what));
        }
        let key = "s3.empty_folder_cleanup_delay";
        let delay = section.text(key).parse::<Span>();
        let delay = delay.map_err(|e| wrong(key, format!("is wrong: {e}")))?;
        Ok(StoreOptions {
            recursive_delete: section.boolean("recursive_delete"),
            name_len_max: name_len_max.unsigned_abs(),
            buckets_folder: buckets_folder.to_owned(),
            empty_folder_cleanup_delay: Duration::from(delay),
        })
    }

    /// The one store that is enabled, by the file or by the environment.
    fn enabled(
        &self,
        given: &BTreeMap<String, (Found<'_, '_>, usize)>,
    ) -> Result<Option<Section>, Error> {
        let (nothing, mut enabled) = (Found::new(), Vec::new());
        for name in schema::names() {
            let (found, at) = given
                .get(name)
                .map_or((&nothing, None), |(f, at)| (f, Some(*at)));
            let line = at.map_or(0, |at| line_of(self.text, at));
            let section = self.section(name, name, &schema::keys(name, false), found, line)?;
            if section.boolean("enabled") {
                enabled.push(section);
            }
        }
        enabled.sort_by_key(|section| section.line);
        let Some(second) = enabled.get(1) else {
            return Ok(enabled.pop());
        };
        let names: Vec<_> = enabled.iter().map(|s| format!("[{}]", s.name)).collect();
        Err(Error::Line {
            path: self.path.to_owned(),
            line: second.line,
            what: format!("{} are enabled; expected one store", names.join(" and ")),
        })
    }

    fn paths(
        &self,
        given: &[(String, String, &DeTable<'_>, usize)],
    ) -> Result<Vec<PathStore>, Error> {
        let mut paths: Vec<PathStore> = Vec::new();
        for (store, id, table, at) in given {
            let shown = format!("{store}.{id}");
            let known = schema::keys(store, true);
            let (found, inner) = self.keys(&shown, &known, table)?;
            if let Some((inner, _, at)) = inner.first() {
                return Err(self.at(*at, unknown_key(inner, &shown, &known)));
            }
            let line = line_of(self.text, *at);
            let section = self.section(&shown, store, &known, &found, line)?;
            if !section.boolean("enabled") {
                continue;
            }
            let location = section.text("location");
            let trimmed = location.trim_end_matches('/');
            if !trimmed.starts_with('/') {
                let what = format!("is `{location}`; expected a directory such as \"/tmp\"");
                return Err(self.refuse(&shown, "location", &found, what));
            }
            if paths.iter().any(|path| path.location == trimmed) {
                let what = format!("is `{location}`, which another store has already");
                return Err(self.refuse(&shown, "location", &found, what));
            }
            paths.push(PathStore {
                id: id.clone(),
                location: trimmed.to_owned(),
                section,
            });
        }
        paths.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(paths)
    }

    /// Every key with its value: the environment's, else the file's, else the default.
    fn section(
        &self,
        shown: &str,
        name: &str,
        keys: &[(&str, Kind)],
        found: &Found<'_, '_>,
        line: usize,
    ) -> Result<Section, Error> {
        let mut values = BTreeMap::new();
        for (key, kind) in keys {
            let lower = key.to_lowercase();
            let full = format!("{shown}.{key}");
            let variable = format!("{PREFIX}{}", full.to_uppercase().replace('.', "_"));
            let given = (self.environment)(&variable).filter(|text| !text.is_empty());
            let value = match (given, found.get(&lower)) {
                (Some(text), _) => of_text(*kind, &text).ok_or_else(|| {
                    let expected = kind.expected();
                    Error::Variable(format!("`{variable}` is `{text}`; expected {expected}"))
                })?,
                (None, Some((value, _))) => of_value(*kind, value.get_ref()).map_err(|got| {
                    let what = format!("`{full}` is {got}; expected {}", kind.expected());
                    self.at(value.span().start, what)
                })?,
                (None, None) => kind.default(),
            };
            values.insert(lower, value);
        }
        Ok(Section {
            name: name.to_owned(),
            values,
            line,
        })
    }

    /// An error at a key, wherever its value is from.
    fn refuse(&self, shown: &str, key: &str, found: &Found<'_, '_>, what: String) -> Error {
        let at = found.get(&key.to_lowercase()).map(|(_, at)| *at);
        Error::Line {
            path: self.path.to_owned(),
            line: at.map_or(0, |at| line_of(self.text, at)),
            what: format!("`{shown}.{key}` {what}"),
        }
    }

    fn at(&self, offset: usize, what: String) -> Error {
        Error::at(self.path, self.text, offset, what)
    }
}

fn unknown_section(shown: &str) -> String {
    let of = |(section, _): &&(&str, &str)| {
        shown == *section || shown.starts_with(&format!("{section}."))
    };
    if let Some((_, file)) = schema::ELSEWHERE.iter().find(of) {
        return format!("[{shown}] is read from {file}; expected it there");
    }
    let known: Vec<_> = schema::names().map(|name| format!("[{name}]")).collect();
    let known = known.join(", ");
    format!("unknown section `{shown}`; expected [filer.options] or one of {known}")
}

fn unknown_key(key: &str, shown: &str, known: &[(&str, Kind)]) -> String {
    let known: Vec<_> = known.iter().map(|(key, _)| *key).collect();
    let known = known.join(", ");
    format!("unknown key `{key}` in [{shown}]; expected one of {known}")
}

/// A value of a variable.
fn of_text(kind: Kind, text: &str) -> Option<Value> {
    Some(match kind {
        Kind::Text(_) => Value::Text(text.to_owned()),
        Kind::Integer(_) => Value::Integer(text.trim().parse().ok()?),
        Kind::Boolean(_) => Value::Boolean(match text.to_lowercase().as_str() {
            "true" | "1" | "t" => true,
            "false" | "0" | "f" => false,
            _ => return None,
        }),
        Kind::List => {
            let items = text.split(|c: char| c == ',' || c.is_whitespace());
            let items = items.filter(|item| !item.is_empty());
            Value::List(items.map(str::to_owned).collect())
        }
    })
}

/// A value of the file; else what it is instead. A text that says a number or a truth value is
/// taken for it, as upstream does, and so is a number for a text: such files are in use.
fn of_value(kind: Kind, value: &DeValue<'_>) -> Result<Value, String> {
    match (value, kind) {
        (DeValue::String(text), _) => of_text(kind, text).ok_or_else(|| format!("`{text}`")),
        (DeValue::Boolean(value), Kind::Boolean(_)) => Ok(Value::Boolean(*value)),
        (DeValue::Integer(number), Kind::Integer(_)) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed
                .map(Value::Integer)
                .map_err(|_| format!("`{number}`"))
        }
        (DeValue::Integer(number), Kind::Text(_)) => Ok(Value::Text(number.as_str().to_owned())),
        (DeValue::Array(items), Kind::List) => {
            let texts = items.iter().map(|item| item.get_ref().as_str());
            let texts: Option<Vec<_>> = texts.map(|text| text.map(str::to_owned)).collect();
            let mixed = || "a list with something that is no text".to_owned();
            texts.map(Value::List).ok_or_else(mixed)
        }
        (other, _) => Err(format!("of type {}", other.type_str())),
    }
}
