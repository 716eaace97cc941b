// SPDX-License-Identifier: Apache-2.0
//! Rules by path prefix: upstream's `filer.conf`, which its tools write and read.
//!
//! JSON in protobuf's form: `{"version":1,"locations":[{"locationPrefix":"/a/", …}]}`, names
//! in either case. All rules whose prefix a path begins with count, the longer over the
//! shorter; flags are or-ed. Keys that are not known are passed over, as upstream does; so
//! are `volumeGrowthCount`, `disableChunkDeletion` and the `worm` keys, which nothing here
//! obeys (docs/semantics.md says so to users).

use serde::Deserialize;

/// Where the rules lie, as an entry of the tree.
pub const RULES_PATH: &str = "/etc/seaweedfs/filer.conf";

/// Largest file of rules, in bytes.
pub const RULES_LEN_MAX: usize = 16 << 20;

/// What holds for paths with a prefix.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// The prefix, bytewise.
    #[serde(alias = "location_prefix")]
    pub location_prefix: String,
    /// Where new chunks go.
    pub collection: String,
    /// How many copies they have, such as `001`.
    pub replication: String,
    /// Time to live, such as `3d`; empty for none.
    pub ttl: String,
    /// Kind of disk.
    #[serde(alias = "disk_type")]
    pub disk_type: String,
    /// New chunks are synced to disk before they are acknowledged.
    pub fsync: bool,
    /// Writes are refused.
    #[serde(alias = "read_only")]
    pub read_only: bool,
    /// Longest name in bytes; 0 for the filer's own limit.
    #[serde(alias = "max_file_name_length")]
    pub max_file_name_length: u32,
    /// Where new chunks should lie.
    #[serde(alias = "data_center")]
    pub data_center: String,
    /// Where new chunks should lie.
    pub rack: String,
    /// Where new chunks should lie.
    #[serde(alias = "data_node")]
    pub data_node: String,
}

/// All rules, the shortest prefix first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rules(Vec<Rule>);

/// Why a text holds no rules.
#[derive(Debug, thiserror::Error)]
#[error("no rules: {0}; expected JSON such as {{\"locations\":[{{\"locationPrefix\":\"/a/\"}}]}}")]
pub struct RulesError(#[from] serde_json::Error);

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct File {
    locations: Vec<Rule>,
}

impl Rules {
    /// Reads a file of rules; an empty one has none.
    ///
    /// # Errors
    ///
    /// When it is no JSON of that form.
    pub fn parse(text: &[u8]) -> Result<Self, RulesError> {
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let File { mut locations } = serde_json::from_slice(text)?;
        locations.sort_by_key(|rule| rule.location_prefix.len());
        Ok(Self(locations))
    }

    /// What holds for a path; `None` when no rule names it, which costs nothing.
    #[must_use]
    pub fn of(&self, path: &str) -> Option<Rule> {
        let mut matching = self
            .0
            .iter()
            .filter(|rule| path.starts_with(&rule.location_prefix));
        let mut merged = matching.next()?.clone();
        for rule in matching {
            merged.merge(rule);
        }
        Some(merged)
    }
}

impl Rule {
    fn merge(&mut self, longer: &Self) {
        let texts = [
            (&mut self.collection, &longer.collection),
            (&mut self.replication, &longer.replication),
            (&mut self.ttl, &longer.ttl),
            (&mut self.disk_type, &longer.disk_type),
            (&mut self.data_center, &longer.data_center),
            (&mut self.rack, &longer.rack),
            (&mut self.data_node, &longer.data_node),
            (&mut self.location_prefix, &longer.location_prefix),
        ];
        for (text, longer) in texts {
            if !longer.is_empty() {
                text.clone_from(longer);
            }
        }
        if longer.max_file_name_length > 0 {
            self.max_file_name_length = longer.max_file_name_length;
        }
        self.read_only |= longer.read_only;
        self.fsync |= longer.fsync;
    }

    /// The time to live in seconds; 0 for none, and for a text that is none.
    #[must_use]
    pub fn ttl_sec(&self) -> i32 {
        let Some(unit) = self.ttl.chars().last() else {
            return 0;
        };
        let (number, seconds) = match unit {
            'm' => (&self.ttl[..self.ttl.len() - 1], 60),
            'h' => (&self.ttl[..self.ttl.len() - 1], 3_600),
            'd' => (&self.ttl[..self.ttl.len() - 1], 86_400),
            'w' => (&self.ttl[..self.ttl.len() - 1], 7 * 86_400),
            'M' => (&self.ttl[..self.ttl.len() - 1], 30 * 86_400),
            'y' => (&self.ttl[..self.ttl.len() - 1], 365 * 86_400),
            // Without a unit it counts minutes.
            _ => (self.ttl.as_str(), 60),
        };
        let number: i32 = number.parse().unwrap_or(0);
        number.max(0).saturating_mul(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_prefix_wins_and_flags_add_up() {
        let rules = Rules::parse(
            br#"{"version":1,"locations":[
                {"locationPrefix":"/a/b/","ttl":"3d","maxFileNameLength":300},
                {"location_prefix":"/a/","collection":"c","ttl":"1h","read_only":true,"fsync":true,"new":1}
            ]}"#,
        )
        .unwrap();
        assert_eq!(rules.of("/x"), None);
        let outer = rules.of("/a/x").unwrap();
        assert_eq!((outer.ttl_sec(), outer.read_only), (3_600, true));
        let inner = rules.of("/a/b/x").unwrap();
        assert_eq!(inner.collection, "c");
        assert_eq!((inner.ttl_sec(), inner.read_only), (3 * 86_400, true));
        assert_eq!((inner.max_file_name_length, inner.fsync), (300, true));
    }

    #[test]
    fn what_is_no_file_of_rules_is_refused_and_an_empty_one_has_none() {
        assert_eq!(Rules::parse(b" \n").unwrap(), Rules::default());
        assert!(Rules::parse(b"{").is_err());
        for (ttl, expect) in [("", 0), ("x", 0), ("5", 300), ("2w", 1_209_600), ("-1d", 0)] {
            let rule = Rule {
                ttl: ttl.to_owned(),
                ..Rule::default()
            };
            assert_eq!(rule.ttl_sec(), expect, "{ttl}");
        }
    }
}
