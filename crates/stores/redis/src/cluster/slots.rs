// SPDX-License-Identifier: Apache-2.0
//! In which slot a key lies, and which key of ours lies in a slot. Source: the cluster
//! specification of Redis.

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// What keys of ours begin with that lie in a slot of upstream's keys.
const OURS: &str = "dulse.slot.";

/// Numbers that are tried until one is found for each slot: of random ones, a slot is left out
/// with a chance of less than one in 10^9.
const TRIES_MAX: u32 = 700_000;

/// The slot of a key: of what stands between its first brace and the next closing one, if
/// anything does.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let open = key.iter().position(|byte| *byte == b'{');
    let tag = open.and_then(|open| {
        let rest = key.get(open + 1..)?;
        let end = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..end).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16 with the polynomial 0x1021 (XMODEM).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

/// Keys of ours, by slot.
pub(super) struct Places {
    prefix: String,
    /// Of each slot, the number whose keys lie there; none where all keys lie in another one.
    numbers: Vec<Option<u32>>,
}

impl Places {
    /// - `prefix`: of all keys; one with empty braces at first gives `None`, for then no part of
    ///   a key says where it lies.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        let rest = prefix.split_once('{').map(|(_, rest)| rest);
        if rest.is_some_and(|rest| rest.starts_with('}')) {
            return None;
        }
        let mut numbers = vec![None; usize::from(SLOTS)];
        let mut n_left = numbers.len();
        for number in 0..TRIES_MAX {
            let slot = slot_of(head(prefix, number).as_bytes());
            if let Some(place @ None) = numbers.get_mut(usize::from(slot)) {
                *place = Some(number);
                n_left -= 1;
                if n_left == 0 {
                    break;
                }
            }
        }
        Some(Self {
            prefix: prefix.to_owned(),
            numbers,
        })
    }

    /// A key in a slot in which another key with the same prefix lies.
    pub(super) fn key(&self, slot: u16, rest: &[u8]) -> Vec<u8> {
        let number = self.numbers.get(usize::from(slot)).copied().flatten();
        // A slot without a number has no keys with this prefix.
        let mut key = head(&self.prefix, number.unwrap_or(0)).into_bytes();
        key.extend_from_slice(rest);
        key
    }
}

/// The braces end here, or before: what follows changes no slot.
fn head(prefix: &str, number: u32) -> String {
    format!("{prefix}{OURS}{{{number}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // What `CLUSTER KEYSLOT` of Redis 7.0.15 said.
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("foo{bar}{zap}", 5_061),
            ("bar", 5_061),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("", 0),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_key_of_ours_is_in_the_slot_it_is_made_for() {
        for prefix in ["", "p:", "a{b", "a}b{", "{one}"] {
            let places = Places::new(prefix).unwrap();
            for rest in ["/d/x", "/{y}/z", "/}{", "/{d\0"] {
                let slot = slot_of(format!("{prefix}{rest}").as_bytes());
                for ours in [&b".lane.1"[..], b".names.{a}b", b".}{"] {
                    let key = places.key(slot, ours);
                    assert_eq!(slot_of(&key), slot, "{prefix} {rest}");
                }
            }
        }
        assert!(Places::new("a{}b").is_none());
    }
}
