// SPDX-License-Identifier: Apache-2.0
//! Sizes and spans of time, with their units.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is no size or span.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{given}` is no {what}")]
pub struct UnitError {
    given: String,
    what: &'static str,
}

/// A number of bytes, written with its unit: `64MiB`, `10GB`, `512B`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Size(pub u64);

/// Units of sizes, greatest first where they are printed.
const SIZES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError {
            given: text.to_owned(),
            what: "size; expected a whole number with B, KB, KiB, MB, MiB, GB, GiB, TB or TiB, \
                such as `64MiB`",
        };
        if text == "0" {
            return Ok(Self(0));
        }
        let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, unit) = text.split_at(at);
        let unit = unit.trim_start();
        let unit = SIZES.iter().find(|(name, _)| *name == unit);
        let (_, factor) = unit.ok_or_else(bad)?;
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(*factor).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZES.iter().filter(|(name, _)| name.contains('i'));
        let fit = binary
            .filter(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor))
            .max_by_key(|(_, factor)| *factor);
        match fit {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A span of time, written with its unit: `10s`, `300ms`, `1h30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span(pub Duration);

/// Units of spans in milliseconds, greatest first.
const SPANS: &[(&str, u64)] = &[
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError {
            given: text.to_owned(),
            what: "span of time; expected whole numbers with d, h, m, s or ms, such as `10s` or \
                `1h30m`",
        };
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut rest = text;
        let mut total = 0_u64;
        while !rest.is_empty() {
            let at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: u64 = rest[..at].parse().map_err(|_| bad())?;
            rest = &rest[at..];
            let end = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let unit = SPANS.iter().find(|(name, _)| *name == &rest[..end]);
            let (_, factor) = unit.ok_or_else(bad)?;
            let part = number.checked_mul(*factor).ok_or_else(bad)?;
            total = total.checked_add(part).ok_or_else(bad)?;
            rest = &rest[end..];
        }
        if text.is_empty() {
            return Err(bad());
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in SPANS {
            if left >= *factor {
                write!(f, "{}{name}", left / factor)?;
                left %= factor;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_they_print() {
        for (text, bytes, shown) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("30 GiB", 30 << 30, "30GiB"),
            ("2GB", 2_000_000_000, "1953125KiB"),
            ("512B", 512, "512B"),
            ("1024B", 1024, "1KiB"),
            ("0", 0, "0B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for text in ["", "5", "MiB", "5 mib", "-1B", "1.5GiB", "99999999999TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn spans_read_as_they_print() {
        for (text, millis, shown) in [
            ("10s", 10_000, "10s"),
            ("300ms", 300, "300ms"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90s", 90_000, "1m30s"),
            ("0", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), shown);
            assert_eq!(shown.parse(), Ok(span));
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "1.5s",
            "1w",
            "99999999999999999999d",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
