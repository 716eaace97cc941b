// SPDX-License-Identifier: Apache-2.0
//! One filer of a comparison: its rows, in order, as they come.

use std::collections::BTreeMap;

use anyhow::Result;
use bytes::Bytes;
use dulse_proto::status::filer_status_client::FilerStatusClient;
use dulse_proto::status::{
    BucketsRequest, DigestsRequest, DirectoryDigest, DirectoryRowsRequest, RowHash,
};
use dulse_types::ServerAddress;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::status::ask;

/// Sum and count of some rows, as bytes to be compared.
pub(super) type Sum = (Bytes, u64);

/// A connection to one filer.
pub(super) struct Side(FilerStatusClient<Channel>);

/// Rows of a stream that are ordered by a key.
pub(super) struct Rows<T> {
    stream: Streaming<T>,
    pub(super) next: Option<T>,
}

impl<T> Rows<T> {
    async fn new(mut stream: Streaming<T>) -> Result<Self> {
        let next = stream.message().await?;
        Ok(Self { stream, next })
    }

    /// Takes the row that is next.
    pub(super) async fn take(&mut self) -> Result<Option<T>> {
        let following = match self.next.is_some() {
            true => self.stream.message().await?,
            false => None,
        };
        Ok(std::mem::replace(&mut self.next, following))
    }
}

impl Side {
    pub(super) async fn new(address: &ServerAddress) -> Result<Self> {
        Ok(Self(FilerStatusClient::new(ask::dial(address).await?)))
    }

    /// The sums of all buckets that hold something.
    pub(super) async fn buckets(&mut self) -> Result<BTreeMap<u32, Sum>> {
        let reply = self.0.buckets(BucketsRequest {}).await?.into_inner();
        let rows = reply.buckets.into_iter();
        Ok(rows.map(|b| (b.bucket, (b.sum, b.count))).collect())
    }

    /// The directories of buckets `from..until`, in order of bucket and directory.
    pub(super) async fn directories(
        &mut self,
        from: u32,
        until: u32,
    ) -> Result<Rows<DirectoryDigest>> {
        let request = DigestsRequest {
            bucket_from: from,
            bucket_until: until,
        };
        Rows::new(self.0.digests(request).await?.into_inner()).await
    }

    /// The rows of one directory, in order of name and identity.
    pub(super) async fn names(&mut self, directory: &Bytes) -> Result<Rows<RowHash>> {
        let request = DirectoryRowsRequest {
            directory: directory.clone(),
        };
        Rows::new(self.0.directory_rows(request).await?.into_inner()).await
    }
}
