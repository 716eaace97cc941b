// SPDX-License-Identifier: Apache-2.0
//! Chunks that upstream encrypted before it wrote them.
//!
//! A sealed chunk is `nonce (12) ‖ AES-256-GCM(gzip? (clear bytes)) ‖ tag (16)`; the key
//! lies in the entry, so that volume servers never see clear bytes. Nothing of it can be
//! read without all of it. We read such chunks and write none.

use std::io::Read;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bytes::Bytes;
use dulse_types::FileChunk;

/// Largest clear length: upstream's volume servers take no larger needle.
pub(crate) const SEALED_LEN_MAX: u64 = 256 << 20;

/// What a needle holds beyond the clear bytes: nonce, tag, and gzip's frame.
pub(crate) const OVERHEAD_MAX: usize = 4096;

/// How to open a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seal {
    /// 32 bytes.
    pub(crate) key: Bytes,
    /// Whether the clear bytes were compressed first.
    pub(crate) is_compressed: bool,
}

impl Seal {
    /// The seal of a chunk, if it has one.
    pub(crate) fn of(chunk: &FileChunk) -> Option<Self> {
        (!chunk.cipher_key.is_empty()).then(|| Self {
            key: chunk.cipher_key.clone(),
            is_compressed: chunk.is_compressed,
        })
    }

    /// The clear bytes of a needle, at most `limit`. Cost: one copy, two if compressed.
    ///
    /// # Errors
    ///
    /// Says what does not fit: key, tag, compression or length.
    pub(crate) fn open(&self, needle: &[u8], limit: usize) -> Result<Bytes, String> {
        let key = UnboundKey::new(&AES_256_GCM, &self.key)
            .map_err(|_| format!("its key has {} bytes, not 32", self.key.len()))?;
        let (nonce, sealed) = needle
            .split_at_checked(NONCE_LEN)
            .ok_or_else(|| format!("{} bytes are too few for a sealed chunk", needle.len()))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|e| e.to_string())?;
        let mut clear = sealed.to_vec();
        let n_clear = LessSafeKey::new(key)
            .open_in_place(nonce, Aad::empty(), &mut clear)
            .map_err(|_| "its bytes do not fit its key".to_owned())?
            .len();
        clear.truncate(n_clear);
        if self.is_compressed {
            clear = unzip(&clear, limit)?;
        }
        if clear.len() > limit {
            return Err(format!("it holds more than {limit} bytes"));
        }
        Ok(clear.into())
    }
}

pub(crate) fn unzip(data: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let mut clear = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(data).take(limit as u64 + 1);
    let read = decoder.read_to_end(&mut clear);
    read.map_err(|e| format!("it does not decompress: {e}"))?;
    Ok(clear)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn seal_up(key: &[u8; 32], clear: &[u8]) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        let nonce = [7; NONCE_LEN];
        let mut sealed = clear.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::empty(), &mut sealed)
            .unwrap();
        [nonce.to_vec(), sealed].concat()
    }

    #[test]
    fn sealed_bytes_open_with_their_key_only() {
        let clear = b"hello world, hello world, hello world";
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zip.write_all(clear).unwrap();
        let zipped = zip.finish().unwrap();
        let seal = |is_compressed, key: &'static [u8]| Seal {
            key: Bytes::from_static(key),
            is_compressed,
        };
        let (plain, packed) = (seal_up(&[1; 32], clear), seal_up(&[1; 32], &zipped));
        assert_eq!(seal(false, &[1; 32]).open(&plain, 99).unwrap(), clear[..]);
        assert_eq!(seal(true, &[1; 32]).open(&packed, 99).unwrap(), clear[..]);
        for (seal, needle, limit, why) in [
            (seal(false, &[2; 32]), &plain, 99, "do not fit"),
            (seal(false, &[1; 5]), &plain, 99, "not 32"),
            (seal(false, &[1; 32]), &plain[..5].to_vec(), 99, "too few"),
            (
                seal(false, &[1; 32]),
                &plain[..20].to_vec(),
                99,
                "do not fit",
            ),
            (seal(true, &[1; 32]), &plain, 99, "does not decompress"),
            (seal(true, &[1; 32]), &packed, 9, "more than 9"),
        ] {
            let error = seal.open(needle, limit).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
