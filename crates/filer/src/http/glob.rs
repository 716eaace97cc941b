// SPDX-License-Identifier: Apache-2.0
//! Name patterns with `*` and `?`.

/// Whether a text holds a wildcard; without one upstream ignores it.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// What every match starts with.
pub(super) fn literal_prefix(pattern: &str) -> &str {
    let end = pattern.find(['*', '?']).unwrap_or(pattern.len());
    &pattern[..end]
}

/// Whether a whole name matches. Cost: O(pattern × name), without recursion.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to resume after the last star: it swallows one more character each time.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, n) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match() {
        for (pattern, name, expect) in [
            ("*", "", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txtx", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "aXbYbZc", true),
            ("?", "é", true),
            ("a", "b", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expect, "{pattern} {name}");
        }
        assert_eq!(literal_prefix("ab*c"), "ab");
    }
}
