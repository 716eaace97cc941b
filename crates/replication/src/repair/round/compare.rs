// SPDX-License-Identifier: Apache-2.0
//! Finding what differs: buckets, directories, ranges of items, items.

use std::collections::BTreeMap;

use bytes::Bytes;
use dulse_merge::digest::Sum;
use dulse_merge::keys::Space;
use dulse_merge::repair::Tie;
use dulse_proto::repair::{
    Differing, DirectoriesRequest, Directory as Row, ItemsReply, ItemsRequest, Range,
};
use dulse_replica::Census;

use super::super::serve::ItemReader;
use super::super::{RANGE_ITEMS, RANGES_MAX, sum_of};
use super::{DIFFERENCES_MAX, EXAMPLES_MAX, Round, ranges, space_of};

/// Buckets asked for at once.
const BUCKETS_AT_ONCE: usize = 256;

/// Directories of one round; the rest is found by the next.
const DIRECTORIES_MAX: usize = 10_000;

/// What is said of a peer that answers what was not asked.
const NOT_ASKED: &str = "a range that was not asked for";

/// Items of a directory with keys behind `from`, up to `until`, included; empty is the
/// beginning, and the end.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Span {
    from: Bytes,
    until: Bytes,
}

/// An item that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Its key.
    pub key: Bytes,
    /// What it counts with here; `Some(None)` for a row that does not decode.
    pub ours: Option<Option<u128>>,
    /// What it counts with there.
    pub theirs: Option<Option<u128>>,
}

impl Difference {
    /// Whether one side lacks it.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ours.is_none() || self.theirs.is_none()
    }
}

/// What a directory's digest row says, and what is there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Sums {
    pub(super) stored: Sum,
    pub(super) counted: Sum,
}

impl Sums {
    fn is_whole(self) -> bool {
        self.stored == self.counted
    }
}

/// A directory of the digest, compared with the peer's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    pub(super) name: Bytes,
    pub(super) differing: Vec<Difference>,
    ours: Sums,
    theirs: Sums,
}

impl Directory {
    /// Whether the peer has exactly what was here.
    pub(super) fn is_trusted(&self) -> bool {
        self.theirs.is_whole() && self.theirs.stored == self.ours.stored
    }

    pub(super) fn is_peer_whole(&self) -> bool {
        self.theirs.is_whole()
    }

    /// ⚠ Whether only the peer's rows do not check out: then nothing new is taken from it. It
    /// repairs itself from here first, or it would spread a stray.
    pub(super) fn is_only_peer_damaged(&self) -> bool {
        self.ours.is_whole() && !self.theirs.is_whole()
    }

    /// Those rows of ours alone that do not decode.
    pub(super) fn damaged(&self) -> Option<Self> {
        let damaged = self.differing.iter().filter(|d| d.ours == Some(None));
        let differing: Vec<Difference> = damaged.cloned().collect();
        (!differing.is_empty()).then(|| Self {
            name: self.name.clone(),
            differing,
            ours: self.ours,
            theirs: self.theirs,
        })
    }

    pub(super) fn tie(&self) -> Tie {
        match (self.ours.is_whole(), self.theirs.is_whole()) {
            (false, true) => Tie::Theirs,
            (true, false) => Tie::Ours,
            _ => Tie::Greater,
        }
    }

    pub(super) fn space(&self) -> Option<Space> {
        space_of(&self.name)
    }
}

impl Round<'_, '_> {
    /// The directories whose digest rows differ.
    pub(super) fn find(&mut self) -> Result<Vec<Bytes>, String> {
        let theirs = self.ask_buckets()?;
        let shared = self.local.shared();
        let (_, ours) = shared.vector_and_buckets();
        let ours: BTreeMap<u32, Sum> = ours.into_iter().map(|(b, sum)| (b.into(), sum)).collect();
        let mut differing: BTreeMap<u32, Sum> = ours.clone();
        for row in &theirs.buckets {
            let theirs = sum_of(&row.sum, row.count).ok_or("a bucket's sum has no 16 bytes")?;
            if ours.get(&row.bucket) == Some(&theirs) {
                differing.remove(&row.bucket);
            } else {
                differing.insert(row.bucket, theirs);
            }
        }
        let buckets: Vec<u32> = differing.into_keys().collect();
        let census = self.census()?;
        let mut found = Vec::new();
        for buckets in buckets.chunks(BUCKETS_AT_ONCE) {
            let mut theirs = BTreeMap::new();
            let (mut after, mut before) = (None, None);
            loop {
                let reply = self.ask_directories(DirectoriesRequest {
                    group: String::new(),
                    buckets: buckets.to_vec(),
                    after: after.take(),
                })?;
                let last = reply.directories.last().map(|row| row.directory.clone());
                if last.is_some() && last == before {
                    return Err("it tells the same directories again".to_owned());
                }
                after = reply.directories.last().cloned();
                before = last;
                for Row {
                    directory,
                    sum,
                    count,
                    ..
                } in reply.directories
                {
                    let sum = sum_of(&sum, count).ok_or("a sum has no 16 bytes")?;
                    theirs.insert(directory, sum);
                }
                if reply.is_last || after.is_none() {
                    break;
                }
            }
            for bucket in buckets {
                let rows = census.digest_rows(*bucket as u16, None, usize::MAX);
                for (dir, ours) in rows.map_err(|e| e.to_string())? {
                    if theirs.remove(&dir) != Some(ours) {
                        found.push(dir);
                    }
                }
            }
            found.extend(theirs.into_keys());
            if found.len() >= DIRECTORIES_MAX {
                self.report.is_cut = true;
                found.truncate(DIRECTORIES_MAX);
                break;
            }
        }
        Ok(found)
    }

    /// What the peer's digest row and rows of a directory are.
    pub(super) fn sums_of(&mut self, dir: &Bytes) -> Result<Sums, String> {
        let reply = self.ask_items(ItemsRequest {
            directory: dir.clone(),
            ..ItemsRequest::default()
        })?;
        sums(&reply)
    }

    /// Compares one directory: by coarse ranges if it is large, by fine ones in those that
    /// differ, and item by item in those of the fine ones.
    pub(super) fn compare(&mut self, dir: &Bytes) -> Result<Directory, String> {
        let census = self.census()?;
        let survey = ranges::survey(&census, dir)?;
        let mut out = Directory {
            name: dir.clone(),
            differing: Vec::new(),
            ours: Sums {
                stored: census.stored(dir).map_err(|e| e.to_string())?,
                counted: survey.counted,
            },
            theirs: Sums::default(),
        };
        // The peer's sums are those of its first answer.
        let is_small = survey.coarse.len() < 2;
        let mut spans = vec![Span::default()];
        if !is_small {
            (spans, out.theirs) = self.differing_spans(dir, &survey.coarse)?;
        }
        for span in spans {
            if !self.compare_span(&census, &span, is_small, &mut out)? {
                self.report.is_cut = true;
                break;
            }
        }
        self.report.n_directories += 1;
        self.report.n_items += out.differing.len() as u64;
        let room = EXAMPLES_MAX.saturating_sub(self.report.examples.len());
        let examples = out.differing.iter().take(room);
        let examples = examples.map(|d| super::fetch::title(dir, &d.key));
        self.report.examples.extend(examples);
        Ok(out)
    }

    /// Which of the coarse ranges differ, neighbors as one; and the peer's sums.
    fn differing_spans(
        &mut self,
        dir: &Bytes,
        coarse: &[Range],
    ) -> Result<(Vec<Span>, Sums), String> {
        let (mut spans, mut theirs): (Vec<Span>, _) = (Vec::new(), None);
        let mut n_done = 0;
        while n_done < coarse.len() {
            let begin = |n: usize| match n.checked_sub(1) {
                Some(before) => coarse[before].until.clone(),
                None => Bytes::new(),
            };
            let ahead = &coarse[n_done..];
            let ahead = &ahead[..ahead.len().min(RANGES_MAX)];
            let reply = self.ask_items(ItemsRequest {
                directory: dir.clone(),
                after: begin(n_done),
                ranges: ahead.to_vec(),
                without_items: true,
                without_sums: theirs.is_some(),
                ..ItemsRequest::default()
            })?;
            if theirs.is_none() {
                theirs = Some(sums(&reply)?);
            }
            for differing in &reply.differing {
                let n = n_done + differing.range as usize;
                let until = &coarse.get(n).ok_or(NOT_ASKED)?.until;
                let from = begin(n);
                match spans.last_mut().filter(|span| span.until == from) {
                    Some(span) => span.until = until.clone(),
                    None => spans.push(Span {
                        from,
                        until: until.clone(),
                    }),
                }
            }
            let n_compared = reply.n_compared as usize;
            if n_compared == 0 || n_compared > ahead.len() {
                return Err("an answer does not fit its question".to_owned());
            }
            n_done += n_compared;
        }
        Ok((spans, theirs.unwrap_or_default()))
    }

    /// Compares one span by fine ranges, and asks for the peer's sums if there are none yet;
    /// whether it was looked at to its end.
    fn compare_span(
        &mut self,
        census: &Census,
        span: &Span,
        mut wants_sums: bool,
        out: &mut Directory,
    ) -> Result<bool, String> {
        let dir = out.name.clone();
        let mut after = span.from.clone();
        loop {
            let (ranges, is_end) = ranges::fine(census, &dir, &after, &span.until)?;
            let reply = self.ask_items(ItemsRequest {
                directory: dir.clone(),
                after: after.clone(),
                ranges: ranges.clone(),
                without_sums: !wants_sums,
                ..ItemsRequest::default()
            })?;
            if std::mem::take(&mut wants_sums) {
                out.theirs = sums(&reply)?;
            }
            let n_compared = reply.n_compared as usize;
            let mut cut = None;
            for Differing {
                range,
                items,
                is_cut,
            } in reply.differing
            {
                let range = range as usize;
                let until = ranges.get(range).ok_or(NOT_ASKED)?;
                let from = match range.checked_sub(1) {
                    Some(before) => ranges[before].until.clone(),
                    None => after.clone(),
                };
                let mut until = until.until.clone();
                if is_cut {
                    until = items.last().ok_or("an empty range is cut")?.key.clone();
                    cut = Some(until.clone());
                }
                differences(census, &dir, (&from, &until), &items, &mut out.differing)?;
            }
            let last = n_compared.checked_sub(1).and_then(|n| ranges.get(n));
            if is_end && n_compared == ranges.len() && cut.is_none() {
                return Ok(true);
            }
            let is_full = self.report.n_items as usize + out.differing.len() >= DIFFERENCES_MAX;
            match cut.or(last.map(|range| range.until.clone())) {
                Some(next) if !is_full && next > after => after = next,
                _ => return Ok(false),
            }
        }
    }
}

fn sums(reply: &ItemsReply) -> Result<Sums, String> {
    let stored = sum_of(&reply.stored_sum, reply.stored_count);
    let counted = sum_of(&reply.counted_sum, reply.counted_count);
    match (stored, counted) {
        (Some(stored), Some(counted)) => Ok(Sums { stored, counted }),
        _ => Err("a directory's sum has no 16 bytes".to_owned()),
    }
}

/// Compares the items of one range: the own ones behind `from`, up to `until`.
fn differences(
    census: &Census,
    dir: &Bytes,
    (from, until): (&Bytes, &Bytes),
    theirs: &[dulse_proto::repair::Item],
    out: &mut Vec<Difference>,
) -> Result<(), String> {
    let mut ours: BTreeMap<Bytes, Option<u128>> = BTreeMap::new();
    let mut reader = ItemReader::new(census, dir, from, RANGE_ITEMS + 1);
    while let Some(item) = reader.next().map_err(|e| e.to_string())? {
        if !until.is_empty() && item.key > *until {
            break;
        }
        ours.insert(item.key, item.hash);
    }
    for item in theirs {
        let hash = match item.hash.len() {
            0 => None,
            _ => Some(u128::from_be_bytes(
                item.hash[..]
                    .try_into()
                    .map_err(|_| "a hash has no 16 bytes")?,
            )),
        };
        let here = ours.remove(&item.key);
        if here != Some(hash) || hash.is_none() {
            out.push(Difference {
                key: item.key.clone(),
                ours: here,
                theirs: Some(hash),
            });
        }
    }
    out.extend(ours.into_iter().map(|(key, hash)| Difference {
        key,
        ours: Some(hash),
        theirs: None,
    }));
    Ok(())
}
