// SPDX-License-Identifier: Apache-2.0
//! What a power loss leaves of a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;

use super::content::{Change, Content, File, PAGE, apply};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// What a power loss takes of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// All of it.
    All,
    /// All behind some request, which itself is torn: what a disk that keeps order leaves.
    Behind,
    /// Any: each sector is as it was at some time since the last sync, one of them torn in its
    /// middle; each length and each name too.
    Any,
}

impl Loss {
    /// Each of them.
    pub const EACH: [Self; 3] = [Self::All, Self::Behind, Self::Any];
}

/// Lets a file be what the disk has of it when nothing behind a request reached it.
pub(super) fn lose_behind(file: &mut File, last: u64, random: &mut impl Rng) {
    for (request, change) in std::mem::take(&mut file.pending) {
        match change {
            change if request < last => apply(&mut file.durable, change),
            Change::Page { number, page, len } if request == last => {
                let torn = random.random_range(0..=PAGE);
                put(&mut file.durable, number, &page[..torn], 0);
                // The length is of another sector than the bytes.
                if random.random() {
                    file.durable.len = len;
                }
                break;
            }
            _ => break,
        }
    }
    settle(file);
}

/// Lets a file be any of what a disk may have made of it.
pub(super) fn lose_any(file: &mut File, random: &mut impl Rng) {
    let changes = Vec::from(std::mem::take(&mut file.pending));
    // How many of four sectors have the last that was written to them: losses are gaps, or all.
    let n_kept = random.random_range(0..=4);
    // Of how many changes the length is, and each sector.
    let lens = random.random_range(0..=changes.len());
    let mut sectors: BTreeMap<(u64, usize), usize> = BTreeMap::new();
    let mut len = file.durable.len;
    let mut torn = None;
    for (at, (_, change)) in changes.into_iter().enumerate() {
        match change {
            Change::Len(new) => {
                if at < lens {
                    len = new;
                    file.durable.set_len(new);
                }
            }
            Change::Page {
                number,
                page,
                len: new,
            } => {
                if at < lens {
                    len = new;
                }
                for sector in 0..PAGE / SECTOR {
                    let drawn = sectors.entry((number, sector)).or_insert_with(|| {
                        match random.random_range(0..4) < n_kept {
                            true => usize::MAX,
                            false => random.random_range(0..=at + n_kept),
                        }
                    });
                    let from = sector * SECTOR;
                    if at < *drawn {
                        put(&mut file.durable, number, &page[from..from + SECTOR], from);
                    } else if torn.is_none() && random.random_ratio(1, 8) {
                        torn = Some((number, from, page.clone()));
                    }
                }
            }
        }
    }
    if let Some((number, from, page)) = torn {
        let n = random.random_range(1..SECTOR);
        put(&mut file.durable, number, &page[from..from + n], from);
    }
    file.durable.set_len(len);
    settle(file);
}

/// Lets a file be what was synced.
pub(super) fn lose_all(file: &mut File) {
    file.pending.clear();
    settle(file);
}

fn put(to: &mut Content, number: u64, bytes: &[u8], within: usize) {
    let mut page = to.page(number);
    Arc::make_mut(&mut page)[within..within + bytes.len()].copy_from_slice(bytes);
    to.pages.insert(number, page);
}

fn settle(file: &mut File) {
    // What lies behind the end is not there.
    file.durable.set_len(file.durable.len);
    file.forgotten.clear();
    file.cached = file.durable.clone();
}
