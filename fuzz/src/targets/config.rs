// SPDX-License-Identifier: Apache-2.0
//! Configuration files.

use std::path::Path;

use dulse_config::stores::Dsn;
use dulse_config::{File, Key, Kind, Schema, Security, Size, Span, Stores};

fn key(name: &str, kind: Kind) -> Key {
    Key {
        name: name.to_owned(),
        kind,
        default: String::new(),
        help: String::new(),
    }
}

/// A section with a key of every kind.
fn schema() -> Schema {
    Schema {
        name: "filer".to_owned(),
        about: String::new(),
        keys: vec![
            key("text", Kind::Text),
            key("one", Kind::OneOf(vec!["a".to_owned(), "b".to_owned()])),
            key("number", Kind::Integer(65_535)),
            key("flag", Kind::Boolean),
            key("list", Kind::List),
            key("size", Kind::Size),
            key("span", Kind::Span),
        ],
    }
}

/// Our own file, sizes and spans.
pub(crate) fn file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Err(error) = File::parse(Path::new("dulse.toml"), text, &[schema()]) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(size) = text.parse::<Size>() {
        assert_eq!(
            size.to_string().parse::<Size>().ok(),
            Some(size),
            "`{text}`"
        );
    }
    if let Ok(span) = text.parse::<Span>() {
        assert_eq!(
            span.to_string().parse::<Span>().ok(),
            Some(span),
            "`{text}`"
        );
    }
}

/// Upstream's `security.toml`.
pub(crate) fn security(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let _ = Security::parse(Path::new("security.toml"), text, &|_| None);
}

/// Upstream's `filer.toml`, and a variable beside it.
pub(crate) fn stores(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let variable = |name: &str| (name == "WEED_MYSQL_PORT").then(|| text.to_owned());
    for environment in [&variable as &dulse_config::security::Environment, &|_| None] {
        match Stores::parse(Path::new("filer.toml"), text, environment) {
            Ok(stores) => {
                if let Some(store) = stores.store {
                    assert!(store.boolean("enabled"));
                }
                assert!(
                    stores
                        .paths
                        .iter()
                        .all(|path| path.location.starts_with('/'))
                );
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// The `dsn` of a database.
pub(crate) fn dsn(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match text.parse::<Dsn>() {
        Ok(dsn) => assert_ne!(dsn.port, 0, "`{text}`"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
