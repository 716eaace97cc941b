// SPDX-License-Identifier: Apache-2.0
//! The names of a directory as `redis3` has them: sorted sets of up to a million names each,
//! held in order by the elements of a skip list. Bytes: `docs/formats/redis.md`.
//!
//! A list has one element for a million names, so it is read as a whole, changed as a row of
//! batches, and written back where its bytes differ: what links what follows from the row alone.

use prost::Message;

/// Names that one batch takes.
pub(crate) const BATCH_NAMES_MAX: u64 = 1_000_000;

/// Levels that upstream's lists may have.
const LEVELS_MAX: usize = 25;

/// Elements of one list; above them it is taken for one that leads round in a circle.
pub(crate) const ELEMENTS_MAX: usize = 100_000;

/// Where an element lies.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reference {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) key: Vec<u8>,
}

/// The value of a directory's key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Root {
    /// The first element of each level.
    #[prost(message, repeated, tag = "1")]
    pub(crate) first: Vec<Reference>,
    /// The last element of each level.
    #[prost(message, repeated, tag = "2")]
    pub(crate) last: Vec<Reference>,
    /// How many levels there may be.
    #[prost(int32, tag = "3")]
    pub(crate) levels_max: i32,
    /// The highest level that has an element.
    #[prost(int32, tag = "4")]
    pub(crate) level: i32,
}

/// The value of an element's key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Element {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    /// The next element of each level; an empty one where there is none.
    #[prost(message, repeated, tag = "2")]
    pub(crate) next: Vec<Reference>,
    /// The highest level it is on.
    #[prost(int32, tag = "3")]
    pub(crate) level: i32,
    /// No name of its batch is below it.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) key: Vec<u8>,
    /// Not used by upstream's lists of names.
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) value: Vec<u8>,
    /// The element before it.
    #[prost(message, optional, tag = "6")]
    pub(crate) before: Option<Reference>,
}

/// One element, without what links it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    pub(crate) id: i64,
    pub(crate) level: usize,
    pub(crate) key: Vec<u8>,
}

impl Batch {
    pub(crate) fn of(element: &Element) -> Self {
        let level = usize::try_from(element.level).unwrap_or(0);
        Self {
            id: element.id,
            level: level.min(LEVELS_MAX - 1),
            key: element.key.clone(),
        }
    }

    fn reference(&self) -> Reference {
        Reference {
            id: self.id,
            key: self.key.clone(),
        }
    }
}

impl Reference {
    /// Whether it leads anywhere.
    pub(crate) fn is_some(&self) -> bool {
        self.id != 0
    }
}

/// The batch that a name belongs to: the last whose key is not above it, else the first.
pub(crate) fn batch_of(batches: &[Batch], name: &str) -> Option<usize> {
    let n_not_above = batches.partition_point(|batch| batch.key.as_slice() <= name.as_bytes());
    if batches.is_empty() {
        return None;
    }
    Some(n_not_above.saturating_sub(1))
}

/// The bytes of the root and of each element, in order.
pub(crate) fn encode(batches: &[Batch]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let top = batches.iter().map(|batch| batch.level).max().unwrap_or(0);
    let on = |level: usize| batches.iter().filter(move |batch| batch.level >= level);
    let root = Root {
        first: (0..=top)
            .filter_map(|level| on(level).next().map(Batch::reference))
            .collect(),
        last: (0..=top)
            .filter_map(|level| on(level).next_back().map(Batch::reference))
            .collect(),
        levels_max: LEVELS_MAX as i32,
        level: top as i32,
    };
    let elements = batches.iter().enumerate().map(|(i, batch)| {
        let behind = batches.get(i + 1..).unwrap_or_default();
        let next = (0..LEVELS_MAX).map(|level| {
            let is_on = level <= batch.level;
            let next = behind.iter().find(|next| is_on && next.level >= level);
            next.map(Batch::reference).unwrap_or_default()
        });
        let before = i.checked_sub(1).and_then(|before| batches.get(before));
        let element = Element {
            id: batch.id,
            next: next.collect(),
            level: batch.level as i32,
            key: batch.key.clone(),
            value: Vec::new(),
            before: before.map(Batch::reference),
        };
        element.encode_to_vec()
    });
    (root.encode_to_vec(), elements.collect())
}

/// The root of these bytes.
///
/// # Errors
///
/// For bytes that are none.
pub(crate) fn decode_root(bytes: &[u8]) -> Result<Root, prost::DecodeError> {
    Root::decode(bytes)
}

/// The element of these bytes.
///
/// # Errors
///
/// For bytes that are none.
pub(crate) fn decode_element(bytes: &[u8]) -> Result<Element, prost::DecodeError> {
    Element::decode(bytes)
}

/// Gives a list's bytes to the decoders, for fuzzing: what they take is written again alike.
pub fn check_skip_list(bytes: &[u8]) {
    if let Ok(root) = decode_root(bytes) {
        assert_eq!(decode_root(&root.encode_to_vec()), Ok(root));
    }
    if let Ok(element) = decode_element(bytes) {
        let batch = Batch::of(&element);
        let (root, elements) = encode(std::slice::from_ref(&batch));
        assert!(decode_root(&root).is_ok_and(|root| root.first.len() == batch.level + 1));
        let again = elements.first().map(|bytes| decode_element(bytes));
        assert!(matches!(again, Some(Ok(again)) if Batch::of(&again) == batch));
        assert_eq!(batch_of(&[batch], "name"), Some(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: i64, level: usize, key: &str) -> Batch {
        Batch {
            id,
            level,
            key: key.as_bytes().to_vec(),
        }
    }

    /// What upstream's filer was seen to write; `docs/formats/redis.md`.
    const GOLDEN: &str = include_str!("../tests/golden/skip_lists.txt");

    fn golden(name: &str) -> String {
        let line = GOLDEN
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap().to_owned()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn bytes_are_those_that_upstream_was_seen_to_write() {
        // Of one name: an element on levels 0 and 1.
        let (root, elements) = encode(&[batch(1_222_565_874_928_016_643, 1, "x.txt")]);
        assert_eq!(hex(&root), golden("root"));
        assert_eq!(hex(&elements[0]), golden("element"));
        // Behind a split: the first on level 0 alone, the second on 0 and 1.
        let row = [
            batch(536_955_784_482_609_831, 0, "m00"),
            batch(5_070_513_463_771_686_172, 1, "m02000501x"),
        ];
        let (root, elements) = encode(&row);
        assert_eq!(hex(&root), golden("split_root"));
        assert_eq!(hex(&elements[0]), golden("split_first"));
        assert_eq!(hex(&elements[1]), golden("split_second"));
    }

    #[test]
    fn a_name_belongs_to_the_last_batch_that_does_not_begin_behind_it() {
        let row = [batch(1, 0, "b"), batch(2, 0, "d"), batch(3, 3, "f")];
        for (name, at) in [("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 1), ("z", 2)] {
            assert_eq!(batch_of(&row, name), Some(at), "{name}");
        }
        assert_eq!(batch_of(&[], "a"), None);
    }

    #[test]
    fn links_of_all_levels_follow_from_the_row() {
        let row = [
            batch(1, 2, "a"),
            batch(2, 0, "b"),
            batch(3, 1, "c"),
            batch(4, 2, "d"),
        ];
        let (root, elements) = encode(&row);
        let root = decode_root(&root).unwrap();
        let ids = |all: &[Reference]| all.iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids(&root.first), [1, 1, 1]);
        assert_eq!(ids(&root.last), [4, 4, 4]);
        assert_eq!(root.level, 2);
        let element = |i: usize| decode_element(&elements[i]).unwrap();
        assert_eq!(ids(&element(0).next)[..4], [2, 3, 4, 0]);
        assert_eq!(ids(&element(1).next)[..2], [3, 0]);
        assert_eq!(ids(&element(2).next)[..3], [4, 4, 0]);
        assert_eq!(element(2).before.map(|one| one.id), Some(2));
        for (i, batch) in row.iter().enumerate() {
            assert_eq!(Batch::of(&element(i)), *batch);
        }
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic() {
        let (root, elements) = encode(&[batch(1, 1, "a"), batch(2, 0, "b")]);
        for bytes in [&root, &elements[0], &elements[1]] {
            for n in 0..bytes.len() {
                check_skip_list(&bytes[..n]);
            }
        }
        for element in [
            Element {
                level: i32::MAX,
                ..Element::default()
            },
            Element {
                level: -1,
                ..Element::default()
            },
        ] {
            check_skip_list(&element.encode_to_vec());
        }
    }
}
