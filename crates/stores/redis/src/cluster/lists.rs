// SPDX-License-Identifier: Apache-2.0
//! Directories whose names lie in skip lists, on several servers.
//!
//! A list is changed under upstream's lock, which whoever dies holds for eight seconds: upstream's
//! filers and ours wait for one another. Names are put into the batch they belong to, and a batch
//! is not divided: sorted sets have no greatest size, and upstream's filers divide full ones.
//! A listing reads the list before and behind its names, and begins again where it has changed.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use dulse_store::{Error, ErrorKind, ListRange, Operation};
use redis::{Cmd, Value};
use tokio::sync::{Mutex, MutexGuard};

use super::names::text;
use super::nodes::Routed;
use super::scripts;
use super::slots::slot_of;
use super::store::RedisCluster;
use crate::error::answer;
use crate::list_plan::{Cards, Plan};
use crate::lists::{LIST_RETRIES_MAX, List};
use crate::rows::NameChanges;
use crate::skip_list::{BATCH_NAMES_MAX, encode};
use crate::store::bounds;

/// How long upstream's lock lasts, in seconds.
const LOCK_TIME_S: u32 = 8;

/// How long a lock is worked under: what is sent by then is done before it is over.
const WORK_TIME_MAX: Duration = Duration::from_secs(4);

/// How long a lock is waited for.
const WAIT_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause before a lock is asked for again.
const WAIT_PAUSE: Duration = Duration::from_millis(5);

/// Locks of this process, so that it does not wait for itself at a server.
const OWN_LOCKS: usize = 256;

/// Which of this process' changes a lock of its own lets in, one at a time.
pub(super) struct OwnLocks(Vec<Mutex<()>>);

/// A lock that is held.
struct Held<'a> {
    key: Vec<u8>,
    token: String,
    since: Instant,
    _own: MutexGuard<'a, ()>,
}

impl OwnLocks {
    pub(super) fn new() -> Self {
        Self((0..OWN_LOCKS).map(|_| Mutex::new(())).collect())
    }

    async fn lock(&self, directory: &str) -> Result<MutexGuard<'_, ()>, Error> {
        let hasher = BuildHasherDefault::<DefaultHasher>::new();
        let at = hasher.hash_one(directory) % OWN_LOCKS as u64;
        let lock = usize::try_from(at).ok().and_then(|at| self.0.get(at));
        let lock = lock.ok_or_else(|| Error::new(Operation::Commit, ErrorKind::Invalid))?;
        Ok(lock.lock().await)
    }
}

impl Held<'_> {
    /// Whether what is sent now is done while it is held.
    fn check(&self) -> Result<(), Error> {
        if self.since.elapsed() < WORK_TIME_MAX {
            return Ok(());
        }
        let text = "the lock on the names of a directory was held for too long";
        Err(Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", text))
    }
}

impl RedisCluster {
    /// Puts names into a list.
    pub(super) async fn add_to_list(
        &self,
        directory: &str,
        added: BTreeSet<String>,
    ) -> Result<(), Error> {
        let held = self.lock(directory).await?;
        let changes = NameChanges {
            added,
            ..NameChanges::default()
        };
        let done = self.change_list(&held, directory, &changes).await;
        self.unlock(held).await;
        done
    }

    /// Takes names out of a list that have no row. Who makes one meanwhile puts its name there
    /// when this lock is given up.
    pub(super) async fn clean_list(
        &self,
        directory: &str,
        names: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let held = self.lock(directory).await?;
        let done = async {
            let there = self.with_rows(directory, names).await?;
            let changes = NameChanges {
                removed: names - &there,
                ..NameChanges::default()
            };
            self.change_list(&held, directory, &changes).await
        };
        let done = done.await;
        self.unlock(held).await;
        done
    }

    async fn lock(&self, directory: &str) -> Result<Held<'_>, Error> {
        let own = self.own_locks.lock(directory).await?;
        let key = self.config().lock_key(directory);
        // Upstream's are as long.
        let token = format!("{:024x}", rand::random::<u128>() >> 32);
        let began = Instant::now();
        loop {
            let since = Instant::now();
            let mut command = redis::cmd("SET");
            command.arg(&key).arg(&token).arg("EX").arg(LOCK_TIME_S);
            command.arg("NX").arg("GET");
            let said = self.ask(Operation::Commit, slot_of(&key), command).await?;
            // It may have been asked twice: then it is there already.
            let is_held = match &said {
                Value::Nil => true,
                value => text(value).as_ref() == Some(&token),
            };
            if is_held {
                return Ok(Held {
                    key,
                    token,
                    since,
                    _own: own,
                });
            }
            if began.elapsed() > WAIT_TIME_MAX {
                let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
                let text = "others hold the lock on its names";
                return Err(error.with("path", directory).with("because", text));
            }
            tokio::time::sleep(WAIT_PAUSE).await;
        }
    }

    async fn unlock(&self, held: Held<'_>) {
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::UNLOCK).arg(1);
        command.arg(&held.key).arg(&held.token);
        let slot = slot_of(&held.key);
        if let Err(error) = self.ask(Operation::Commit, slot, command).await {
            tracing::debug!(%error, "a lock is not given up; it ends by itself");
        }
    }

    async fn change_list(
        &self,
        held: &Held<'_>,
        directory: &str,
        changes: &NameChanges,
    ) -> Result<(), Error> {
        let list = self.read_list(directory).await?;
        let cards = self.cards(directory, &list, changes).await?;
        let plan = Plan::of(&list.batches, &cards, changes, || {
            // Positive: it is written into the key, and 0 stands for none.
            (rand::random::<u64>() >> 1).max(1).cast_signed()
        });
        let names_of = |id: i64| self.config().set_key(directory, id);
        // Names go into sets before anything leads to these.
        let mut first = Vec::new();
        for (id, names) in &plan.removed {
            first.push(command("ZREM", names_of(*id)).arg(names).clone());
        }
        for (id, names) in &plan.added {
            let mut add = command("ZADD", names_of(*id));
            add.arg("NX");
            for name in names {
                add.arg(0).arg(name);
            }
            first.push(add);
        }
        self.under(held, first).await?;
        let root_key = self.config().names_key(directory);
        let mut wanted = Vec::new();
        if plan.batches.is_empty() {
            self.under(held, vec![command("DEL", root_key)]).await?;
        } else {
            let (root, elements) = encode(&plan.batches);
            for (batch, bytes) in plan.batches.iter().zip(elements) {
                wanted.push((self.config().element_key(directory, batch.id), bytes));
            }
            wanted.push((root_key, root));
        }
        for (key, bytes) in wanted {
            let there = list.values.iter().find(|(other, _)| *other == key);
            if there.is_none_or(|(_, value)| value.as_ref() != Some(&bytes)) {
                // One after another: what leads to an element comes behind it.
                let set = command("SET", key).arg(bytes).clone();
                self.under(held, vec![set]).await?;
            }
        }
        let dropped = plan.dropped.iter().flat_map(|id| {
            let element = self.config().element_key(directory, *id);
            [command("DEL", element), command("DEL", names_of(*id))]
        });
        self.under(held, dropped.collect()).await
    }

    /// Has commands of one key each done while the lock is held.
    async fn under(&self, held: &Held<'_>, commands: Vec<Cmd>) -> Result<(), Error> {
        if commands.is_empty() {
            return Ok(());
        }
        held.check()?;
        let routed = commands.into_iter().map(|command| Routed {
            slot: key_of(&command).map_or(0, slot_of),
            command,
        });
        self.ask_all(Operation::Commit, routed.collect())
            .await
            .map(drop)
    }

    /// How many names each batch has that changes touch, and which of those that go are in it.
    async fn cards(
        &self,
        directory: &str,
        list: &List,
        changes: &NameChanges,
    ) -> Result<Vec<Cards>, Error> {
        let mut cards: Vec<Cards> = list.batches.iter().map(|_| Cards::default()).collect();
        for (at, removed) in Plan::touched(&list.batches, changes) {
            let (Some(batch), Some(card)) = (list.batches.get(at), cards.get_mut(at)) else {
                continue;
            };
            let key = self.config().set_key(directory, batch.id);
            let slot = slot_of(&key);
            let said = self
                .ask(Operation::Commit, slot, command("ZCARD", key.clone()))
                .await?;
            let Value::Int(n) = said else {
                return Err(answer(Operation::Commit, "a number", &said));
            };
            // A full one is not divided.
            let n = u64::try_from(n).unwrap_or(0);
            card.n_names = n.min(BATCH_NAMES_MAX / 2);
            card.may_go = true;
            if removed.is_empty() {
                continue;
            }
            let scores = command("ZMSCORE", key).arg(&removed).clone();
            let said = self.ask(Operation::Commit, slot, scores).await?;
            let Value::Array(scores) = said else {
                return Err(answer(Operation::Commit, "scores", &said));
            };
            let there = removed.into_iter().zip(scores);
            card.removed = there
                .filter(|(_, score)| !matches!(score, Value::Nil))
                .map(|(name, _)| name)
                .collect();
        }
        Ok(cards)
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

    /// A page of names.
    pub(super) async fn list_names(
        &self,
        directory: &str,
        range: &ListRange,
    ) -> Result<Vec<String>, Error> {
        for _ in 0..LIST_RETRIES_MAX {
            let list = match self.read_list(directory).await {
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                list => list?,
            };
            let names = self.names_in(directory, range, &list).await?;
            match self.read_list(directory).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
                Ok(again) if again.values == list.values => return Ok(names),
                Ok(_) => {}
            }
        }
        let text = format!("the names of `{directory}` change all the time");
        Err(Error::new(Operation::List, ErrorKind::Unavailable).with("because", text))
    }

    async fn names_in(
        &self,
        directory: &str,
        range: &ListRange,
        list: &List,
    ) -> Result<Vec<String>, Error> {
        let (from, to) = bounds(range);
        let mut names: BTreeSet<String> = BTreeSet::new();
        for (i, batch) in list.batches.iter().enumerate() {
            let next = list.batches.get(i + 1);
            // One that was divided may have the first name of the next one.
            if next.is_some_and(|next| next.key.as_slice() < range.start.as_bytes()) {
                continue;
            }
            if names.len() >= range.limit {
                break;
            }
            let key = self.config().set_key(directory, batch.id);
            let slot = slot_of(&key);
            let page = command("ZRANGEBYLEX", key)
                .arg(&from)
                .arg(&to)
                .arg("LIMIT")
                .arg(0)
                .arg(range.limit - names.len() + 1)
                .clone();
            let said = self.ask(Operation::List, slot, page).await?;
            let page: Option<Vec<String>> = match &said {
                Value::Array(page) => page.iter().map(text).collect(),
                _ => None,
            };
            names.extend(page.ok_or_else(|| answer(Operation::List, "names", &said))?);
        }
        Ok(names.into_iter().take(range.limit).collect())
    }
}

fn command(name: &str, key: Vec<u8>) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key);
    command
}

/// The key that a command of one key is about.
fn key_of(command: &Cmd) -> Option<&[u8]> {
    let mut arguments = command.args_iter();
    arguments.next();
    match arguments.next()? {
        redis::Arg::Simple(key) => Some(key),
        _ => None,
    }
}
