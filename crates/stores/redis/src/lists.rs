// SPDX-License-Identifier: Apache-2.0
//! Directories whose names lie in skip lists: read as a whole, changed, written back.
//!
//! Upstream's filers change a list under a lock, the key `names lock`, which they hold for eight
//! seconds at most. We take none: the lock is watched with the list, so of a change of ours
//! nothing is made when one of theirs began meanwhile, and while one is under way ours waits.

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, ListRange, Operation};
use dulse_types::FullPath;
use redis::{Pipeline, Value};

use crate::error::answer;
use crate::link::Connection;
use crate::list_plan::{Cards, Plan};
use crate::rows::NameChanges;
use crate::scripts;
use crate::skip_list::{Batch, ELEMENTS_MAX, decode_element, decode_root, encode};
use crate::store::{LIST_BYTES_MAX, Redis, bounds, rows_of};

/// Times that a listing begins again after others changed the list meanwhile.
pub(crate) const LIST_RETRIES_MAX: usize = 20;

/// A list as it was read.
#[derive(Default)]
pub(crate) struct List {
    /// The key of the root and those of the elements, in order, with what was there.
    pub(crate) values: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) batches: Vec<Batch>,
}

impl Redis {
    /// Reads a list on a connection, which watches it from now on.
    pub(crate) async fn watch_list(
        &self,
        connection: &mut Connection,
        directory: &str,
    ) -> Result<List, Error> {
        let (lock, root) = (
            self.config().lock_key(directory),
            self.config().names_key(directory),
        );
        let mut commands = Pipeline::new();
        commands.cmd("WATCH").arg(&lock).arg(&root);
        commands.cmd("EXISTS").arg(&lock);
        commands.cmd("GET").arg(&root);
        let mut answers = self.sent(connection, &commands).await?;
        let value = answers.pop().unwrap_or_default();
        if !matches!(answers.pop(), Some(Value::Int(0))) {
            let error = Error::new(Operation::Commit, ErrorKind::Conflict).with("path", directory);
            return Err(error.with("because", "upstream's filer holds the lock of its names"));
        }
        let mut list = List::default();
        let mut next = list.take_root(root, text(value)?)?;
        while let Some(id) = next {
            let key = self.config().element_key(directory, id);
            let mut commands = Pipeline::new();
            commands.cmd("WATCH").arg(&key);
            commands.cmd("GET").arg(&key);
            let mut answers = self.sent(connection, &commands).await?;
            let value = answers.pop().unwrap_or_default();
            next = list.take_element(key, text(value)?, directory)?;
        }
        Ok(list)
    }

    async fn read_list(&self, directory: &str) -> Result<List, Error> {
        let mut list = List::default();
        let root = self.config().names_key(directory);
        let value = self.value(Operation::List, root.clone()).await?;
        let mut next = list.take_root(root, value.map(Vec::from))?;
        while let Some(id) = next {
            let key = self.config().element_key(directory, id);
            let value = self.value(Operation::List, key.clone()).await?;
            next = list.take_element(key, value.map(Vec::from), directory)?;
        }
        Ok(list)
    }

    /// What becomes of a watched list when names come and go.
    pub(crate) async fn plan_names(
        &self,
        connection: &mut Connection,
        directory: &str,
        list: &List,
        changes: &NameChanges,
    ) -> Result<Plan, Error> {
        if changes.is_dropped {
            return Ok(Plan::dropping(&list.batches));
        }
        let mut cards = self
            .cards(connection, directory, list, changes, false)
            .await?;
        if cards.iter().any(Cards::is_emptied) {
            // Whoever puts a name into a set that is to go must not be missed.
            cards = self
                .cards(connection, directory, list, changes, true)
                .await?;
        }
        Ok(Plan::of(&list.batches, &cards, changes, || {
            // Positive: it is written into the key, and 0 stands for none.
            (rand::random::<u64>() >> 1).max(1).cast_signed()
        }))
    }

    /// How many names each batch has that changes touch, and which of those that go are in it.
    async fn cards(
        &self,
        connection: &mut Connection,
        directory: &str,
        list: &List,
        changes: &NameChanges,
        is_watched: bool,
    ) -> Result<Vec<Cards>, Error> {
        let mut cards: Vec<Cards> = list.batches.iter().map(|_| Cards::default()).collect();
        let touched = Plan::touched(&list.batches, changes);
        if touched.is_empty() {
            return Ok(cards);
        }
        let mut commands = Pipeline::new();
        for (at, removed) in &touched {
            let Some(batch) = list.batches.get(*at) else {
                continue;
            };
            let key = self.config().set_key(directory, batch.id);
            if is_watched && !removed.is_empty() {
                commands.cmd("WATCH").arg(&key);
            }
            commands.cmd("ZCARD").arg(&key);
            if !removed.is_empty() {
                commands.cmd("ZMSCORE").arg(&key).arg(removed);
            }
        }
        let answers = self.sent(connection, &commands).await?;
        let mut answers = answers.into_iter();
        for (at, removed) in touched {
            let Some(card) = cards.get_mut(at) else {
                continue;
            };
            let has_watch = is_watched && !removed.is_empty();
            if has_watch {
                answers.next();
            }
            card.n_names = match answers.next() {
                Some(Value::Int(n)) => u64::try_from(n).unwrap_or(0),
                other => {
                    return Err(answer(
                        Operation::Commit,
                        "a number",
                        &other.unwrap_or_default(),
                    ));
                }
            };
            card.may_go = has_watch;
            if removed.is_empty() {
                continue;
            }
            let Some(Value::Array(scores)) = answers.next() else {
                return Err(answer(Operation::Commit, "scores", &Value::Nil));
            };
            let there = removed.into_iter().zip(scores);
            card.removed = there
                .filter(|(_, score)| !matches!(score, Value::Nil))
                .map(|(name, _)| name)
                .collect();
        }
        Ok(cards)
    }

    /// Adds the commands that make a list what it is to be.
    pub(crate) fn write_list(
        &self,
        commands: &mut Pipeline,
        directory: &str,
        list: &List,
        plan: &Plan,
    ) {
        for (id, names) in &plan.removed {
            commands
                .cmd("ZREM")
                .arg(self.config().set_key(directory, *id))
                .arg(names);
        }
        for split in &plan.splits {
            let from = self.config().set_key(directory, split.from);
            let behind = [b"(", split.behind.as_bytes()].concat();
            commands
                .cmd("ZRANGESTORE")
                .arg(self.config().set_key(directory, split.to))
                .arg(&from)
                .arg(&behind)
                .arg("+")
                .arg("BYLEX");
            commands
                .cmd("ZREMRANGEBYLEX")
                .arg(&from)
                .arg(&behind)
                .arg("+");
        }
        for (id, names) in &plan.added {
            commands
                .cmd("ZADD")
                .arg(self.config().set_key(directory, *id))
                .arg("NX");
            for name in names {
                commands.arg(0).arg(name);
            }
        }
        for id in &plan.dropped {
            let keys = [
                self.config().element_key(directory, *id),
                self.config().set_key(directory, *id),
            ];
            commands.cmd("DEL").arg(&keys);
        }
        let root_key = self.config().names_key(directory);
        if plan.batches.is_empty() {
            commands.cmd("DEL").arg(root_key);
            return;
        }
        let (root, elements) = encode(&plan.batches);
        let mut wanted = vec![(root_key, root)];
        for (batch, bytes) in plan.batches.iter().zip(elements) {
            wanted.push((self.config().element_key(directory, batch.id), bytes));
        }
        for (key, bytes) in wanted {
            let there = list.values.iter().find(|(other, _)| *other == key);
            let is_there = there.is_some_and(|(_, value)| value.as_ref() == Some(&bytes));
            if !is_there {
                commands.cmd("SET").arg(key).arg(bytes);
            }
        }
    }

    /// Counts the rows whose names are in a watched list.
    pub(crate) async fn count_names(
        &self,
        connection: &mut Connection,
        directory: &str,
        list: &List,
    ) -> Result<u64, Error> {
        let mut commands = Pipeline::new();
        let prefix = self.config().rows_prefix(directory);
        for batch in &list.batches {
            let key = self.config().set_key(directory, batch.id);
            commands.cmd("WATCH").arg(&key);
            commands
                .cmd("EVAL")
                .arg(scripts::COUNT)
                .arg(1)
                .arg(&key)
                .arg(&prefix);
        }
        if commands.is_empty() {
            return Ok(0);
        }
        let answers = self.sent(connection, &commands).await?;
        let counts = answers.iter().filter_map(|value| match value {
            Value::Int(n) => u64::try_from(*n).ok(),
            _ => None,
        });
        Ok(counts.sum())
    }

    /// A page of a directory. The list is read before and again behind it: where others moved
    /// names from one batch to another meanwhile, some could have been missed.
    pub(crate) async fn list_lists(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        for _ in 0..LIST_RETRIES_MAX {
            let list = match self.read_list(directory.as_str()).await {
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                list => list?,
            };
            if let Some(rows) = self.list_once(directory, range, &list).await? {
                return Ok(rows);
            }
        }
        let text = format!("the names of `{directory}` change all the time");
        Err(Error::new(Operation::List, ErrorKind::Unavailable).with("because", text))
    }

    /// The page; none when the list was changed meanwhile.
    async fn list_once(
        &self,
        directory: &FullPath,
        range: &ListRange,
        list: &List,
    ) -> Result<Option<Vec<(String, Bytes)>>, Error> {
        let prefix = self.config().rows_prefix(directory.as_str());
        let (start, to) = bounds(range);
        let mut out: Vec<(String, Bytes)> = Vec::new();
        for (i, batch) in list.batches.iter().enumerate() {
            let next = list.batches.get(i + 1);
            // One that was split may have the first name of the next one.
            if next.is_some_and(|next| next.key.as_slice() < range.start.as_bytes()) {
                continue;
            }
            // In two batches is the name at which one was divided and that came back.
            let mut from = match out.last() {
                Some((last, _)) => [b"(", last.as_bytes()].concat(),
                None => start.clone(),
            };
            while out.len() < range.limit {
                let mut commands = Pipeline::new();
                commands
                    .cmd("EVAL")
                    .arg(scripts::LIST)
                    .arg(1)
                    .arg(self.config().set_key(directory.as_str(), batch.id))
                    .arg(&from)
                    .arg(&to)
                    .arg(range.limit - out.len())
                    .arg(&prefix)
                    .arg(LIST_BYTES_MAX);
                commands.cmd("MGET");
                for (key, _) in &list.values {
                    commands.arg(key);
                }
                let mut answers = self.read_all(Operation::List, &commands).await?;
                if !list.is_same(&answers.pop().unwrap_or_default()) {
                    return Ok(None);
                }
                let page = answers.pop().unwrap_or_default();
                match rows_of(page, &mut out)? {
                    Some(next) => from = next,
                    None => break,
                }
            }
        }
        Ok(Some(out))
    }

    /// Commands of an attempt before its `MULTI`.
    async fn sent(
        &self,
        connection: &mut Connection,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, Error> {
        let limit = self.config().answer_time;
        let answers = connection.send(Operation::Commit, commands, limit).await?;
        crate::apply::sound(answers)
    }
}

impl List {
    /// Takes the root; gives the first element.
    pub(crate) fn take_root(
        &mut self,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<Option<i64>, Error> {
        let root = value.as_deref().map(decode_root).transpose();
        let root = root.map_err(|e| Error::new(Operation::List, ErrorKind::Corrupt).source(e))?;
        self.values.push((key, value));
        let first = root.and_then(|root| root.first.into_iter().next());
        Ok(first.filter(|first| first.is_some()).map(|first| first.id))
    }

    /// Takes an element; gives the next one.
    pub(crate) fn take_element(
        &mut self,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
        directory: &str,
    ) -> Result<Option<i64>, Error> {
        let Some(bytes) = value else {
            // Taken out meanwhile, or lost: what is there behind it is not known.
            let error = Error::new(Operation::List, ErrorKind::Conflict).with("path", directory);
            return Err(error.with("because", "an element of the list of its names is missing"));
        };
        let corrupt = || Error::new(Operation::List, ErrorKind::Corrupt).with("path", directory);
        let element = decode_element(&bytes).map_err(|e| corrupt().source(e))?;
        self.batches.push(Batch::of(&element));
        self.values.push((key, Some(bytes)));
        if self.batches.len() > ELEMENTS_MAX {
            return Err(corrupt().with("because", "the list of its names has no end"));
        }
        let next = element.next.into_iter().next();
        Ok(next.filter(|next| next.is_some()).map(|next| next.id))
    }

    /// Whether the server gave the same values again.
    fn is_same(&self, again: &Value) -> bool {
        let Value::Array(again) = again else {
            return false;
        };
        again.len() == self.values.len()
            && again.iter().zip(&self.values).all(|(again, (_, value))| {
                matches!((again, value), (Value::Nil, None))
                    || matches!((again, value), (Value::BulkString(a), Some(b)) if a == b)
            })
    }
}

fn text(value: Value) -> Result<Option<Vec<u8>>, Error> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        other => Err(answer(Operation::Commit, "a value", &other)),
    }
}
