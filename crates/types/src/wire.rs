// SPDX-License-Identifier: Apache-2.0
//! A byte writer and a checked reader for our own binary formats.
//!
//! Reading never panics and never allocates more than the input holds.

use bytes::Bytes;

/// Why bytes could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// The input ended inside a value.
    #[error("input ends at byte {at}, {needed} more expected")]
    Truncated {
        /// Where the value started.
        at: usize,
        /// Bytes missing.
        needed: usize,
    },
    /// A varint of more than ten bytes, or above the range of its type.
    #[error("bad varint at byte {at}")]
    BadVarint {
        /// Where the varint started.
        at: usize,
    },
    /// A count or length above the limit of its kind.
    #[error("`{what}` of length {len} is above its limit")]
    TooLong {
        /// The field.
        what: &'static str,
        /// What the input said.
        len: u64,
    },
    /// A tag, flag or text that its format does not have.
    #[error("bad value for `{what}`: {value}")]
    BadValue {
        /// The field.
        what: &'static str,
        /// What the input said.
        value: u64,
    },
    /// Bytes behind the end of the value.
    #[error("{left} bytes left over")]
    LeftOver {
        /// How many.
        left: usize,
    },
}

/// Appends values to a buffer.
#[derive(Clone, Default, Debug)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            out: Vec::with_capacity(capacity),
        }
    }

    /// Appends one byte.
    pub fn u8(&mut self, v: u8) {
        self.out.push(v);
    }

    /// Appends 2 bytes, big-endian.
    pub fn u16_be(&mut self, v: u16) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    /// Appends 4 bytes, big-endian.
    pub fn u32_be(&mut self, v: u32) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    /// Appends 8 bytes, big-endian.
    pub fn u64_be(&mut self, v: u64) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    /// Appends 8 bytes, big-endian, two's complement.
    pub fn i64_be(&mut self, v: i64) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    /// Appends 16 bytes, big-endian.
    pub fn u128_be(&mut self, v: u128) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }

    /// Appends a base-128 varint, least significant group first.
    pub fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.out.push((v as u8) | 0x80);
            v >>= 7;
        }
        self.out.push(v as u8);
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, v: &[u8]) {
        self.out.extend_from_slice(v);
    }

    /// Appends a varint length and the bytes.
    pub fn bytes(&mut self, v: &[u8]) {
        self.varint(v.len() as u64);
        self.raw(v);
    }

    /// Appends a 4-byte big-endian length and the bytes.
    ///
    /// # Panics
    ///
    /// Above 4 GiB, which no format here allows.
    pub fn bytes_u32(&mut self, v: &[u8]) {
        let len = u32::try_from(v.len()).expect("formats limit their parts below 4 GiB");
        self.u32_be(len);
        self.raw(v);
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The written bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// The buffer itself.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }

    /// The buffer as shared bytes.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.out)
    }
}

/// Reads values from a slice, remembering where it is.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `input`.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Where the next value starts.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.input.len() - self.at
    }

    /// Whether all is read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// Takes the next `n` bytes.
    ///
    /// # Errors
    ///
    /// `Truncated` when fewer are left.
    pub fn raw(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        if n > self.remaining() {
            return Err(WireError::Truncated {
                at: self.at,
                needed: n - self.remaining(),
            });
        }
        let taken = &self.input[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.raw(N)?);
        Ok(out)
    }

    /// Reads one byte.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// Reads 2 bytes, big-endian.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn u16_be(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Reads 4 bytes, big-endian.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn u32_be(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Reads 8 bytes, big-endian.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn u64_be(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Reads 8 bytes, big-endian, two's complement.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn i64_be(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Reads 16 bytes, big-endian.
    ///
    /// # Errors
    ///
    /// `Truncated`.
    pub fn u128_be(&mut self) -> Result<u128, WireError> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    /// Reads a varint.
    ///
    /// # Errors
    ///
    /// `Truncated`, or `BadVarint` beyond 64 bits.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let at = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(WireError::BadVarint { at });
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::BadVarint { at })
    }

    /// Reads a varint that fits 32 bits.
    ///
    /// # Errors
    ///
    /// `Truncated` or `BadVarint`.
    pub fn varint_u32(&mut self) -> Result<u32, WireError> {
        let at = self.at;
        u32::try_from(self.varint()?).map_err(|_| WireError::BadVarint { at })
    }

    /// Reads a varint length and that many bytes.
    ///
    /// # Errors
    ///
    /// `Truncated` or `BadVarint`.
    pub fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| WireError::TooLong { what: "bytes", len })?;
        self.raw(len)
    }

    /// Demands that all is read.
    ///
    /// # Errors
    ///
    /// `LeftOver` otherwise.
    pub fn finish(&self) -> Result<(), WireError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(WireError::LeftOver { left }),
        }
    }
}
