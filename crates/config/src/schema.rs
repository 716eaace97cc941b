// SPDX-License-Identifier: Apache-2.0
//! Which keys a section has, and what they may be.

use crate::units::{Size, Span};

/// The keys of one role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schema {
    /// Name of the section.
    pub name: String,
    /// What the role does, for the template.
    pub about: String,
    /// Its keys in the order they are shown.
    pub keys: Vec<Key>,
}

/// One key of a section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// As the flag is spelled, without dashes in front.
    pub name: String,
    /// What it may be.
    pub kind: Kind,
    /// As on the command line; lists with commas between.
    pub default: String,
    /// One sentence.
    pub help: String,
}

/// What a value may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these texts.
    OneOf(Vec<String>),
    /// A whole number up to this one.
    Integer(u64),
    /// `true` or `false`.
    Boolean,
    /// Texts.
    List,
    /// A number of bytes with its unit.
    Size,
    /// A span of time with its unit.
    Span,
}

impl Kind {
    /// What was expected, for an error.
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::OneOf(values) => format!("one of \"{}\"", values.join("\", \"")),
            Self::Integer(max) => format!("a whole number from 0 to {max}"),
            Self::Boolean => "true or false".to_owned(),
            Self::List => "a list of texts such as [\"a\", \"b\"]".to_owned(),
            Self::Size => "a size with its unit such as \"64MiB\"".to_owned(),
            Self::Span => "a span of time with its unit such as \"10s\" or \"300ms\"".to_owned(),
        }
    }

    /// Whether a text means a value of this kind.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Text | Self::List => true,
            Self::OneOf(values) => values.iter().any(|v| v == text),
            Self::Integer(max) => text.parse::<u64>().is_ok_and(|n| n <= *max),
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Size => text.parse::<Size>().is_ok(),
            Self::Span => text.parse::<Span>().is_ok(),
        }
    }
}
