// SPDX-License-Identifier: Apache-2.0
//! The file that says what is so anyway, with a comment for each key.

use std::fmt::Write;

use crate::schema::{Key, Kind, Schema};

/// Longest line of a comment.
const WIDTH: usize = 88;

/// A file with every key at its default.
#[must_use]
pub fn template(schemas: &[Schema]) -> String {
    let mut out = String::from(
        "# Configuration of dulse. Every key is shown with its default.\n\
         # A flag wins over its environment variable, that over this file.\n",
    );
    for schema in schemas {
        out.push('\n');
        comment(&mut out, &schema.about);
        line(&mut out, &format!("[{}]", schema.name));
        for key in &schema.keys {
            out.push('\n');
            comment(&mut out, &key.help);
            if let Kind::OneOf(values) = &key.kind {
                comment(&mut out, &format!("One of: {}.", values.join(", ")));
            }
            line(&mut out, &format!("{} = {}", key.name, value(key)));
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn comment(out: &mut String, text: &str) {
    let mut width = WIDTH;
    for word in text.split_whitespace() {
        if width + 1 + word.len() > WIDTH {
            if width < WIDTH {
                out.push('\n');
            }
            out.push('#');
            width = 1;
        }
        // Writing to a string cannot fail.
        let _ = write!(out, " {word}");
        width += 1 + word.len();
    }
    out.push('\n');
}

fn value(key: &Key) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    match key.kind {
        Kind::Integer(_) | Kind::Boolean => key.default.clone(),
        Kind::List if key.default.is_empty() => "[]".to_owned(),
        Kind::List => {
            let items: Vec<_> = key.default.split(',').map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
        _ => quoted(&key.default),
    }
}
