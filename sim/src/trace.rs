// SPDX-License-Identifier: Apache-2.0
//! What happened: a hash of it always, the words only when somebody reads them.

/// Follows one world.
pub(crate) struct Trace {
    hash: u64,
    is_printed: bool,
}

impl Trace {
    pub(crate) fn new(is_printed: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            is_printed,
        }
    }

    /// Mixes numbers in. Two runs of one seed give one hash, or something is not virtual.
    pub(crate) fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }

    /// Mixes bytes in.
    pub(crate) fn note_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.note(&[u64::from_le_bytes(word)]);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Says something at a moment.
    pub(crate) fn say(&self, now: u64, what: impl FnOnce() -> String) {
        if self.is_printed {
            eprintln!("{:9.4} {}", now as f64 / 1e9, what());
        }
    }
}
