// SPDX-License-Identifier: Apache-2.0
//! What became of a transaction whose answer was lost: known, not guessed.
//!
//! Each transaction writes one key more, of a lane that no other uses meanwhile: it compares what
//! the transaction before it on the lane left there, and leaves its own number. Who wants to know
//! about a lost one compares and writes the same: either this one comes first, and the lost one
//! can never be made any more, or the lost one's number is there, and it was made.
//!
//! A key for each transaction was considered: it would be one that goes again for each write.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_store::{Error, ErrorKind, Operation};
use parking_lot::Mutex;

use crate::client::Client;
use crate::keys::Keys;
use crate::wire::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::wire::request_op::Request;
use crate::wire::response_op::Response;
use crate::wire::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};

/// Seconds after which the key of a lane goes that nobody writes any more: longer than any
/// connection brings what was sent on it.
const LEASE_S: i64 = 3_600;

/// How long one lease serves all lanes.
const LEASE_TIME_MAX: Duration = Duration::from_secs(600);

/// How long a lane that is not used is trusted to be there still.
const IDLE_TIME_MAX: Duration = Duration::from_secs(1_200);

/// How long it is asked what became of a lost transaction.
const ASK_TIME_MAX: Duration = Duration::from_secs(10);

/// Pause before it is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(50);

/// A lane that one transaction at a time is on.
pub(crate) struct Lane {
    key: Bytes,
    /// What is there; nothing at first.
    last: Option<Bytes>,
    n: u64,
    lease: i64,
    since: Instant,
}

/// The lanes that nobody is on.
#[derive(Default)]
pub(crate) struct Lanes {
    free: Mutex<Vec<Lane>>,
    lease: Mutex<Option<(i64, Instant)>>,
}

impl Lanes {
    /// A lane for one transaction. One that is not given back is used no more.
    ///
    /// # Errors
    ///
    /// Of etcd, when a lease is due; nothing was written.
    pub(crate) async fn take(&self, client: &Client, keys: &Keys) -> Result<Lane, Error> {
        let lease = self.lease(client).await?;
        let free = {
            let mut free = self.free.lock();
            free.retain(|lane| lane.since.elapsed() < IDLE_TIME_MAX);
            free.pop()
        };
        let mut lane = free.unwrap_or_else(|| Lane {
            key: keys.lane(rand::random()),
            last: None,
            n: 0,
            lease,
            since: Instant::now(),
        });
        lane.lease = lease;
        lane.n += 1;
        Ok(lane)
    }

    /// Gives a lane back on which everything is known.
    pub(crate) fn give(&self, mut lane: Lane) {
        lane.since = Instant::now();
        self.free.lock().push(lane);
    }

    async fn lease(&self, client: &Client) -> Result<i64, Error> {
        let known = *self.lease.lock();
        if let Some((lease, since)) = known
            && since.elapsed() < LEASE_TIME_MAX
        {
            return Ok(lease);
        }
        let lease = client.lease(LEASE_S).await?;
        *self.lease.lock() = Some((lease, Instant::now()));
        Ok(lease)
    }
}

impl Lane {
    /// What a transaction compares and writes to be one that can be asked for.
    pub(crate) fn mark(&self, request: &mut TxnRequest) {
        request.compare.push(self.unchanged());
        request.success.push(self.put(self.number(b'm')));
        request.failure.push(self.look());
    }

    /// Whether a transaction that was not made was not for what it compared itself, but for the
    /// lane: its lease is over, and it is to be left.
    pub(crate) fn is_over(&self, answer: &TxnResponse) -> bool {
        !answer.succeeded && looked(answer) != self.last
    }

    /// The transaction was made.
    pub(crate) fn made(&mut self) {
        self.last = Some(self.number(b'm'));
    }

    /// Whether a transaction that was answered is there.
    ///
    /// # Errors
    ///
    /// Of etcd.
    pub(crate) async fn is_made(&self, client: &Client) -> Result<bool, Error> {
        let request = self.range();
        let rows = client.range(Operation::Find, request).await?.kvs;
        Ok(rows.first().map(|row| &row.value) == Some(&self.number(b'm')))
    }

    /// Whether a transaction whose answer was lost was made; if not, it never will be.
    ///
    /// # Errors
    ///
    /// When etcd does not say so in time: then it is unknown.
    pub(crate) async fn settle(&mut self, client: &Client) -> Result<bool, Error> {
        let began = Instant::now();
        loop {
            match self.ask(client).await {
                Err(error) if began.elapsed() > ASK_TIME_MAX => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "what became of a write is not known yet");
                    tokio::time::sleep(ASK_PAUSE).await;
                }
                Ok(there) => return self.verdict(there),
            }
        }
    }

    fn verdict(&mut self, there: Option<Bytes>) -> Result<bool, Error> {
        let is_made = there.as_ref() == Some(&self.number(b'm'));
        let is_void = there.as_ref() == Some(&self.number(b'v'));
        if !is_made && !is_void {
            // The lane's lease is over: nothing tells.
            return Err(Error::new(Operation::Commit, ErrorKind::Unavailable));
        }
        self.last = there;
        Ok(is_made)
    }

    /// Keeps the lost one from being made, unless it was; gives what is there then.
    async fn ask(&self, client: &Client) -> Result<Option<Bytes>, Error> {
        let void = self.number(b'v');
        let request = TxnRequest {
            compare: vec![self.unchanged()],
            success: vec![self.put(void.clone())],
            failure: vec![self.look()],
        };
        let answer = client.transact(request).await?;
        Ok(match answer.succeeded {
            true => Some(void),
            false => looked(&answer),
        })
    }

    fn look(&self) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestRange(self.range())),
        }
    }

    fn range(&self) -> RangeRequest {
        RangeRequest {
            key: self.key.clone(),
            ..RangeRequest::default()
        }
    }

    fn unchanged(&self) -> Compare {
        let (target, union) = match &self.last {
            None => (CompareTarget::Version, TargetUnion::Version(0)),
            Some(last) => (CompareTarget::Value, TargetUnion::Value(last.clone())),
        };
        Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: self.key.clone(),
            target_union: Some(union),
        }
    }

    fn put(&self, value: Bytes) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: self.key.clone(),
                value,
                lease: self.lease,
            })),
        }
    }

    /// - `kind`: `m` for a transaction that was made, `v` for one that never will be.
    fn number(&self, kind: u8) -> Bytes {
        [&[kind][..], &self.n.to_be_bytes()].concat().into()
    }
}

/// What was on the lane where a comparison did not hold.
fn looked(answer: &TxnResponse) -> Option<Bytes> {
    answer.responses.iter().find_map(|response| {
        let Some(Response::ResponseRange(range)) = &response.response else {
            return None;
        };
        range.kvs.first().map(|row| row.value.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane {
            key: Bytes::from_static(b"lane"),
            last: None,
            n: 1,
            lease: 7,
            since: Instant::now(),
        }
    }

    #[test]
    fn only_a_number_that_is_there_says_what_became_of_it() {
        let mut one = lane();
        assert!(one.verdict(Some(one.number(b'm'))).unwrap());
        assert_eq!(one.last, Some(one.number(b'm')));
        assert!(!one.verdict(Some(one.number(b'v'))).unwrap());
        for there in [None, Some(Bytes::from_static(b"other"))] {
            assert!(lane().verdict(there).is_err());
        }
    }

    #[test]
    fn a_mark_compares_what_the_one_before_left() {
        let mut one = lane();
        let mut request = TxnRequest::default();
        one.mark(&mut request);
        let first = TargetUnion::Version(0);
        assert_eq!(request.compare[0].target_union, Some(first));
        one.made();
        one.n += 1;
        let mut request = TxnRequest::default();
        one.mark(&mut request);
        let left = TargetUnion::Value(Bytes::from_static(b"m\0\0\0\0\0\0\0\x01"));
        assert_eq!(request.compare[0].target_union, Some(left));
    }
}
