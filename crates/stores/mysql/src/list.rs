// SPDX-License-Identifier: Apache-2.0
//! Listings in byte order, by an index that has another one.
//!
//! Upstream's collation, `utf8mb4_bin`, compares names as if the shorter one had spaces behind
//! it. So a name that goes on with a character below the space, such as a tab, comes in the index
//! before the name that it begins with, and in byte order behind it; all others are in one order
//! in both. A page is read in the order of the index, from far enough before its start, and the
//! names that its rows begin with are looked up if there is such a character in them. That is a
//! page in byte order, and nothing is sorted in the database.

use std::collections::BTreeMap;

use bytes::Bytes;
use dulse_shared::sql::{behind, directory_of, dirhash};
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use mysql_async::{Row, Value};

use crate::store::{MySql, Order, column};

/// Characters of a name, by upstream's tables.
const NAME_CHARS_MAX: usize = 766;

/// Names that are looked up by one statement.
const LOOKED_UP_MAX: usize = 64;

type Rows = BTreeMap<String, Bytes>;

impl MySql {
    /// See [`dulse_shared::Backend::list`].
    pub(crate) async fn rows(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let place = directory_of(self.config.tables, directory.as_str());
        let Ok((table, inside)) = place else {
            return Ok(Vec::new());
        };
        let Some(order) = self.order(&table, Operation::List).await? else {
            return Ok(Vec::new());
        };
        // From the greater of both: a start before the prefix begins at the prefix itself.
        let (start, inclusive) = match range.start < range.prefix {
            true => (&range.prefix, true),
            false => (&range.start, range.inclusive),
        };
        let page = Page {
            table: &table,
            directory: inside,
            start,
            inclusive,
            end: behind(&range.prefix),
            limit: range.limit,
        };
        let read = match order {
            Order::Index => self.by_index(&page).await,
            Order::Sort => self.by_sort(&page).await,
        };
        match read {
            Ok(rows) => Ok(rows.into_iter().take(range.limit).collect()),
            // The table went with its bucket.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.forget([table.as_str()]);
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn by_index(&self, page: &Page<'_>) -> Result<Rows, Error> {
        let (sql, parameters) = page.by_index();
        let mut rows = collect(self.read(Operation::List, &sql, parameters).await?)?;
        let begins = beginnings(rows.keys().map(String::as_str));
        for part in begins.chunks(LOOKED_UP_MAX) {
            let (sql, parameters) = page.look_up(part);
            let found = collect(self.read(Operation::List, &sql, parameters).await?)?;
            rows.extend(found.into_iter().filter(|(name, _)| page.has(name)));
        }
        Ok(rows)
    }

    async fn by_sort(&self, page: &Page<'_>) -> Result<Rows, Error> {
        let (sql, parameters) = page.by_sort();
        collect(self.read(Operation::List, &sql, parameters).await?)
    }
}

fn collect(rows: Vec<Row>) -> Result<Rows, Error> {
    let mut out = Rows::new();
    for row in rows {
        let value: Option<Vec<u8>> = column(&row, 1)?;
        out.insert(column(&row, 0)?, value.unwrap_or_default().into());
    }
    Ok(out)
}

/// What the index may have behind the rows of a page and bytes before them: each beginning of a
/// name that a character below the space follows.
fn beginnings<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut out = Vec::new();
    for name in names {
        let low = name.match_indices(|c| c < ' ').map(|(at, _)| at);
        out.extend(low.filter(|at| *at > 0).map(|at| name[..at].to_owned()));
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// What is asked for.
struct Page<'a> {
    table: &'a str,
    directory: &'a str,
    start: &'a str,
    inclusive: bool,
    end: Option<String>,
    limit: usize,
}

impl Page<'_> {
    fn has(&self, name: &str) -> bool {
        let is_from = match self.inclusive {
            true => name >= self.start,
            false => name > self.start,
        };
        is_from && self.end.as_ref().is_none_or(|end| name < end.as_str())
    }

    /// The least that can begin with the start, by the index: the lowest character as often as
    /// the column has room for it.
    fn least(&self) -> String {
        let n = NAME_CHARS_MAX.saturating_sub(self.start.chars().count());
        format!("{}{}", self.start, "\u{1}".repeat(n))
    }

    fn select(&self) -> (String, Vec<Value>) {
        let sql = format!(
            "SELECT `name`, `meta` FROM `{}` WHERE `dirhash` = ? AND `directory` = ?",
            self.table
        );
        (
            sql,
            vec![dirhash(self.directory).into(), self.directory.into()],
        )
    }

    /// The bounds in bytes.
    fn bound(&self, sql: &mut String, parameters: &mut Vec<Value>) {
        let compare = if self.inclusive { ">=" } else { ">" };
        sql.push_str(" AND CAST(`name` AS BINARY) ");
        sql.push_str(compare);
        sql.push_str(" ?");
        parameters.push(self.start.into());
        if let Some(end) = &self.end {
            sql.push_str(" AND CAST(`name` AS BINARY) < ?");
            parameters.push(end.into());
        }
    }

    fn by_index(&self) -> (String, Vec<Value>) {
        let (mut sql, mut parameters) = self.select();
        // What begins with the start may be before it in the index; where the collation adds no
        // spaces it is not, hence both.
        sql.push_str(" AND (`name` >= ? OR `name` >= ?)");
        parameters.push(self.least().into());
        parameters.push(self.start.into());
        if let Some(end) = &self.end {
            sql.push_str(" AND `name` < ?");
            parameters.push(end.into());
        }
        self.bound(&mut sql, &mut parameters);
        sql.push_str(" ORDER BY `name` ASC LIMIT ?");
        parameters.push(self.limit.into());
        (sql, parameters)
    }

    fn by_sort(&self) -> (String, Vec<Value>) {
        let (mut sql, mut parameters) = self.select();
        self.bound(&mut sql, &mut parameters);
        sql.push_str(" ORDER BY CAST(`name` AS BINARY) ASC LIMIT ?");
        parameters.push(self.limit.into());
        (sql, parameters)
    }

    fn look_up(&self, names: &[String]) -> (String, Vec<Value>) {
        let (mut sql, mut parameters) = self.select();
        let marks = vec!["?"; names.len()].join(",");
        sql.push_str(&format!(" AND `name` IN ({marks})"));
        parameters.extend(names.iter().map(Value::from));
        (sql, parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's collation: the shorter one is filled up with spaces.
    fn padded(a: &str, b: &str) -> std::cmp::Ordering {
        let n = a.chars().count().max(b.chars().count());
        let filled = |text: &'static str, n| text.chars().cycle().take(n);
        let (more_a, more_b) = (n - a.chars().count(), n - b.chars().count());
        let a = a.chars().chain(filled(" ", more_a));
        a.cmp(b.chars().chain(filled(" ", more_b)))
    }

    /// A page as the database and this module make it of names that are there.
    fn page_of(there: &[String], page: &Page<'_>) -> Vec<String> {
        use std::cmp::Ordering::Less;
        let low = page.least();
        let mut rows: Vec<String> = there
            .iter()
            .filter(|name| padded(name, &low) != Less || padded(name, page.start) != Less)
            .filter(|name| {
                page.end
                    .as_ref()
                    .is_none_or(|end| padded(name, end) == Less)
            })
            .filter(|name| page.has(name))
            .cloned()
            .collect();
        rows.sort_by(|a, b| padded(a, b));
        rows.truncate(page.limit);
        for begin in beginnings(rows.clone().iter().map(String::as_str)) {
            let found = there.iter().find(|name| padded(name, &begin).is_eq());
            rows.extend(found.filter(|name| page.has(name)).cloned());
        }
        rows.sort_unstable();
        rows.dedup();
        rows.truncate(page.limit);
        rows
    }

    #[test]
    fn pages_of_any_names_are_in_byte_order_and_lack_none() {
        // All names of up to four of these, as far as the index takes them beside each other.
        let letters = ["\u{1}", " ", "a", "b"];
        let mut all = vec![String::new()];
        for _ in 0..4 {
            let longer = all
                .iter()
                .flat_map(|name| letters.iter().map(move |letter| format!("{name}{letter}")));
            all = all.iter().cloned().chain(longer).collect();
            all.sort_unstable();
            all.dedup();
        }
        all.retain(|name| !name.is_empty());
        let mut seed = 1_u64;
        let mut random = move |n: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % n
        };
        for _ in 0..3_000 {
            let mut there: Vec<String> = Vec::new();
            for _ in 0..random(25) {
                let name = all[random(all.len())].clone();
                if there.iter().all(|other| padded(&name, other).is_ne()) {
                    there.push(name);
                }
            }
            let prefix = match random(3) {
                0 => all[random(all.len())].clone(),
                _ => String::new(),
            };
            let start = match random(2) {
                0 => all[random(all.len())].clone(),
                _ => String::new(),
            };
            let (start, inclusive) = match start < prefix {
                true => (prefix.clone(), true),
                false => (start, random(2) == 0),
            };
            let page = Page {
                table: "t",
                directory: "/d",
                start: &start,
                inclusive,
                end: behind(&prefix),
                limit: 1 + random(6),
            };
            let mut expected: Vec<String> = there.iter().filter(|n| page.has(n)).cloned().collect();
            expected.sort_unstable();
            expected.truncate(page.limit);
            assert_eq!(
                page_of(&there, &page),
                expected,
                "{there:?} {start:?} {prefix:?}"
            );
        }
    }
}
