// SPDX-License-Identifier: Apache-2.0
//! Hard links, made and removed as mounts do it.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_proto::filer::{CreateEntryRequest, DeleteEntryRequest, LookupDirectoryEntryRequest};
use dulse_types::{EntryFields, UnknownFields};
use tonic::transport::Channel;

type Filer = SeaweedFilerClient<Channel>;

async fn look_up(filer: &mut Filer, dir: &str, name: &str) -> Result<EntryFields> {
    let request = LookupDirectoryEntryRequest {
        directory: dir.to_owned(),
        name: name.to_owned(),
    };
    let found = filer.lookup_directory_entry(request).await?.into_inner();
    Ok(found.entry.context("an entry")?.fields()?)
}

/// How many names the filer counts for what this one shows.
///
/// # Errors
///
/// When it is not there.
pub async fn count(filer: &mut Filer, dir: &str, name: &str) -> Result<i32> {
    Ok(look_up(filer, dir, name).await?.hard_link_counter)
}

/// Gives a file a further name in the same directory: both entries carry one id.
///
/// # Errors
///
/// When one of the two is refused.
pub async fn link(filer: &mut Filer, dir: &str, from: &str, to: &str) -> Result<()> {
    let mut fields = look_up(filer, dir, from).await?;
    if fields.hard_link_id.is_empty() {
        fields.hard_link_id = Bytes::from(format!("{dir}/{from} is linked"));
        fields.hard_link_counter = 1;
    }
    fields.hard_link_counter += 1;
    for name in [from, to] {
        fields.name = name.to_owned();
        let entry = fields.to_entry(&UnknownFields::default());
        let request = CreateEntryRequest {
            directory: dir.to_owned(),
            entry: Some(entry),
            ..CreateEntryRequest::default()
        };
        let answer = filer.create_entry(request).await?.into_inner();
        ensure!(answer.error.is_empty(), "{name}: {}", answer.error);
    }
    Ok(())
}

/// Removes one of several names. Mounts ask to keep the content unless it is the last.
///
/// # Errors
///
/// When it is refused.
pub async fn unlink(filer: &mut Filer, dir: &str, name: &str, is_last: bool) -> Result<()> {
    let request = DeleteEntryRequest {
        directory: dir.to_owned(),
        name: name.to_owned(),
        is_delete_data: is_last,
        ..DeleteEntryRequest::default()
    };
    let answer = filer.delete_entry(request).await?.into_inner();
    ensure!(answer.error.is_empty(), "{dir}/{name}: {}", answer.error);
    Ok(())
}
