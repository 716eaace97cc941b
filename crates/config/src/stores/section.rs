// SPDX-License-Identifier: Apache-2.0
//! One section with a value for each of its keys, of the key's type.

use std::collections::BTreeMap;
use std::fmt;

/// A store's section: every key has a value, given or its default.
#[derive(Clone, PartialEq, Eq)]
pub struct Section {
    pub(super) name: String,
    /// By key in lower case.
    pub(super) values: BTreeMap<String, Value>,
    /// Where it begins, counted from 1; 0 without a file.
    pub(super) line: usize,
}

/// A value of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<String>),
}

impl Section {
    /// The store's name, such as `leveldb2`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it begins in its file, counted from 1; 0 when the environment alone made it.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// A text.
    ///
    /// # Panics
    ///
    /// As all of these: when the section has no such key of this type, which is a bug of the
    /// caller; every key that a section has, has a value.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        match self.value(key) {
            Value::Text(text) => text,
            other => unreachable!("`{key}` of [{}] is {other:?}", self.name),
        }
    }

    /// A whole number.
    #[must_use]
    pub fn integer(&self, key: &str) -> i64 {
        match self.value(key) {
            Value::Integer(number) => *number,
            other => unreachable!("`{key}` of [{}] is {other:?}", self.name),
        }
    }

    /// Yes or no.
    #[must_use]
    pub fn boolean(&self, key: &str) -> bool {
        match self.value(key) {
            Value::Boolean(value) => *value,
            other => unreachable!("`{key}` of [{}] is {other:?}", self.name),
        }
    }

    /// Texts.
    #[must_use]
    pub fn list(&self, key: &str) -> &[String] {
        match self.value(key) {
            Value::List(items) => items,
            other => unreachable!("`{key}` of [{}] is {other:?}", self.name),
        }
    }

    fn value(&self, key: &str) -> &Value {
        self.values
            .get(&key.to_lowercase())
            .unwrap_or_else(|| unreachable!("[{}] has no key `{key}`", self.name))
    }
}

impl fmt::Debug for Section {
    /// Never shows a secret: what a name gives away as one is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_secret = |key: &str| key.contains("password") || ["dsn", "uri"].contains(&key);
        let shown = self.values.iter().filter(|(key, _)| !is_secret(key));
        f.debug_struct("Section")
            .field("name", &self.name)
            .field("values", &shown.collect::<BTreeMap<_, _>>())
            .field("line", &self.line)
            .finish()
    }
}
