// SPDX-License-Identifier: Apache-2.0
//! Entries, the wire reader, stamps, vectors, paths, file ids, addresses.

use bytes::Bytes;
use dulse_types::entry::{DataPart, hard_link_id_of, join, mode_of, split};
use dulse_types::wire::{Reader, Writer};
use dulse_types::{Entry, EntryName, FileId, FullPath, Identity, ServerAddress, Vector, Version};

/// Bytes as an entry: read, taken apart, put together.
pub(crate) fn entry(input: &[u8]) {
    let Ok(entry) = Entry::from_bytes(Bytes::copy_from_slice(input)) else {
        return;
    };
    let _ = (entry.file_mode(), entry.is_dir(), entry.ttl_sec());
    let parts = split(&entry);
    look(&parts.attributes, &parts.data);
    let joined = join(&parts.attributes, &parts.data, parts.atime_ns);
    let again = split(&joined);
    assert_eq!(
        (&again.attributes, &again.data),
        (&parts.attributes, &parts.data)
    );
    // An access time of 0 is none.
    assert!(again.atime_ns == parts.atime_ns || parts.atime_ns == 0);
    if let Ok((nameless, name)) = entry.take_name() {
        let named = nameless.with_name(&name);
        assert_eq!(named.take_name().ok(), Some((nameless, name)));
    }
    let Ok(fields) = entry.fields() else { return };
    let _ = fields.size();
    let written = fields.to_entry(&entry.unknown());
    let mut expect = fields;
    // It follows the mode, whatever the bytes said.
    expect.is_directory = expect.is_dir();
    assert_eq!(
        written.fields().ok(),
        Some(expect),
        "fields change when written"
    );
    assert_eq!(
        written.unknown(),
        entry.unknown(),
        "unknown fields are lost"
    );
}

/// Bytes as what rows and changes hold of an entry.
pub(crate) fn entry_parts(input: &[u8]) {
    let (attributes, data) = halves(input);
    let data = DataPart(Bytes::copy_from_slice(data));
    look(attributes, &data);
    let entry = join(attributes, &data, i64::MIN + 1);
    let _ = (entry.file_mode(), entry.is_dir(), entry.ttl_sec());
    let _ = (entry.fields().map(|fields| fields.size()), entry.unknown());
    let _ = (split(&entry), entry.take_name());
}

fn look(attributes: &[u8], data: &DataPart) {
    let _ = (
        mode_of(attributes),
        hard_link_id_of(attributes).map(<[u8]>::len),
    );
    let _ = (data.chunks(), data.file_ids(), data.has_chunks());
}

/// Values read one after the other, as the first bytes say.
pub(crate) fn wire(input: &[u8]) {
    let (kinds, rest) = halves(input);
    let input = &mut Reader::new(rest);
    for kind in kinds {
        let before = input.remaining();
        let is_read = match kind % 10 {
            0 => input.u8().is_ok(),
            1 => input.u16_be().is_ok(),
            2 => input.u32_be().is_ok(),
            3 => input.u64_be().is_ok(),
            4 => input.i64_be().is_ok(),
            5 => input.u128_be().is_ok(),
            6 => input.varint().is_ok(),
            7 => input.varint_u32().is_ok(),
            8 => input.bytes().is_ok(),
            _ => input.raw(usize::from(*kind)).is_ok(),
        };
        if !is_read {
            return;
        }
        assert!(input.remaining() <= before);
    }
    assert_eq!(input.finish().is_ok(), input.is_empty());
}

/// Vectors, versions and identities.
pub(crate) fn positions(input: &[u8]) {
    let _ = Version::read(&mut Reader::new(input));
    let _ = Identity::read(&mut Reader::new(input));
    let Ok(vector) = Vector::read(&mut Reader::new(input)) else {
        return;
    };
    let mut out = Writer::new();
    vector.write(&mut out);
    let again = Vector::read(&mut Reader::new(out.as_slice()));
    assert_eq!(again.ok(), Some(vector), "a vector changes when written");
}

/// Text as path, name, file id and address.
pub(crate) fn names(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(path) = FullPath::parse(text) {
        assert!(path.as_str().starts_with('/') && !path.as_str().contains('\0'));
        assert_eq!(FullPath::parse(path.as_str()).as_ref(), Ok(&path));
        if let (Some(parent), Ok(name)) = (path.parent(), EntryName::new(path.name())) {
            assert_eq!(parent.child(&name).as_ref(), Ok(&path));
            assert!(path.is_below(&parent));
        }
        let _ = path.moved(&path, &FullPath::root());
    }
    let _ = EntryName::new(text);
    if let Some((directory, name)) = text.split_once('\n') {
        let _ = FullPath::of(directory, name);
        if let (Ok(path), Ok(from)) = (FullPath::parse(directory), FullPath::parse(name)) {
            let _ = (path.moved(&from, &path), path.is_below(&from));
        }
    }
    if let Ok(id) = text.parse::<FileId>() {
        assert_eq!(id.to_string().parse(), Ok(id), "`{text}`");
        assert_eq!(
            FileId::parse_key_cookie(id.volume_id, &id.key_cookie()),
            Ok(id)
        );
    }
    if let Ok(address) = text.parse::<ServerAddress>() {
        assert_eq!(
            address.to_string().parse().as_ref(),
            Ok(&address),
            "`{text}`"
        );
        let _ = (address.http(), address.grpc());
    }
}

/// A length byte, as many bytes, and the rest.
pub(crate) fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    match input.split_first() {
        Some((length, rest)) => rest.split_at(usize::from(*length).min(rest.len())),
        None => (&[], &[]),
    }
}
