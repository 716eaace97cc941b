// SPDX-License-Identifier: Apache-2.0
//! The `Range` header (RFC 9110 §14).

use std::ops::Range;

/// Most ranges answered in one response; more are answered with the whole file.
const RANGES_MAX: usize = 256;

/// What a `Range` header asks of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// Everything: no header, another unit, or more bytes than the file has.
    Whole,
    /// These parts, none of them empty.
    Parts(Vec<Range<u64>>),
    /// Nothing that the file has: 416 with the size.
    Unsatisfiable,
    /// No ranges at all: 416.
    Malformed,
}

/// Parses a header for a file of `size` bytes.
pub(super) fn parse(header: Option<&str>, size: u64) -> Wanted {
    let Some(header) = header.map(str::trim).filter(|h| !h.is_empty()) else {
        return Wanted::Whole;
    };
    let Some(list) = header.strip_prefix("bytes=") else {
        return Wanted::Malformed;
    };
    let mut parts = Vec::new();
    let mut n_given = 0;
    for text in list.split(',').map(str::trim).filter(|t| !t.is_empty()) {
        n_given += 1;
        if n_given > RANGES_MAX {
            return Wanted::Whole;
        }
        match parse_one(text, size) {
            None => return Wanted::Malformed,
            Some(range) if range.start < range.end => parts.push(range),
            Some(_) => {}
        }
    }
    if n_given == 0 {
        return Wanted::Malformed;
    }
    if parts.is_empty() {
        return Wanted::Unsatisfiable;
    }
    let mut lengths = parts.iter().map(|p| p.end - p.start);
    // More bytes than a number counts are more than any file has.
    let total = lengths.try_fold(0_u64, u64::checked_add);
    if parts.len() > 1 && total.is_none_or(|total| total > size) {
        return Wanted::Whole;
    }
    Wanted::Parts(parts)
}

/// One `a-b`, `a-` or `-n`, clamped; empty when the file has none of it.
fn parse_one(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    let number = |t: &str| {
        let is_number = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        // What overflows lies behind every file.
        is_number.then(|| t.parse::<u64>().unwrap_or(u64::MAX))
    };
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some(size - length..size);
    }
    let start = number(first)?;
    let end = match last {
        "" => size,
        last => number(last)?.saturating_add(1),
    };
    if !last.is_empty() && end <= start && end != u64::MAX {
        return None;
    }
    Some(start.min(size)..end.min(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::single_range_in_vec_init,
        reason = "one range is what is meant"
    )]
    fn ranges_of_a_file_of_twelve_bytes() {
        use Wanted::{Malformed, Parts, Unsatisfiable, Whole};
        for (header, expect) in [
            ("", Whole),
            ("bytes=0-4", Parts(vec![0..5])),
            ("bytes=-5", Parts(vec![7..12])),
            ("bytes=3-", Parts(vec![3..12])),
            ("bytes=3-99", Parts(vec![3..12])),
            ("bytes=-99", Parts(vec![0..12])),
            ("bytes=0-1,4-5", Parts(vec![0..2, 4..6])),
            ("bytes=0-1, 50-60", Parts(vec![0..2])),
            ("bytes=0-11,0-11", Whole),
            ("bytes=12-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=abc", Malformed),
            ("bytes=5-3", Malformed),
            ("bytes=", Malformed),
            ("bytes=--1", Malformed),
            ("bytes=+1-2", Malformed),
            ("items=0-1", Malformed),
        ] {
            assert_eq!(parse(Some(header), 12), expect, "{header}");
        }
        assert_eq!(parse(Some("bytes=0-"), 0), Unsatisfiable);
    }

    /// Found by fuzzing: a client may say any size of a file, and two ranges of one that
    /// large have more bytes together than a number can count.
    #[test]
    fn ranges_of_the_largest_file_there_is_are_counted() {
        assert_eq!(parse(Some("bytes=1-,2-"), u64::MAX), Wanted::Whole);
    }
}
