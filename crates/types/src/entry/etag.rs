// SPDX-License-Identifier: Apache-2.0
//! The entity tag of a file, as upstream's clients compare it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::fields::{EntryFields, FileChunk};

/// The tag without quotes: the hex MD5 of the whole body where it is known, else
/// that of the only chunk, else the MD5 of all chunk MD5s followed by `-n`.
///
/// Inline content counts as the whole body. An empty file without MD5 has the MD5 of nothing.
#[must_use]
pub fn etag(fields: &EntryFields) -> String {
    if let Some(md5) = fields.attributes.as_ref().map(|a| &a.md5)
        && !md5.is_empty()
    {
        return hex(md5);
    }
    if let Some(remote) = fields.remote_entry.as_ref()
        && fields.chunks.is_empty()
        && !remote.remote_e_tag.is_empty()
    {
        return remote.remote_e_tag.trim_matches('"').to_owned();
    }
    match fields.chunks.as_slice() {
        [] => hex(&Md5::digest(&fields.content)),
        [chunk] => hex(&chunk_md5(chunk)),
        chunks => {
            let mut all = Md5::new();
            for chunk in chunks {
                all.update(chunk_md5(chunk));
            }
            format!("{}-{}", hex(&all.finalize()), chunks.len())
        }
    }
}

/// The MD5 of a chunk; what is no base64 counts as nothing, as upstream has it.
fn chunk_md5(chunk: &FileChunk) -> Vec<u8> {
    STANDARD.decode(&chunk.e_tag).unwrap_or_default()
}

/// Lower case hex digits.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn chunk(content: &[u8]) -> FileChunk {
        FileChunk {
            e_tag: STANDARD.encode(Md5::digest(content)),
            ..FileChunk::default()
        }
    }

    #[test]
    fn a_known_md5_wins() {
        let mut fields = EntryFields {
            chunks: vec![chunk(b"a")],
            ..EntryFields::default()
        };
        fields.attrs_mut().md5 = Bytes::copy_from_slice(&Md5::digest(b"hello world\n"));
        assert_eq!(etag(&fields), "6f5902ac237024bdd0c176cb93063dc4");
    }

    #[test]
    fn one_chunk_gives_its_md5_and_several_a_count() {
        let one = EntryFields {
            chunks: vec![chunk(b"hello world\n")],
            ..EntryFields::default()
        };
        assert_eq!(etag(&one), "6f5902ac237024bdd0c176cb93063dc4");
        let two = EntryFields {
            chunks: vec![chunk(b"a"), chunk(b"b")],
            ..EntryFields::default()
        };
        let mut both = Md5::digest(b"a").to_vec();
        both.extend_from_slice(&Md5::digest(b"b"));
        assert_eq!(etag(&two), format!("{}-2", hex(&Md5::digest(&both))));
    }

    #[test]
    fn inline_content_has_the_md5_of_its_bytes() {
        let fields = EntryFields {
            content: Bytes::from_static(b"hello world\n"),
            ..EntryFields::default()
        };
        assert_eq!(etag(&fields), "6f5902ac237024bdd0c176cb93063dc4");
        assert_eq!(
            etag(&EntryFields::default()),
            "d41d8cd98f00b204e9800998ecf8427e"
        );
    }
}
