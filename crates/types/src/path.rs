// SPDX-License-Identifier: Apache-2.0
//! Paths and names, checked once at the edge.

use std::fmt;

/// Longest name of one entry, in bytes (upstream's default `max_file_name_length`).
pub const NAME_LEN_MAX: usize = 255;

/// Longest path, in bytes (Linux `PATH_MAX` less its terminator).
pub const PATH_LEN_MAX: usize = 4095;

/// Why a text is no path or name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// The path does not start with `/`.
    #[error("path `{0}` is not absolute; expected it to start with `/`")]
    NotAbsolute(String),
    /// A NUL byte, which separates directory and name in store keys.
    #[error("a NUL byte is not allowed in a path")]
    Nul,
    /// `.` or `..` as a component.
    #[error("`{0}` is not allowed as a name")]
    Dots(String),
    /// A name is empty or contains `/`.
    #[error("name `{0}` is empty or contains `/`")]
    BadName(String),
    /// A path above [`PATH_LEN_MAX`].
    #[error("path of {0} bytes is longer than {PATH_LEN_MAX}")]
    TooLong(usize),
}

/// The bare name of one entry: not empty, no `/`, no NUL, not `.` or `..`.
///
/// Its length is limited by the namespace, whose rules can raise it per prefix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EntryName(String);

impl EntryName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// `BadName`, `Nul`, `Dots`.
    pub fn new(name: &str) -> Result<Self, PathError> {
        check_name(name)?;
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute path without a trailing slash, no empty or dotted components; `/` is the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FullPath(String);

impl FullPath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Parses a path; repeated and trailing slashes collapse.
    ///
    /// # Errors
    ///
    /// Every kind of [`PathError`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if !text.starts_with('/') {
            return Err(PathError::NotAbsolute(text.to_owned()));
        }
        if text.len() > PATH_LEN_MAX {
            return Err(PathError::TooLong(text.len()));
        }
        let mut out = String::with_capacity(text.len());
        for part in text.split('/').filter(|part| !part.is_empty()) {
            check_name(part)?;
            out.push('/');
            out.push_str(part);
        }
        if out.is_empty() {
            out.push('/');
        }
        Ok(Self(out))
    }

    /// Joins directory and bare name, both unchecked text, as requests carry them.
    ///
    /// # Errors
    ///
    /// As [`FullPath::parse`]; a name with `/` is `BadName`. An empty name yields the directory.
    pub fn of(directory: &str, name: &str) -> Result<Self, PathError> {
        let directory = Self::parse(directory)?;
        if name.is_empty() {
            return Ok(directory);
        }
        directory.child(&EntryName::new(name)?)
    }

    /// The path of an entry below this directory.
    ///
    /// # Errors
    ///
    /// `TooLong`.
    pub fn child(&self, name: &EntryName) -> Result<Self, PathError> {
        let slash = if self.is_root() { "" } else { "/" };
        let len = self.0.len() + slash.len() + name.0.len();
        if len > PATH_LEN_MAX {
            return Err(PathError::TooLong(len));
        }
        Ok(Self(format!("{}{slash}{}", self.0, name.0)))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// Parent directory and bare name as text; `None` for the root.
    #[must_use]
    pub fn split(&self) -> Option<(&str, &str)> {
        if self.is_root() {
            return None;
        }
        let at = self.0.rfind('/')?;
        let dir = if at == 0 { "/" } else { &self.0[..at] };
        Some((dir, &self.0[at + 1..]))
    }

    /// The parent directory; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.split().map(|(dir, _)| Self(dir.to_owned()))
    }

    /// The bare name; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.split().map_or("", |(_, name)| name)
    }

    /// Whether `self` lies strictly below `ancestor`, by whole components.
    #[must_use]
    pub fn is_below(&self, ancestor: &Self) -> bool {
        if ancestor.is_root() {
            return !self.is_root();
        }
        self.0
            .strip_prefix(&ancestor.0)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// The same path with `from`, itself or an ancestor, replaced by `to`.
    ///
    /// # Errors
    ///
    /// `TooLong`. `NotAbsolute` when the path is neither `from` nor below it.
    pub fn moved(&self, from: &Self, to: &Self) -> Result<Self, PathError> {
        if self == from {
            return Ok(to.clone());
        }
        if !self.is_below(from) {
            return Err(PathError::NotAbsolute(self.0.clone()));
        }
        let rest = if from.is_root() {
            &self.0[..]
        } else {
            &self.0[from.0.len()..]
        };
        let base = if to.is_root() { "" } else { &to.0[..] };
        let len = base.len() + rest.len();
        if len > PATH_LEN_MAX {
            return Err(PathError::TooLong(len));
        }
        Ok(Self(format!("{base}{rest}")))
    }
}

impl fmt::Display for FullPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_name(name: &str) -> Result<(), PathError> {
    if name.is_empty() || name.contains('/') {
        return Err(PathError::BadName(name.to_owned()));
    }
    if name.contains('\0') {
        return Err(PathError::Nul);
    }
    if name == "." || name == ".." {
        return Err(PathError::Dots(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_collapse_slashes() {
        for (input, expect) in [("/", "/"), ("//a//b/", "/a/b"), ("/a", "/a"), ("///", "/")] {
            assert_eq!(FullPath::parse(input).unwrap().as_str(), expect);
        }
    }

    #[test]
    fn bad_paths_are_refused() {
        for input in ["", "a", "/a/../b", "/.", "/a\0b"] {
            assert!(FullPath::parse(input).is_err(), "{input:?}");
        }
        assert!(FullPath::of("/a", "b/c").is_err());
    }

    #[test]
    fn below_goes_by_components() {
        let p = |s| FullPath::parse(s).unwrap();
        assert!(p("/a/b").is_below(&p("/a")));
        assert!(!p("/ab").is_below(&p("/a")));
        assert!(!p("/a").is_below(&p("/a")));
        assert!(p("/a").is_below(&p("/")));
        assert_eq!(p("/a/b/c").moved(&p("/a/b"), &p("/")).unwrap(), p("/c"));
        assert_eq!(p("/a/b").moved(&p("/a"), &p("/x/y")).unwrap(), p("/x/y/b"));
        assert_eq!(p("/a").moved(&p("/"), &p("/x")).unwrap(), p("/x/a"));
    }
}
