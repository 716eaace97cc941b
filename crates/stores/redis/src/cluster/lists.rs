// SPDX-License-Identifier: Apache-2.0
//! Directories whose names lie in skip lists, on several servers.
//!
//! A list is changed under upstream's lock, which whoever dies holds for eight seconds: upstream's
//! filers and ours wait for one another. Names are put into the batch they belong to, and a batch
//! is not divided: sorted sets have no greatest size, and upstream's filers divide full ones.
//!
//! A lock that ends by itself is no fence: what was sent under it may come when another one has
//! it. So each change of ours has a number, of which the greatest lies beside the root and beside
//! each batch: a name is not taken out of a batch in which a later change has been, and the root
//! is not written when a later change has begun. Elements are compared with what was read.
//!
//! A listing reads the list before and behind its names, and begins again where it has changed.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use dulse_store::{Error, ErrorKind, ListRange, Operation};
use redis::{Cmd, Value};
use tokio::sync::{Mutex, MutexGuard};

use super::lanes::{LANE_TIME_S, WAIT_TIME_MAX, in_time};
use super::names::text;
use super::scripts;
use super::slots::slot_of;
use super::store::RedisCluster;
use crate::error::{answer, late};
use crate::list_plan::{Cards, Plan};
use crate::lists::{LIST_RETRIES_MAX, List};
use crate::rows::NameChanges;
use crate::skip_list::encode;
use crate::store::bounds;

/// How long upstream's lock lasts, in seconds.
const LOCK_TIME_S: u32 = 8;

/// How long a lock is worked under: what is sent by then is done before it is over.
const WORK_TIME_MAX: Duration = Duration::from_secs(4);

/// How long after a lock was taken what is sent under it is waited for, and sent again.
const SEND_TIME_MAX: Duration = Duration::from_secs(7);

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
        in_time(lock.lock(), WAIT_TIME_MAX).await
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
        let done = async {
            let number = self.begin(directory).await?;
            self.change_list(&held, directory, &number, &changes).await
        };
        let done = done.await;
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
            // Before rows are looked for: whoever makes one behind that has a later number.
            let number = self.begin(directory).await?;
            let there = self.with_rows(directory, names).await?;
            let changes = NameChanges {
                removed: names - &there,
                ..NameChanges::default()
            };
            self.change_list(&held, directory, &number, &changes).await
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

    /// Changes a list in which nobody began a change since `number`; where somebody did, nothing
    /// that would lose a name is done, and it fails.
    async fn change_list(
        &self,
        held: &Held<'_>,
        directory: &str,
        number: &str,
        changes: &NameChanges,
    ) -> Result<(), Error> {
        let list = self.read_list(directory).await?;
        self.take_out(held, directory, number, &list, changes)
            .await?;
        if changes.added.is_empty() {
            return Ok(());
        }
        // How many names a batch has does not count: a full one is not divided.
        let cards: Vec<Cards> = list.batches.iter().map(|_| Cards::default()).collect();
        let plan = Plan::of(&list.batches, &cards, changes, || {
            // Positive: it is written into the key, and 0 stands for none.
            (rand::random::<u64>() >> 1).max(1).cast_signed()
        });
        // Names go into sets before anything leads to these.
        for (id, names) in &plan.added {
            let put = self.batch(directory, *id, number, true, names);
            self.under(held, put).await?;
        }
        let (root, elements) = encode(&plan.batches);
        // One after another: what leads to an element comes behind it.
        for (batch, bytes) in plan.batches.iter().zip(elements) {
            let key = self.config().element_key(directory, batch.id);
            if let Some(swap) = swap(&list, key, bytes, None) {
                self.under(held, swap).await?;
            }
        }
        let root_key = self.config().names_key(directory);
        let fence = Some((self.fence_key(&root_key), number));
        match swap(&list, root_key, root, fence) {
            Some(swap) => self.under(held, swap).await.map(drop),
            None => Ok(()),
        }
    }

    /// Takes names out; with the last one of all goes the list.
    ///
    /// A batch that is left empty stays until then: what leads to it lies on other servers than
    /// the fence of the root.
    async fn take_out(
        &self,
        held: &Held<'_>,
        directory: &str,
        number: &str,
        list: &List,
        changes: &NameChanges,
    ) -> Result<(), Error> {
        if changes.removed.is_empty() || list.batches.is_empty() {
            return Ok(());
        }
        let mut touched = Plan::touched(&list.batches, changes);
        let mut is_empty = true;
        // Those that lose names first: mostly one of them has others, and the rest is as it was.
        let others = (0..list.batches.len()).filter(|at| !touched.contains_key(at));
        let others: Vec<usize> = others.collect();
        let first = std::mem::take(&mut touched).into_iter();
        for (at, names) in first.chain(others.into_iter().map(|at| (at, BTreeSet::new()))) {
            if names.is_empty() && !is_empty {
                break;
            }
            let Some(batch) = list.batches.get(at) else {
                continue;
            };
            let take = self.batch(directory, batch.id, number, false, &names);
            is_empty &= self.under(held, take).await? == 0;
        }
        if !is_empty {
            return Ok(());
        }
        // Whoever puts a name in later has begun later, and so this is not done; whoever began
        // earlier finds the later number at the batch.
        let root_key = self.config().names_key(directory);
        let fence = Some((self.fence_key(&root_key), number));
        if let Some(swap) = swap(list, root_key, Vec::new(), fence) {
            self.under(held, swap).await?;
        }
        for batch in &list.batches {
            let key = self.config().element_key(directory, batch.id);
            if let Some(swap) = swap(list, key, Vec::new(), None) {
                self.under(held, swap).await?;
            }
        }
        Ok(())
    }

    /// Begins a change.
    async fn begin(&self, directory: &str) -> Result<String, Error> {
        let fence = self.fence_key(&self.config().names_key(directory));
        let slot = slot_of(&fence);
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::BEGIN).arg(1).arg(fence);
        command.arg(LANE_TIME_S);
        let said = self.ask(Operation::Commit, slot, command).await?;
        text(&said).ok_or_else(|| answer(Operation::Commit, "a number", &said))
    }

    /// Where the number of the last change lies that was made of a root or a batch: in its slot.
    fn fence_key(&self, key: &[u8]) -> Vec<u8> {
        self.places.key(slot_of(key), &[b".list.", key].concat())
    }

    fn batch(
        &self,
        directory: &str,
        id: i64,
        number: &str,
        puts: bool,
        names: &BTreeSet<String>,
    ) -> Cmd {
        let key = self.config().set_key(directory, id);
        let fence = self.fence_key(&key);
        let mut command = redis::cmd("EVAL");
        command.arg(scripts::BATCH).arg(2).arg(key).arg(fence);
        command.arg(number).arg(LANE_TIME_S);
        command.arg(u8::from(puts)).arg(names);
        command
    }

    /// Has a script done while the lock is held.
    async fn under(&self, held: &Held<'_>, command: Cmd) -> Result<i64, Error> {
        held.check()?;
        let slot = key_of(&command).map_or(0, slot_of);
        let limit = SEND_TIME_MAX.saturating_sub(held.since.elapsed());
        let asked = tokio::time::timeout(limit, self.ask(Operation::Commit, slot, command)).await;
        match asked.map_err(|_| late(Operation::Commit, limit))?? {
            Value::Int(n) if n >= 0 => Ok(n),
            Value::Int(_) => {
                let text = "another filer changes the names of the directory";
                let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
                Err(error.with("because", text))
            }
            said => Err(answer(Operation::Commit, "a number", &said)),
        }
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

/// Makes a key of a list what it is to be, where it is not: empty for nothing.
///
/// - `fence`: of the root, and the number of the change.
fn swap(list: &List, key: Vec<u8>, to: Vec<u8>, fence: Option<(Vec<u8>, &str)>) -> Option<Cmd> {
    let there = list.values.iter().find(|(other, _)| *other == key);
    let there = there.and_then(|(_, value)| value.clone());
    let there = there.unwrap_or_default();
    if there == to {
        return None;
    }
    let mut command = redis::cmd("EVAL");
    command.arg(scripts::SWAP);
    command.arg(1 + u8::from(fence.is_some())).arg(key);
    match fence {
        Some((fence, number)) => command.arg(fence).arg(there).arg(to).arg(number),
        None => command.arg(there).arg(to),
    };
    Some(command)
}

/// The first key of a script.
fn key_of(command: &Cmd) -> Option<&[u8]> {
    // `EVAL`, the script, how many keys.
    match command.args_iter().nth(3)? {
        redis::Arg::Simple(key) => Some(key),
        _ => None,
    }
}
