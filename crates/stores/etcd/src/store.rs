// SPDX-License-Identifier: Apache-2.0
//! The rows of a cluster.

use std::time::Duration;

use bytes::Bytes;
use dulse_shared::{At, GroupMax, RowWrite, Rows, SharedOptions, SharedStore, Stepwise};
use dulse_store::{Error, ErrorKind, ListRange, Operation, Outcome};
use dulse_types::FullPath;

use crate::attempts::Lanes;
use crate::client::Client;
use crate::config::Config;
use crate::keys::Keys;
use crate::spans::{Answered, Spans};
use crate::wire::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::request_op::Request;
use crate::wire::response_op::Response;
use crate::wire::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// Rows of one transaction: etcd takes 128 comparisons and as many writes.
const GROUP_ROWS_MAX: usize = 120;

/// Values of one transaction, in bytes: etcd takes 1.5 MiB with all keys, each of them twice.
const GROUP_BYTES_MAX: usize = 768 << 10;

/// A value that is longer is compared here, by what etcd counts of its changes.
const COMPARED_BYTES_MAX: usize = 16 << 10;

/// Rows of one answer.
const PAGE_ROWS_MAX: usize = 500;

/// Reads of one transaction: etcd takes 128.
const READS_MAX: usize = 120;

/// Transactions under way at once for one change.
const WRITES_MAX: usize = 8;

/// How long what an earlier run of a filer asked for may still be made: etcd gives up after 5 s
/// and twice the time of an election, which is 1 s, unless its whole process stands still.
const LATE_MAX: Duration = Duration::from_secs(10);

/// Opens the store of a cluster: makes the store's id where it is missing.
///
/// # Errors
///
/// As [`SharedStore::open`].
pub fn open(config: Config, options: &SharedOptions) -> Result<SharedStore<Stepwise<Etcd>>, Error> {
    SharedStore::open(options, move || async move {
        Etcd::connect(&config).await.map(Stepwise)
    })
}

/// A cluster with upstream's keys.
pub struct Etcd {
    client: Client,
    keys: Keys,
    lanes: Lanes,
}

impl Etcd {
    /// Connects.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no member answers, `Invalid` for settings that cannot be.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let store = Self {
            client: Client::new(config)?,
            keys: Keys::new(&config.key_prefix),
            lanes: Lanes::default(),
        };
        // An answer now rather than at the first request.
        let id = store.keys.key(b"filer.store.id");
        store.value(Operation::Open, id).await?;
        Ok(store)
    }

    async fn value(&self, operation: Operation, key: Bytes) -> Result<Option<Bytes>, Error> {
        Ok(self.row(operation, key).await?.map(|(value, _)| value))
    }

    /// A value, and the number of its last change.
    async fn row(&self, operation: Operation, key: Bytes) -> Result<Option<(Bytes, i64)>, Error> {
        let request = RangeRequest {
            key,
            ..RangeRequest::default()
        };
        let answer = self.client.range(operation, request).await?;
        let first = answer.kvs.into_iter().next();
        Ok(first.map(|row| (row.value, row.mod_revision)))
    }

    fn key(&self, at: &At) -> Result<Bytes, Error> {
        match at {
            At::Key(key) => Ok(self.keys.key(key)),
            At::Path(path) => self.keys.path(path).ok_or_else(|| {
                Error::new(Operation::Commit, ErrorKind::Invalid)
                    .with("because", "the root has no row")
            }),
        }
    }

    /// Makes a transaction or not, and knows which, also when the answer is lost.
    async fn transact(&self, mut request: TxnRequest) -> Result<bool, Error> {
        let mut lane = self.lanes.take(&self.client, &self.keys).await?;
        lane.mark(&mut request);
        let is_made = match self.client.transact(request).await {
            Ok(answer) if lane.is_over(&answer) => {
                let text = "the lease of its key is over";
                return Err(
                    Error::new(Operation::Commit, ErrorKind::Unavailable).with("because", text)
                );
            }
            Ok(answer) => answer.succeeded,
            Err(error) if error.outcome() == Outcome::Unknown => {
                tracing::debug!(%error, "the answer to a write was lost; asking what became of it");
                // Not known: the lane is left.
                match lane.settle(&self.client).await {
                    Ok(true) => true,
                    Ok(false) => {
                        self.lanes.give(lane);
                        let lost = Error::new(Operation::Commit, ErrorKind::Unavailable);
                        return Err(lost.source(error));
                    }
                    Err(_) => return Err(error),
                }
            }
            Err(error) if error.kind() == ErrorKind::DiskFull => {
                // etcd looks at its quota before it takes a write, and again when it has made it;
                // what it says then is the same.
                match lane.is_made(&self.client).await {
                    Ok(true) => true,
                    Ok(false) => {
                        self.lanes.give(lane);
                        return Err(error);
                    }
                    Err(_) => return Err(error.unknown_outcome()),
                }
            }
            Err(error) => {
                self.lanes.give(lane);
                return Err(error);
            }
        };
        if is_made {
            lane.made();
        }
        self.lanes.give(lane);
        Ok(is_made)
    }

    /// What must hold before a row is written; none when it is known not to.
    async fn compare(&self, key: Bytes, before: Option<&Bytes>) -> Result<Option<Compare>, Error> {
        let (target, union) = match before {
            None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
            Some(value) if value.len() <= COMPARED_BYTES_MAX => {
                (CompareTarget::Value, TargetUnion::Value(value.clone()))
            }
            Some(value) => {
                // Reading changes nothing: an error of it is no unknown write.
                let row = self.row(Operation::Find, key.clone()).await?;
                match row {
                    Some((there, revision)) if there == *value => {
                        (CompareTarget::Mod, TargetUnion::ModRevision(revision))
                    }
                    _ => return Ok(None),
                }
            }
        };
        Ok(Some(Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key,
            target_union: Some(union),
        }))
    }
}

/// Holds while nothing is there.
fn absent(key: Bytes) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key,
        target_union: Some(TargetUnion::Version(0)),
    }
}

fn range(key: Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestRange(RangeRequest {
            key,
            ..RangeRequest::default()
        })),
    }
}

fn answered(text: &str) -> Error {
    Error::new(Operation::Find, ErrorKind::Corrupt).with("because", text)
}

fn put(key: Bytes, value: Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key,
            value,
            lease: 0,
        })),
    }
}

fn delete(key: Bytes) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestDeleteRange(DeleteRangeRequest { key })),
    }
}

impl Rows for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        match self.keys.path(path) {
            None => Ok(None),
            Some(key) => self.value(Operation::Find, key).await,
        }
    }

    /// All at one moment: a transaction that only reads, which no member writes to its log.
    async fn get_all(&self, paths: &[FullPath]) -> Result<Vec<Option<Bytes>>, Error> {
        if let [path] = paths {
            return Ok(vec![self.get(path).await?]);
        }
        let mut values = vec![None; paths.len()];
        let keys: Vec<(usize, Bytes)> = paths
            .iter()
            .enumerate()
            .filter_map(|(i, path)| Some((i, self.keys.path(path)?)))
            .collect();
        for part in keys.chunks(READS_MAX) {
            let request = TxnRequest {
                success: part.iter().map(|(_, key)| range(key.clone())).collect(),
                ..TxnRequest::default()
            };
            let answer = self.client.read(Operation::Find, request).await?;
            if answer.responses.len() != part.len() {
                return Err(answered("not every read of a transaction was answered"));
            }
            for ((i, _), response) in part.iter().zip(answer.responses) {
                let Some(Response::ResponseRange(range)) = response.response else {
                    return Err(answered("a read was answered with something else"));
                };
                values[*i] = range.kvs.into_iter().next().map(|row| row.value);
            }
        }
        Ok(values)
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let (first, end, n_before) = self.keys.page(directory, range);
        let mut spans = Spans::of(first, end, n_before + range.prefix.len());
        let mut out: Vec<(String, Bytes)> = Vec::new();
        while out.len() < range.limit {
            let limit = PAGE_ROWS_MAX.min(range.limit - out.len());
            let request = RangeRequest {
                key: spans.first.clone(),
                range_end: spans.part_end(),
                limit: limit as i64,
            };
            let answer = self.client.range(Operation::List, request).await?;
            let ends = answer.kvs.first().zip(answer.kvs.last());
            let is_left = spans.next(&Answered {
                ends: ends.map(|(first, last)| (&first.key[..], &last.key[..])),
                n_keys: answer.kvs.len(),
                count: answer.count,
                is_more: answer.more,
                limit,
            });
            rows(answer.kvs, n_before, &mut out);
            if !is_left {
                break;
            }
        }
        Ok(out)
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.value(Operation::KvGet, self.keys.key(key)).await
    }

    async fn write(&self, group: &[RowWrite]) -> Result<bool, Error> {
        let mut request = TxnRequest::default();
        for write in group {
            let key = self.key(&write.at)?;
            let Some(compare) = self.compare(key.clone(), write.before.as_ref()).await? else {
                return Ok(false);
            };
            request.compare.push(compare);
            request.success.push(match &write.after {
                Some(value) => put(key, value.clone()),
                None => delete(key),
            });
        }
        self.transact(request).await
    }

    fn group_max(&self) -> GroupMax {
        GroupMax {
            n_rows: GROUP_ROWS_MAX,
            n_bytes: GROUP_BYTES_MAX,
        }
    }

    fn writes_max(&self) -> usize {
        WRITES_MAX
    }

    fn late_max(&self) -> Duration {
        LATE_MAX
    }

    async fn raise(&self, filer: u32, stamp: i64) -> Result<(), Error> {
        let key = self.keys.number(filer);
        let value = Bytes::copy_from_slice(&stamp.to_be_bytes());
        // Stamps are above zero, so their bytes are in their order. One that was asked for
        // before and comes late lowers nothing.
        let lower = Compare {
            result: CompareResult::Less.into(),
            target: CompareTarget::Value.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::Value(value.clone())),
        };
        let raise = TxnRequest {
            compare: vec![lower],
            success: vec![put(key.clone(), value.clone())],
            failure: Vec::new(),
        };
        let request = TxnRequest {
            compare: vec![absent(key.clone())],
            success: vec![put(key, value)],
            failure: vec![RequestOp {
                request: Some(Request::RequestTxn(raise)),
            }],
        };
        self.client.transact(request).await.map(drop)
    }

    async fn raised(&self) -> Result<Vec<(u32, i64)>, Error> {
        let (key, range_end) = self.keys.numbers();
        let request = RangeRequest {
            key,
            range_end,
            limit: 0,
        };
        let answer = self.client.range(Operation::Find, request).await?;
        let number = |row: &KeyValue| {
            let filer = self.keys.filer_of(&row.key)?;
            let stamp: [u8; 8] = row.value[..].try_into().ok()?;
            Some((filer, i64::from_be_bytes(stamp)))
        };
        answer
            .kvs
            .iter()
            .map(|row| {
                number(row).ok_or_else(|| {
                    let text = "the number of a filer is not 8 bytes under a key of 4";
                    Error::new(Operation::Find, ErrorKind::Corrupt).with("because", text)
                })
            })
            .collect()
    }
}

/// Names and values of what etcd answered. A name that is not UTF-8 is none: a pair of the
/// key-value space may have a key that looks like an entry's up to there (those of hard links are
/// random).
fn rows(kvs: Vec<KeyValue>, n_before: usize, out: &mut Vec<(String, Bytes)>) {
    for row in kvs {
        let name = row.key.get(n_before..).map(<[u8]>::to_vec);
        if let Some(Ok(name)) = name.map(String::from_utf8) {
            out.push((name, row.value));
        }
    }
}
