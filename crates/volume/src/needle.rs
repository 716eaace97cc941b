// SPDX-License-Identifier: Apache-2.0
//! Needles, version 3, as they lie in a `.dat` file. Layout: upstream's; all big-endian.

use bytes::Bytes;
use dulse_types::wire::{Reader, WireError, Writer};

/// Records begin at multiples of this.
pub const ALIGNMENT: u64 = 8;

/// Bytes before the body: cookie, key, size.
pub const HEADER_LEN: usize = 16;

/// Bytes behind the body: checksum, append time.
const TRAILER_LEN: usize = 12;

const HAS_NAME: u8 = 0x02;
const HAS_MIME: u8 = 0x04;
const HAS_MODIFIED: u8 = 0x08;
const HAS_TTL: u8 = 0x10;
const HAS_PAIRS: u8 = 0x20;

/// Flag of data that is gzip.
pub const IS_GZIP: u8 = 0x01;
/// Flag of a chunk manifest.
pub const IS_MANIFEST: u8 = 0x80;

/// One stored blob.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Needle {
    /// Guards against guessed keys.
    pub cookie: u32,
    /// Its key in the volume.
    pub key: u64,
    /// The content.
    pub data: Bytes,
    /// `IS_GZIP`, `IS_MANIFEST`.
    pub flags: u8,
    /// File name, at most 255 bytes.
    pub name: Vec<u8>,
    /// Mime type, at most 255 bytes.
    pub mime: Vec<u8>,
    /// Seconds since 1970; 0 when not known.
    pub modified_s: u64,
    /// Time to live: count and unit; zero is none.
    pub ttl: [u8; 2],
    /// Headers to give back, as JSON.
    pub pairs: Vec<u8>,
    /// When it was appended, in nanoseconds.
    pub append_at_ns: u64,
}

/// Bytes a record with a body of this size takes: padded, and never by zero bytes.
#[must_use]
pub fn record_len(size: u32) -> u64 {
    let bare = (HEADER_LEN + TRAILER_LEN) as u64 + u64::from(size);
    bare + (ALIGNMENT - bare % ALIGNMENT)
}

impl Needle {
    /// Size of the body; 0 where there is no data.
    #[must_use]
    pub fn body_len(&self) -> u32 {
        if self.data.is_empty() {
            return 0;
        }
        let mut len = 4 + self.data.len() + 1;
        if !self.name.is_empty() {
            len += 1 + self.name.len().min(255);
        }
        if !self.mime.is_empty() {
            len += 1 + self.mime.len().min(255);
        }
        if self.modified_s > 0 {
            len += 5;
        }
        if self.ttl != [0, 0] {
            len += 2;
        }
        if !self.pairs.is_empty() {
            len += 2 + self.pairs.len().min(usize::from(u16::MAX));
        }
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// The whole record, padding included.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let size = self.body_len();
        let mut out = Writer::with_capacity(record_len(size) as usize);
        out.u32_be(self.cookie);
        out.u64_be(self.key);
        out.u32_be(size);
        if size > 0 {
            self.write_body(&mut out);
        }
        out.u32_be(crc32c::crc32c(&self.data));
        out.u64_be(self.append_at_ns);
        let padding = record_len(size) as usize - out.len();
        out.raw(&[0; 8][..padding]);
        out.into_vec()
    }

    fn write_body(&self, out: &mut Writer) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.bytes_u32(&self.data);
        out.u8(self.flags & (IS_GZIP | IS_MANIFEST)
            | flag(!self.name.is_empty(), HAS_NAME)
            | flag(!self.mime.is_empty(), HAS_MIME)
            | flag(self.modified_s > 0, HAS_MODIFIED)
            | flag(self.ttl != [0, 0], HAS_TTL)
            | flag(!self.pairs.is_empty(), HAS_PAIRS));
        for text in [&self.name, &self.mime] {
            if !text.is_empty() {
                let text = &text[..text.len().min(255)];
                out.u8(text.len() as u8);
                out.raw(text);
            }
        }
        if self.modified_s > 0 {
            out.raw(&self.modified_s.to_be_bytes()[3..]);
        }
        if self.ttl != [0, 0] {
            out.raw(&self.ttl);
        }
        if !self.pairs.is_empty() {
            let pairs = &self.pairs[..self.pairs.len().min(usize::from(u16::MAX))];
            out.u16_be(pairs.len() as u16);
            out.raw(pairs);
        }
    }

    /// Reads a whole record and checks its content's checksum, also in its older form.
    ///
    /// # Errors
    ///
    /// When the record is cut short or damaged.
    pub fn decode(record: &Bytes) -> Result<Self, WireError> {
        let input = &mut Reader::new(record);
        let mut needle = Self {
            cookie: input.u32_be()?,
            key: input.u64_be()?,
            ..Self::default()
        };
        let size = input.u32_be()? as usize;
        if size > 0 {
            let end = input.position() + size;
            needle.read_body(input, end, record)?;
            let rest = end.checked_sub(input.position());
            input.raw(rest.ok_or(WireError::BadValue {
                what: "body",
                value: size as u64,
            })?)?;
        }
        let stored = input.u32_be()?;
        needle.append_at_ns = input.u64_be()?;
        let actual = crc32c::crc32c(&needle.data);
        let older = actual.rotate_right(15).wrapping_add(0xa282_ead8);
        if size > 0 && stored != actual && stored != older {
            return Err(WireError::BadValue {
                what: "needle checksum",
                value: stored.into(),
            });
        }
        Ok(needle)
    }

    fn read_body(
        &mut self,
        input: &mut Reader<'_>,
        end: usize,
        record: &Bytes,
    ) -> Result<(), WireError> {
        let len = input.u32_be()? as usize;
        input.raw(len)?;
        self.data = record.slice(input.position() - len..input.position());
        if input.position() >= end {
            return Ok(());
        }
        let flags = input.u8()?;
        self.flags = flags & (IS_GZIP | IS_MANIFEST);
        if flags & HAS_NAME != 0 {
            let len = usize::from(input.u8()?);
            self.name = input.raw(len)?.to_vec();
        }
        if flags & HAS_MIME != 0 {
            let len = usize::from(input.u8()?);
            self.mime = input.raw(len)?.to_vec();
        }
        if flags & HAS_MODIFIED != 0 {
            let mut seconds = [0; 8];
            seconds[3..].copy_from_slice(input.raw(5)?);
            self.modified_s = u64::from_be_bytes(seconds);
        }
        if flags & HAS_TTL != 0 {
            self.ttl.copy_from_slice(input.raw(2)?);
        }
        if flags & HAS_PAIRS != 0 {
            let len = usize::from(input.u16_be()?);
            self.pairs = input.raw(len)?.to_vec();
        }
        Ok(())
    }

    /// The entity tag: the checksum of the stored bytes.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("{:08x}", crc32c::crc32c(&self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let value = |b: u8| (b as char).to_digit(16).unwrap() as u8;
        digits
            .chunks(2)
            .map(|pair| value(pair[0]) << 4 | value(pair[1]))
            .collect()
    }

    /// A record that upstream's volume server wrote (protocol notes, volume).
    #[test]
    fn upstreams_record_is_written_and_read_byte_for_byte() {
        let needle = Needle {
            cookie: 0x25e7_a438,
            key: 0x11,
            data: Bytes::from_static(b"hello world\n"),
            name: b"a.txt".to_vec(),
            mime: b"text/plain".to_vec(),
            modified_s: 0x6b02_e0f1,
            append_at_ns: 0x18ea_5e03_31d0_51de,
            ..Needle::default()
        };
        let body = "25e7a438 0000000000000011 00000027 0000000c 68656c6c6f20776f726c640a 0e \
                    05612e747874 0a746578742f706c61696e 006b02e0f1 f0ff7292 18ea5e0331d051de";
        let expect = hex(body);
        let record = needle.encode();
        assert_eq!(record.len(), 72);
        assert_eq!(record[..expect.len()], expect);
        assert_eq!(Needle::decode(&Bytes::from(record)).unwrap(), needle);
    }

    #[test]
    fn damage_is_seen() {
        let needle = Needle {
            data: Bytes::from_static(b"abc"),
            ..Needle::default()
        };
        let mut record = needle.encode();
        record[20] ^= 1;
        assert!(Needle::decode(&Bytes::from(record)).is_err());
    }

    #[test]
    fn fuzz_garbage_never_panics() {
        let mut state = 1_u64;
        for len in 0..2_000 {
            let bytes: Vec<u8> = (0..len % 90)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 56) as u8 & if len % 2 == 0 { 0xff } else { 0x07 }
                })
                .collect();
            let _ = Needle::decode(&Bytes::from(bytes));
        }
    }
}
