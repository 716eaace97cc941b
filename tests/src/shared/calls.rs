// SPDX-License-Identifier: Apache-2.0
//! What the cases ask of a filer.

use anyhow::{Context, Result, bail, ensure};
use dulse_proto::filer as pb;
use dulse_types::{Entry, EntryFields, FuseAttributes, UnknownFields};
use tonic::Code;

use super::{Filer, Shared};

/// A file.
pub(super) fn entry(name: &str, content: &str) -> Entry {
    let mut fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            mtime: 1,
            crtime: 1,
            ..FuseAttributes::default()
        }),
        content: content.as_bytes().to_vec().into(),
        ..EntryFields::default()
    };
    fields.attrs_mut().file_size = content.len() as u64;
    fields.to_entry(&UnknownFields::default()).with_name(name)
}

/// Creates an entry or writes over it; an error says whether it may be there all the same.
pub(super) async fn write(
    filer: &mut Filer,
    dir: &str,
    name: &str,
    content: &str,
) -> Result<(), Code> {
    let request = pb::CreateEntryRequest {
        directory: dir.to_owned(),
        entry: Some(entry(name, content)),
        ..pb::CreateEntryRequest::default()
    };
    match filer.create_entry(request).await {
        Ok(answer) if answer.get_ref().error.is_empty() => Ok(()),
        Ok(_) => Err(Code::Unknown),
        Err(status) => Err(status.code()),
    }
}

/// The content at a path, of a file that is there.
pub(super) async fn shown(filer: &mut Filer, dir: &str, name: &str) -> Result<Option<String>> {
    let request = pb::LookupDirectoryEntryRequest {
        directory: dir.to_owned(),
        name: name.to_owned(),
    };
    match filer.lookup_directory_entry(request).await {
        Ok(found) => {
            let entry = found.into_inner().entry.context("an entry")?;
            Ok(Some(String::from_utf8(entry.fields()?.content.to_vec())?))
        }
        // Upstream's words, which its clients look for, with the code that it has.
        Err(status) if status.message().contains("no entry is found") => Ok(None),
        Err(status) => bail!("{status}"),
    }
}

/// The ids of the chunks of a file.
pub(super) async fn chunks_of(filer: &mut Filer, dir: &str, name: &str) -> Result<Vec<String>> {
    let request = pb::LookupDirectoryEntryRequest {
        directory: dir.to_owned(),
        name: name.to_owned(),
    };
    let found = filer.lookup_directory_entry(request).await?.into_inner();
    let fields = found.entry.context("an entry")?.fields()?;
    let ids = fields.chunks.iter().filter_map(|chunk| chunk.id());
    Ok(ids.map(|id| id.to_string()).collect())
}

/// The id of the store that a filer is on.
pub(super) async fn store_id(shared: &Shared, filer: usize) -> Result<i32> {
    let asked = pb::GetFilerConfigurationRequest {};
    let mut filer = shared.grpc(filer).await?;
    let said = filer.get_filer_configuration(asked).await?;
    Ok(said.into_inner().signature)
}

/// Moves an entry and what is below it.
pub(super) async fn rename(filer: &mut Filer, from: (&str, &str), to: (&str, &str)) -> Result<()> {
    let request = pb::AtomicRenameEntryRequest {
        old_directory: from.0.to_owned(),
        old_name: from.1.to_owned(),
        new_directory: to.0.to_owned(),
        new_name: to.1.to_owned(),
        ..pb::AtomicRenameEntryRequest::default()
    };
    filer.atomic_rename_entry(request).await?;
    Ok(())
}

/// Removes an entry and what is below it.
pub(super) async fn delete(filer: &mut Filer, dir: &str, name: &str) -> Result<()> {
    let request = pb::DeleteEntryRequest {
        directory: dir.to_owned(),
        name: name.to_owned(),
        is_delete_data: true,
        is_recursive: true,
        ..pb::DeleteEntryRequest::default()
    };
    let said = filer.delete_entry(request).await?.into_inner();
    ensure!(said.error.is_empty(), "{}", said.error);
    Ok(())
}
