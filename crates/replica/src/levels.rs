// SPDX-License-Identifier: Apache-2.0
//! When a local write is acknowledged: one level for all, others below some directories.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use dulse_store::{Step, Transaction};
use dulse_types::FullPath;

/// Most filers that one write may wait for; a cluster has a handful.
pub const PEERS_MAX: u8 = 64;

/// When a local write is acknowledged. Ordered: a greater one promises all that a lesser does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Durability {
    /// When the system has it: survives kill -9, not power loss.
    Os,
    /// When it is on disk: survives power loss.
    Fsync,
    /// When it is on disk here and at so many other members, at least one: survives the loss of
    /// as many machines.
    Peers(u8),
}

/// A text that is no level.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is no durability; expected `fsync`, `os` or `peers(n)` with n from 1 to {PEERS_MAX}"
)]
pub struct DurabilityError(String);

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os => f.write_str("os"),
            Self::Fsync => f.write_str("fsync"),
            Self::Peers(n) => write!(f, "peers({n})"),
        }
    }
}

impl FromStr for Durability {
    type Err = DurabilityError;

    fn from_str(text: &str) -> Result<Self, DurabilityError> {
        let peers = || {
            let n = text.strip_prefix("peers(")?.strip_suffix(')')?;
            let n: u8 = n.parse().ok()?;
            (1..=PEERS_MAX).contains(&n).then_some(Self::Peers(n))
        };
        match text {
            "os" => Ok(Self::Os),
            "fsync" => Ok(Self::Fsync),
            _ => peers().ok_or_else(|| DurabilityError(text.to_owned())),
        }
    }
}

/// The level of one directory and all below it. Text form `/directory=level`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LevelBelow {
    /// The directory.
    pub directory: FullPath,
    /// Of what is there and below.
    pub level: Durability,
}

/// A text that gives no directory a level.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LevelError {
    /// It is not of the form.
    #[error("`{0}` sets no durability; expected `/directory=level` such as `/bank=peers(1)`")]
    Form(String),
    /// The directory is none.
    #[error("`{0}` is no directory; expected a path such as `/bank`")]
    Directory(String),
    /// The level is none.
    #[error(transparent)]
    Level(#[from] DurabilityError),
    /// The directory has two.
    #[error("`{0}` has two durabilities; expected one")]
    Twice(FullPath),
}

impl fmt::Display for LevelBelow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.directory, self.level)
    }
}

impl FromStr for LevelBelow {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let form = || LevelError::Form(text.to_owned());
        // A directory may have the sign in its name, a level has not.
        let (directory, level) = text.rsplit_once('=').ok_or_else(form)?;
        let trimmed = match directory.trim_end_matches('/') {
            "" if !directory.is_empty() => "/",
            trimmed => trimmed,
        };
        let parsed = FullPath::parse(trimmed);
        Ok(Self {
            directory: parsed.map_err(|_| LevelError::Directory(directory.to_owned()))?,
            level: level.parse()?,
        })
    }
}

/// The levels of a filer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Levels {
    default: Durability,
    below: BTreeMap<FullPath, Durability>,
}

impl From<Durability> for Levels {
    fn from(default: Durability) -> Self {
        Self {
            default,
            below: BTreeMap::new(),
        }
    }
}

impl Levels {
    /// One level for all, and others below some directories.
    ///
    /// # Errors
    ///
    /// `Twice` when a directory has two.
    pub fn new(default: Durability, below: &[LevelBelow]) -> Result<Self, LevelError> {
        let mut levels = Self::from(default);
        for LevelBelow { directory, level } in below {
            if levels.below.insert(directory.clone(), *level).is_some() {
                return Err(LevelError::Twice(directory.clone()));
            }
        }
        Ok(levels)
    }

    /// What holds where nothing else is said.
    #[must_use]
    pub fn default_level(&self) -> Durability {
        self.default
    }

    /// The greatest number of other filers that any write waits for.
    #[must_use]
    pub fn n_peers_max(&self) -> usize {
        let all = self.below.values().chain([&self.default]);
        let counts = all.map(|level| match level {
            Durability::Peers(n) => usize::from(*n),
            Durability::Os | Durability::Fsync => 0,
        });
        counts.max().unwrap_or(0)
    }

    /// The level of a path: that of the longest directory at or above it.
    #[must_use]
    pub fn of_path(&self, path: &FullPath) -> Durability {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if let Some(level) = self.below.get(&path) {
                return *level;
            }
            at = path.parent();
        }
        self.default
    }

    /// The level of a transaction: the greatest of the paths that it writes. A directory that is
    /// moved or removed counts with what lies below it. Keys have no path: the default holds.
    #[must_use]
    pub fn of(&self, transaction: &Transaction) -> Durability {
        if self.below.is_empty() {
            return self.default;
        }
        let levels = transaction.steps.iter().map(|step| match step {
            Step::Create { path, .. }
            | Step::Update { path, .. }
            | Step::RestoreInPlace { path, .. }
            | Step::RestoreCopy { path, .. } => self.of_path(path),
            Step::Delete { path, .. } => self.of_tree(path),
            Step::Rename { from, to } => self.of_tree(from).max(self.of_tree(to)),
            Step::Link { from, to } => self.of_path(from).max(self.of_path(to)),
            Step::KvPut { .. } | Step::KvDelete { .. } | Step::Dismiss { .. } => self.default,
        });
        levels.max().unwrap_or(self.default)
    }

    fn of_tree(&self, path: &FullPath) -> Durability {
        let below = self.below.iter().filter(|(dir, _)| dir.is_below(path));
        let below = below.map(|(_, level)| *level);
        below
            .chain([self.of_path(path)])
            .max()
            .unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FullPath {
        FullPath::parse(text).unwrap()
    }

    fn levels() -> Levels {
        let texts = [
            "/bank=peers(1)",
            "/bank/cache=os",
            "/tmp=os",
            "/a=b=peers(2)",
        ];
        let below: Vec<LevelBelow> = texts.iter().map(|t| t.parse().unwrap()).collect();
        Levels::new(Durability::Fsync, &below).unwrap()
    }

    #[test]
    fn levels_are_parsed_printed_and_ordered() {
        for text in ["os", "fsync", "peers(1)", "peers(64)"] {
            assert_eq!(text.parse::<Durability>().unwrap().to_string(), text);
        }
        let bad = [
            "",
            "peers",
            "peers()",
            "peers(0)",
            "peers(65)",
            "peers(-1)",
            "Peers(1)",
        ];
        for text in bad {
            let said = text.parse::<Durability>().unwrap_err().to_string();
            assert!(
                said.contains("expected `fsync`, `os` or `peers(n)`"),
                "{said}"
            );
        }
        assert!(Durability::Os < Durability::Fsync && Durability::Fsync < Durability::Peers(1));
    }

    #[test]
    fn the_longest_directory_wins_and_names_are_whole() {
        let levels = levels();
        for (at, level) in [
            ("/", Durability::Fsync),
            ("/bank", Durability::Peers(1)),
            ("/bank/x/y", Durability::Peers(1)),
            ("/bank/cache/y", Durability::Os),
            ("/bankers", Durability::Fsync),
            ("/a=b/c", Durability::Peers(2)),
        ] {
            assert_eq!(levels.of_path(&path(at)), level, "{at}");
        }
        assert_eq!(levels.n_peers_max(), 2);
        let root: LevelBelow = "/=os".parse().unwrap();
        let all = Levels::new(Durability::Fsync, &[root]).unwrap();
        assert_eq!(all.of_path(&path("/x")), Durability::Os);
    }

    #[test]
    fn a_transaction_has_the_greatest_level_of_what_it_touches() {
        let of = |steps: Vec<Step>| {
            levels().of(&Transaction {
                steps,
                ..Transaction::default()
            })
        };
        let rename = |from, to| Step::Rename {
            from: path(from),
            to: path(to),
        };
        assert_eq!(of(vec![rename("/tmp/x", "/bank/x")]), Durability::Peers(1));
        assert_eq!(of(vec![rename("/tmp/x", "/tmp/y")]), Durability::Os);
        let whole = Step::Delete {
            path: path("/bank"),
            delete_chunks: true,
        };
        assert_eq!(of(vec![whole]), Durability::Peers(1));
        // What lies below the root is moved with it.
        assert_eq!(of(vec![rename("/", "/elsewhere")]), Durability::Peers(2));
        assert_eq!(of(Vec::new()), Durability::Fsync);
    }

    #[test]
    fn what_sets_no_level_says_what_was_expected() {
        for (text, says) in [
            ("/bank", "expected `/directory=level`"),
            ("bank=os", "is no directory"),
            ("/bank=often", "is no durability"),
        ] {
            let said = text.parse::<LevelBelow>().unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        let twice = ["/a=os".parse().unwrap(), "/a/=fsync".parse().unwrap()];
        let said = Levels::new(Durability::Fsync, &twice).unwrap_err();
        assert!(said.to_string().contains("two durabilities"), "{said}");
    }
}
