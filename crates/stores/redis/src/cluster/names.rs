// SPDX-License-Identifier: Apache-2.0
//! The names in a directory, which lie on another server than the rows.
//!
//! A name that may be among the names without a row, or the reverse, is *in doubt*: a field of a
//! hash in the slot of the names says so, and listings look at its row, too. So
//!
//! - a row is made after its doubt is noted, and its name is put among the names after it is made;
//! - a name is taken out and its doubt noted in one go; then its row is looked at, and where one
//!   is there by now the name is put back.
//!
//! Whoever makes a row puts its name among the names when it is there: one that is taken out
//! meanwhile is put back by either. A doubt that is old is ended by whoever lists it: who made it
//! has gone. Names come first and rows second in what is read, so no acknowledged row is missed.

use std::collections::{BTreeMap, BTreeSet};

use dulse_store::{Error, ErrorKind, ListRange, Operation};
use redis::{Cmd, Value};

use super::nodes::Routed;
use super::scripts;
use super::slots::slot_of;
use super::store::RedisCluster;
use crate::config::Names;
use crate::error::answer;
use crate::store::bounds;

/// Seconds after which whoever noted a doubt has gone: far longer than it takes to make a row.
const DOUBT_TIME_S: i64 = 600;

/// Hexadecimal digits before the name in a doubt.
const TOKEN_LEN: usize = 16;

/// Names read at a time: as many as are wanted, but no less than so many, of which those without
/// rows are taken out together, and no more.
const PAGE_NAMES: (usize, usize) = (200, 1_000);

/// A page of names.
#[derive(Default)]
pub(super) struct Page {
    /// Those that may have rows.
    pub(super) names: BTreeSet<String>,
    /// Of these, those that are not in doubt.
    pub(super) sure: BTreeSet<String>,
    /// Doubts whose makers have gone.
    pub(super) old: Vec<Vec<u8>>,
    /// The last name, when more may come.
    pub(super) last: Option<String>,
}

/// One more doubt of a name.
pub(super) fn doubt_of(name: &str) -> Vec<u8> {
    format!("{:016x}{name}", rand::random::<u64>()).into_bytes()
}

/// The name that a doubt is about.
fn name_of(doubt: &[u8]) -> Option<&str> {
    std::str::from_utf8(doubt.get(TOKEN_LEN..)?).ok()
}

impl RedisCluster {
    /// The keys of the names in a directory and of its doubts, and their slot.
    pub(super) fn names_keys(&self, directory: &str) -> (Vec<u8>, Vec<u8>, u16) {
        let names = self.config().names_key(directory);
        let slot = slot_of(&names);
        let doubts = [b".names.", directory.as_bytes()].concat();
        (names, self.places.key(slot, &doubts), slot)
    }

    fn script(&self, script: &str, directory: &str, arguments: &[&[u8]]) -> (u16, Cmd) {
        let (names, doubts, slot) = self.names_keys(directory);
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(2).arg(names).arg(doubts);
        command.arg(arguments);
        (slot, command)
    }

    async fn do_script(
        &self,
        operation: Operation,
        script: &str,
        directory: &str,
        arguments: &[&[u8]],
    ) -> Result<Value, Error> {
        let (slot, command) = self.script(script, directory, arguments);
        self.ask(operation, slot, command).await
    }

    /// Notes that names may get rows.
    pub(super) async fn doubt(&self, directory: &str, doubts: &[Vec<u8>]) -> Result<(), Error> {
        let kind: &[u8] = match self.config().names {
            Names::SortedSet => b"zset",
            Names::SkipList => b"string",
        };
        let mut arguments = vec![kind];
        arguments.extend(doubts.iter().map(|doubt| &doubt[..]));
        let operation = Operation::Commit;
        self.do_script(operation, scripts::DOUBT, directory, &arguments)
            .await
            .map(drop)
    }

    /// Names have their rows: they are put among the names, and their doubts are ended.
    pub(super) async fn have_rows(
        &self,
        directory: &str,
        names: &[(String, Vec<u8>)],
    ) -> Result<(), Error> {
        if self.config().names == Names::SkipList {
            let added = names.iter().map(|(name, _)| name.clone()).collect();
            self.add_to_list(directory, added).await?;
        }
        let doubts = names.iter().map(|(_, doubt)| (&doubt[..], true));
        self.end(directory, &doubts.collect()).await
    }

    /// Ends doubts.
    ///
    /// - `doubts`: of each, whether its name has a row, and is to be among the names.
    pub(super) async fn end(
        &self,
        directory: &str,
        doubts: &BTreeMap<&[u8], bool>,
    ) -> Result<(), Error> {
        let is_set = self.config().names == Names::SortedSet;
        let mut arguments: Vec<&[u8]> = Vec::new();
        for (doubt, has_row) in doubts {
            let (is_name, name): (&[u8], &[u8]) = match name_of(doubt) {
                Some(name) if *has_row && is_set => (b"1", name.as_bytes()),
                _ => (b"0", b""),
            };
            arguments.extend([doubt, is_name, name]);
        }
        let operation = Operation::Commit;
        self.do_script(operation, scripts::END, directory, &arguments)
            .await
            .map(drop)
    }

    /// Takes names out that have no row.
    pub(super) async fn clean(
        &self,
        directory: &str,
        names: &BTreeSet<String>,
    ) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        if self.config().names == Names::SkipList {
            return self.clean_list(directory, names).await;
        }
        let doubts: Vec<(&str, Vec<u8>)> = names
            .iter()
            .map(|name| (name.as_str(), doubt_of(name)))
            .collect();
        let arguments: Vec<&[u8]> = doubts
            .iter()
            .flat_map(|(name, doubt)| [name.as_bytes(), doubt])
            .collect();
        let operation = Operation::Commit;
        self.do_script(operation, scripts::TAKE_OUT, directory, &arguments)
            .await?;
        let doubts: Vec<Vec<u8>> = doubts.into_iter().map(|(_, doubt)| doubt).collect();
        self.look_and_end(directory, &doubts).await
    }

    /// Looks for the rows of names that are in doubt, and ends the doubts.
    pub(super) async fn look_and_end(
        &self,
        directory: &str,
        doubts: &[Vec<u8>],
    ) -> Result<(), Error> {
        let names = doubts.iter().filter_map(|doubt| name_of(doubt));
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        let there = self.with_rows(directory, &names).await?;
        if self.config().names == Names::SkipList && !there.is_empty() {
            self.add_to_list(directory, there.clone()).await?;
        }
        let has_row = |doubt: &[u8]| name_of(doubt).is_some_and(|name| there.contains(name));
        let ends = doubts
            .iter()
            .map(|doubt| (doubt.as_slice(), has_row(doubt)))
            .collect();
        self.end(directory, &ends).await
    }

    /// Which of these names have rows.
    pub(super) async fn with_rows(
        &self,
        directory: &str,
        names: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Error> {
        let prefix = self.config().rows_prefix(directory);
        let commands = names.iter().map(|name| {
            let key = [&prefix[..], name.as_bytes()].concat();
            let slot = slot_of(&key);
            let mut command = redis::cmd("EXISTS");
            command.arg(key);
            Routed { slot, command }
        });
        let answers = self.ask_all(Operation::Find, commands.collect()).await?;
        let there = names.iter().zip(answers);
        Ok(there
            .filter(|(_, answer)| *answer == Value::Int(1))
            .map(|(name, _)| name.clone())
            .collect())
    }

    /// All that are in doubt in a directory.
    async fn doubts(&self, directory: &str) -> Result<Doubts, Error> {
        let (_, key, slot) = self.names_keys(directory);
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::DOUBTS).arg(1).arg(key);
        only_doubts(self.ask(Operation::List, slot, command).await?)
    }

    /// Names of a sorted set and doubts that lie on two servers, as their slot moves.
    ///
    /// Doubts first: one that ends has its name among the names by then. And both twice, for a
    /// name that is taken out between the two, and put back, is only for a moment in doubt.
    async fn names_apart(
        &self,
        directory: &str,
        (from, to): (&[u8], &[u8]),
        limit: usize,
    ) -> Result<(Vec<String>, Doubts), Error> {
        let (names, _, slot) = self.names_keys(directory);
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(names).arg(from).arg(to);
        command.arg("LIMIT").arg(0).arg(limit);
        let (mut all, mut doubts, mut last) = (BTreeSet::new(), BTreeMap::new(), None);
        for _ in 0..2 {
            doubts.extend(self.doubts(directory).await?);
            let said = self.ask(Operation::List, slot, command.clone()).await?;
            let page: Option<Vec<String>> = match &said {
                Value::Array(page) => page.iter().map(text).collect(),
                _ => None,
            };
            let page = page.ok_or_else(|| wrong(&said))?;
            // What comes behind a full page is not known.
            if page.len() >= limit {
                last = last.into_iter().chain(page.last().cloned()).min();
            }
            all.extend(page);
        }
        let is_known = |name: &String| last.as_ref().is_none_or(|last| name <= last);
        Ok((
            all.into_iter().filter(is_known).collect(),
            doubts.into_iter().collect(),
        ))
    }

    /// A page of names of a directory, and all that are in doubt there.
    pub(super) async fn page(&self, directory: &str, range: &ListRange) -> Result<Page, Error> {
        let limit = range.limit.clamp(PAGE_NAMES.0, PAGE_NAMES.1);
        let (from, to) = bounds(range);
        let (names, doubts) = match self.config().names {
            Names::SortedSet => {
                let n = limit.to_string();
                let arguments = [&from[..], &to, n.as_bytes()];
                let (slot, script) = self.script(scripts::NAMES, directory, &arguments);
                let operation = Operation::List;
                match self.ask_unless_split(operation, slot, script).await? {
                    Some(said) => names_and_doubts(said)?,
                    None => self.names_apart(directory, (&from, &to), limit).await?,
                }
            }
            Names::SkipList => {
                // Doubts first: one that ends meanwhile has its name in the list by then.
                let doubts = self.doubts(directory).await?;
                let range = ListRange {
                    limit,
                    ..range.clone()
                };
                (self.list_names(directory, &range).await?, doubts)
            }
        };
        let mut page = Page {
            last: names.last().filter(|_| names.len() >= limit).cloned(),
            names: names.iter().cloned().collect(),
            ..Page::default()
        };
        let mut in_doubt = BTreeSet::new();
        for (doubt, is_old) in doubts {
            let Some(name) = name_of(&doubt).map(str::to_owned) else {
                continue;
            };
            let is_in = range.prefix.is_empty() || name.starts_with(&range.prefix);
            let is_behind = match range.inclusive {
                true => name >= range.start,
                false => name > range.start || range.start.is_empty(),
            };
            let is_before = page.last.as_ref().is_none_or(|last| name <= *last);
            if is_old {
                page.old.push(doubt);
            }
            if is_in && is_behind && is_before {
                page.names.insert(name.clone());
            }
            in_doubt.insert(name);
        }
        page.sure = names
            .into_iter()
            .filter(|name| !in_doubt.contains(name))
            .collect();
        Ok(page)
    }
}

/// Doubts, and whether each is old.
type Doubts = Vec<(Vec<u8>, bool)>;

fn names_and_doubts(said: Value) -> Result<(Vec<String>, Doubts), Error> {
    let Value::Array(parts) = &said else {
        return Err(wrong(&said));
    };
    let [Value::Array(names), doubts, now] = parts.as_slice() else {
        return Err(wrong(&said));
    };
    let names: Option<Vec<String>> = names.iter().map(text).collect();
    let names = names.ok_or_else(|| wrong(&said))?;
    let doubts = doubts_of(doubts, now).ok_or_else(|| wrong(&said))?;
    Ok((names, doubts))
}

fn only_doubts(said: Value) -> Result<Doubts, Error> {
    let Value::Array(parts) = &said else {
        return Err(wrong(&said));
    };
    let [doubts, now] = parts.as_slice() else {
        return Err(wrong(&said));
    };
    doubts_of(doubts, now).ok_or_else(|| wrong(&said))
}

fn doubts_of(doubts: &Value, now: &Value) -> Option<Doubts> {
    let now: i64 = text(now)?.parse().ok()?;
    let Value::Array(doubts) = doubts else {
        return None;
    };
    doubts
        .chunks(2)
        .map(|pair| {
            let [Value::BulkString(doubt), since] = pair else {
                return None;
            };
            let since: i64 = text(since)?.parse().ok()?;
            Some((doubt.clone(), now.saturating_sub(since) > DOUBT_TIME_S))
        })
        .collect()
}

/// A text; names that are none are nobody's.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(text) => String::from_utf8(text.clone()).ok(),
        _ => None,
    }
}

fn wrong(said: &Value) -> Error {
    let error = answer(Operation::List, "names and doubts", said);
    debug_assert_eq!(error.kind(), ErrorKind::Corrupt);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_doubt_is_old_when_whoever_noted_it_has_gone() {
        let doubts = Value::Array(vec![
            bulk("0123456789abcdefyoung"),
            bulk("1000"),
            bulk("0123456789abcdefold"),
            bulk("399"),
        ]);
        let said = Value::Array(vec![Value::Array(vec![bulk("a")]), doubts, bulk("1000")]);
        let (names, doubts) = names_and_doubts(said).unwrap();
        assert_eq!(names, ["a"]);
        let doubts: Vec<_> = doubts
            .iter()
            .map(|(doubt, is_old)| (name_of(doubt).unwrap(), *is_old))
            .collect();
        assert_eq!(doubts, [("young", false), ("old", true)]);
    }

    #[test]
    fn an_answer_of_another_form_is_corrupt_and_no_panic() {
        for said in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Nil, Value::Nil, Value::Nil]),
            Value::Array(vec![
                Value::Array(vec![Value::Int(1)]),
                Value::Nil,
                Value::Nil,
            ]),
            Value::Array(vec![
                Value::Array(vec![]),
                Value::Array(vec![bulk("x")]),
                bulk("1"),
            ]),
        ] {
            assert_eq!(
                names_and_doubts(said.clone()).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
            assert_eq!(only_doubts(said).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert_eq!(name_of(b"short"), None);
    }
}
