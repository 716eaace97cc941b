// SPDX-License-Identifier: Apache-2.0
//! Writers that each do one thing after the other, and what their directories may be then.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Names that one writer uses.
const NAMES: u32 = 8;

/// Longest content, in bytes; it is kept in the entry.
const CONTENT_BYTES_MAX: usize = 3000;

/// A request without an answer after this is not waited for.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(20);

/// A directory: names and contents.
pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

/// What a writer may ask for.
#[derive(Clone)]
enum Operation {
    Put(String, Vec<u8>),
    /// An empty file, over gRPC.
    Create(String),
    Rename(String, String),
    Delete(String),
}

impl Operation {
    /// Without contents.
    fn shown(&self) -> String {
        match self {
            Self::Put(name, content) => format!("put {name}, {} bytes", content.len()),
            Self::Create(name) => format!("create {name}"),
            Self::Rename(from, to) => format!("rename {from} to {to}"),
            Self::Delete(name) => format!("delete {name}"),
        }
    }
}

/// One writer with a directory of its own.
pub(crate) struct Writer {
    pub(crate) filer: usize,
    pub(crate) dir: String,
    port: u16,
    random: StdRng,
    http: reqwest::Client,
    /// What was asked for, in order. Only the last may be without an answer.
    asked: Vec<Operation>,
    /// How many of them were acknowledged.
    pub(crate) n_acknowledged: usize,
    /// What they made.
    tree: Tree,
    /// What was said instead of the last acknowledgement.
    pub(crate) refusal: String,
}

impl Writer {
    pub(crate) fn new(filer: usize, port: u16, dir: String, seed: u64) -> Self {
        Self {
            filer,
            dir,
            port,
            random: StdRng::seed_from_u64(seed),
            http: reqwest::Client::new(),
            asked: Vec::new(),
            n_acknowledged: 0,
            tree: Tree::new(),
            refusal: String::new(),
        }
    }

    /// Works until told or until something is not acknowledged.
    pub(crate) async fn work(&mut self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) && self.refusal.is_empty() {
            self.step().await;
        }
    }

    /// Does one thing, unless something was not acknowledged: from then on its directory is
    /// not known.
    pub(crate) async fn step(&mut self) {
        if !self.refusal.is_empty() {
            return;
        }
        let next = self.next();
        self.asked.push(next.clone());
        match self.ask(&next).await {
            Ok(()) => {
                self.n_acknowledged += 1;
                perform(&mut self.tree, next);
            }
            Err(error) => self.refusal = format!("{error:#}"),
        }
    }

    /// What the directory is after so many operations.
    pub(crate) fn tree(&self, n: usize) -> Tree {
        let mut tree = Tree::new();
        for operation in &self.asked[..n] {
            perform(&mut tree, operation.clone());
        }
        tree
    }

    /// After which number of operations the directory would be as it was found; among those
    /// that are permitted.
    pub(crate) fn place(&self, found: &Tree, among: RangeInclusive<usize>) -> Result<usize> {
        let (from, to) = (*among.start(), *among.end());
        for n in among {
            if self.tree(n) == *found {
                return Ok(n);
            }
        }
        let sizes = |tree: &Tree| -> BTreeMap<String, usize> {
            let rows = tree.iter().map(|(name, c)| (name.clone(), c.len()));
            rows.collect()
        };
        bail!(
            "{} is as after none of {from} to {to} operations: found {:?}, expected {:?} or \
             what it was before {:?}",
            self.dir,
            sizes(found),
            sizes(&self.tree(from)),
            self.asked.get(from).map(Operation::shown)
        )
    }

    /// With what was acknowledged, and perhaps what got no answer.
    pub(crate) fn certain(&self) -> RangeInclusive<usize> {
        self.n_acknowledged..=self.asked.len()
    }

    /// With any part of what was asked for.
    pub(crate) fn any(&self) -> RangeInclusive<usize> {
        0..=self.asked.len()
    }

    fn next(&mut self) -> Operation {
        let tree = &self.tree;
        let name = format!("n{}", self.random.random_range(0..NAMES));
        let other = format!("n{}", self.random.random_range(0..NAMES));
        let free = !tree.contains_key(&name);
        match self.random.random_range(0..10) {
            0..2 if free => Operation::Create(name),
            0..2 => Operation::Delete(name),
            2..4 if !free && !tree.contains_key(&other) => Operation::Rename(name, other),
            _ => {
                let len = self.random.random_range(1..CONTENT_BYTES_MAX);
                let mark = self.asked.len() as u8;
                Operation::Put(name, vec![mark; len])
            }
        }
    }

    async fn ask(&self, operation: &Operation) -> Result<()> {
        let url = |name: &str| format!("http://127.0.0.1:{}{}/{name}", self.port, self.dir);
        let request = match operation {
            Operation::Put(name, content) => self.http.put(url(name)).body(content.clone()),
            Operation::Rename(from, to) => {
                let from = format!("{}/{from}", self.dir);
                self.http.post(format!("{}?mv.from={from}", url(to)))
            }
            Operation::Delete(name) => self.http.delete(url(name)),
            Operation::Create(name) => {
                let created = tokio::time::timeout(REQUEST_TIME_MAX, self.create(name)).await;
                return created.context("no answer in time")?;
            }
        };
        let answer = request.timeout(REQUEST_TIME_MAX).send().await?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{status}: {}", answer.text().await?);
        }
        Ok(())
    }

    async fn create(&self, name: &str) -> Result<()> {
        let at = format!("http://127.0.0.1:{}", self.port + 10_000);
        let mut filer = SeaweedFilerClient::connect(at).await?;
        let request = pb::CreateEntryRequest {
            directory: self.dir.clone(),
            entry: Some(dulse_types::Entry::default().with_name(name)),
            ..pb::CreateEntryRequest::default()
        };
        let answer = filer.create_entry(request).await?.into_inner();
        if !answer.error.is_empty() {
            bail!("{}", answer.error);
        }
        Ok(())
    }
}

fn perform(tree: &mut Tree, operation: Operation) {
    match operation {
        Operation::Put(name, content) => drop(tree.insert(name, content)),
        Operation::Create(name) => drop(tree.insert(name, Vec::new())),
        Operation::Delete(name) => drop(tree.remove(&name)),
        Operation::Rename(from, to) => {
            if let Some(content) = tree.remove(&from) {
                tree.insert(to, content);
            }
        }
    }
}

/// What a filer shows of a directory.
pub(crate) async fn shown(cluster: &dulse_tests::Cluster, filer: usize, dir: &str) -> Result<Tree> {
    let mut tree = Tree::new();
    for name in cluster.names(filer, dir).await? {
        let content = cluster.get(filer, &format!("{dir}/{name}")).await?;
        tree.insert(name, content.context("listed and not there")?);
    }
    Ok(tree)
}

/// Every filer shows all that the writers are certain of.
pub(crate) async fn all_there(cluster: &dulse_tests::Cluster, writers: &[Writer]) -> Result<()> {
    for writer in writers {
        for filer in 0..cluster.filers.len() {
            let tree = shown(cluster, filer, &writer.dir).await?;
            writer.place(&tree, writer.certain())?;
        }
    }
    Ok(())
}
