// SPDX-License-Identifier: Apache-2.0
//! Changing inputs at random.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Inputs do not grow beyond this many bytes.
pub const INPUT_BYTES_MAX: usize = 64 << 10;

/// Changes at one time, at most.
const CHANGES_MAX: u32 = 6;

/// Numbers at the edges of their types.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// A few random changes to one of the inputs.
#[must_use]
pub fn mutate(inputs: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = inputs.choose(random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..=CHANGES_MAX) {
        change(&mut bytes, inputs, random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=bytes.len());
    let until = (at + random.random_range(0..=8)).min(bytes.len());
    match random.random_range(0..10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
        1 if at < bytes.len() => bytes[at] = random.random(),
        2 => drop(bytes.drain(at..until)),
        3 => bytes.truncate(at),
        4 => drop(bytes.splice(at..at, bytes[at..until].to_vec())),
        5 => drop(bytes.splice(at..at, [random.random::<u8>()])),
        6 => {
            let edge = EDGES.choose(random).copied().unwrap_or(0).to_be_bytes();
            let length = *[1, 2, 4, 8].choose(random).unwrap_or(&1);
            let until = (at + length).min(bytes.len());
            drop(bytes.splice(at..until, edge[8 - length..].iter().copied()));
        }
        7 => {
            // A varint that says too much.
            let length = random.random_range(1..=10);
            drop(bytes.splice(
                at..until,
                (1..=length).map(|n| if n == length { 1 } else { 0xff }),
            ));
        }
        8 => {
            // The end of another input behind the start of this one.
            let other = inputs.choose(random).map_or(&[][..], Vec::as_slice);
            let from = random.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let longer = random.random_range(0..200);
            let fill = random.random();
            drop(bytes.splice(at..at, std::iter::repeat_n(fill, longer)));
        }
    }
}
