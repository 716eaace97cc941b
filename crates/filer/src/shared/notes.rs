// SPDX-License-Identifier: Apache-2.0
//! The texts of two small files in the directory of a filer on a shared store: `floors` and
//! `freed` (`docs/formats/shared-journal.md`).

use std::collections::BTreeMap;

use dulse_types::{Origin, Stamp};

/// Behind which stamp each origin is whole, from lines of `origin stamp`; `None` for any other
/// text.
pub(super) fn parse_floors(text: &str) -> Option<BTreeMap<Origin, Stamp>> {
    let mut floors = BTreeMap::new();
    for line in text.lines() {
        let (origin, stamp) = line.split_once(' ')?;
        let is_new = floors
            .insert(origin.parse().ok()?, parse_stamp(stamp)?)
            .is_none();
        if !is_new {
            return None;
        }
    }
    Some(floors)
}

/// What [`parse_floors`] reads.
pub(super) fn floors_text(floors: &BTreeMap<Origin, Stamp>) -> String {
    let lines = floors.iter();
    lines.map(|(o, s)| format!("{o} {}\n", s.0)).collect()
}

/// Up to which stamp everything that was dropped is freed; `None` for any other text.
pub(super) fn parse_freed(text: &str) -> Option<Stamp> {
    parse_stamp(text.trim())
}

/// Stamps are never negative.
fn parse_stamp(text: &str) -> Option<Stamp> {
    let stamp: i64 = text.parse().ok()?;
    (stamp >= 0).then_some(Stamp(stamp))
}

/// A door for the fuzz target: what is read is written alike.
#[doc(hidden)]
pub fn check_notes(text: &str) {
    if let Some(floors) = parse_floors(text) {
        assert_eq!(parse_floors(&floors_text(&floors)), Some(floors));
    }
    if let Some(freed) = parse_freed(text) {
        assert_eq!(parse_freed(&freed.0.to_string()), Some(freed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_read_as_they_were_written_and_nothing_else_is() {
        let (a, b) = (Origin(1 << 32 | 7), Origin(2 << 32 | 7));
        let floors = BTreeMap::from([(a, Stamp::ZERO), (b, Stamp(i64::MAX))]);
        let text = floors_text(&floors);
        assert_eq!(parse_floors(&text), Some(floors));
        assert_eq!(parse_floors(""), Some(BTreeMap::new()));
        for wrong in [
            "what".to_owned(),
            format!("{a}"),
            format!("{a} -1"),
            format!("{a} 9223372036854775808"),
            format!("{a} 1 2"),
            format!("{a}  1"),
            format!("{a} 1\n\n"),
            format!("{a} 1\n{a} 2"),
        ] {
            assert_eq!(parse_floors(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_text_that_is_no_stamp_frees_nothing() {
        assert_eq!(parse_freed("17\n"), Some(Stamp(17)));
        for wrong in ["", "-1", "1.5", "9223372036854775808"] {
            assert_eq!(parse_freed(wrong), None, "{wrong}");
        }
    }
}
