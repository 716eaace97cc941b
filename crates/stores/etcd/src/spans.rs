// SPDX-License-Identifier: Apache-2.0
//! Pages of a large directory.
//!
//! etcd 3.4 walks over every key of a range to count them, however few it is asked for: pages of
//! what is left of a directory of a million would cost a walk over all of it each. So, once it
//! says that there is much more, it is asked for parts: names that begin as the page did.

use bytes::Bytes;

use crate::keys::end_of;

/// A range with so many times the keys that are wanted is asked for in parts.
const PART_PAGES_MAX: i64 = 8;

/// A part with fewer than one key of so many that are wanted is followed by a wider one.
const PART_SHARE_MIN: usize = 4;

/// What is left to be read of a range.
pub(crate) struct Spans {
    /// First key that is left.
    pub(crate) first: Bytes,
    end: Bytes,
    /// What all keys of the range begin with is not longer.
    head_len: usize,
    /// The next part has the keys that begin with so many bytes of the first.
    depth: usize,
}

/// What etcd answered.
pub(crate) struct Answered<'a> {
    /// First and last key, where there is one.
    pub(crate) ends: Option<(&'a [u8], &'a [u8])>,
    pub(crate) n_keys: usize,
    /// Keys in the part.
    pub(crate) count: i64,
    pub(crate) is_more: bool,
    /// Keys that were asked for.
    pub(crate) limit: usize,
}

impl Spans {
    pub(crate) fn of(first: Bytes, end: Bytes, head_len: usize) -> Self {
        Self {
            first,
            end,
            head_len,
            depth: head_len,
        }
    }

    /// First key behind the next part.
    pub(crate) fn part_end(&self) -> Bytes {
        match self.first.get(..self.depth) {
            Some(head) if self.depth > self.head_len => end_of(head).min(self.end.clone()),
            _ => self.end.clone(),
        }
    }

    /// Goes on behind what was answered of the next part; `false` when nothing is left.
    pub(crate) fn next(&mut self, said: &Answered<'_>) -> bool {
        let end = self.part_end();
        match said.ends {
            Some((first, last)) if said.is_more => {
                if said.count > PART_PAGES_MAX * said.limit as i64 {
                    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
                    self.depth = shared.max(self.depth + 1);
                }
                self.first = [last, b"\0"].concat().into();
            }
            _ if end == self.end => return false,
            _ => {
                if said.n_keys * PART_SHARE_MIN < said.limit {
                    self.depth = self.depth.saturating_sub(1);
                }
                self.first = end;
            }
        }
        self.depth = self
            .depth
            .clamp(self.head_len, self.first.len().max(self.head_len));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Reads all names of a directory; gives them, the questions, and the keys that etcd walks
    /// over.
    fn read(names: &BTreeSet<Bytes>, limit: usize) -> (Vec<Bytes>, usize, usize) {
        let mut spans = Spans::of("/d\0".into(), "/d\u{1}".into(), 3);
        let (mut out, mut n_asked, mut n_walked) = (Vec::new(), 0, 0);
        loop {
            let (first, end) = (spans.first.clone(), spans.part_end());
            assert!(first < end, "{first:?} {end:?}");
            let part: Vec<&Bytes> = names.range(first..end).collect();
            let page = &part[..part.len().min(limit)];
            (n_asked, n_walked) = (n_asked + 1, n_walked + part.len());
            out.extend(page.iter().map(|name| (*name).clone()));
            let is_left = spans.next(&Answered {
                ends: page.first().zip(page.last()).map(|(a, b)| (&a[..], &b[..])),
                n_keys: page.len(),
                count: part.len() as i64,
                is_more: part.len() > limit,
                limit,
            });
            if !is_left {
                return (out, n_asked, n_walked);
            }
        }
    }

    fn names(of: impl Iterator<Item = String>) -> BTreeSet<Bytes> {
        of.map(|name| format!("/d\0{name}").into()).collect()
    }

    #[test]
    fn every_name_is_read_once_and_few_are_walked_over_often() {
        let long = "x".repeat(200);
        for all in [
            names((0..30_000).map(|n| format!("{n:07}"))),
            names((0..30_000).map(|n| format!("{n}"))),
            names((0..30_000).map(|n| format!("{long}{n:x}"))),
            names((0..30_000).map(|n| format!("{:x}{long}", n * 7_919 % 65_537))),
        ] {
            let (read, n_asked, n_walked) = read(&all, 50);
            assert!(read.iter().eq(&all), "each once, in order");
            let n_pages = all.len() / 50;
            assert!(n_asked < 6 * n_pages, "{n_asked} of {n_pages}");
            assert!(n_walked < 40 * all.len(), "{n_walked} of {}", all.len());
        }
    }

    #[test]
    fn names_that_begin_with_one_another_are_read_once() {
        let all = names((0..9_000).map(|n| "\u{10ffff}".repeat(n % 90) + &n.to_string()));
        assert!(read(&all, 50).0.iter().eq(&all), "each once, in order");
    }

    #[test]
    fn a_small_directory_is_asked_for_once() {
        let all = names((0..50).map(|n| n.to_string()));
        assert_eq!(read(&all, 50).1, 1);
        assert_eq!(read(&BTreeSet::new(), 50).1, 1);
    }
}
