// SPDX-License-Identifier: Apache-2.0
//! Where a copy of what lost goes when nobody says: its own path, else beside it.

use dulse_replica::Conflict;
use dulse_types::FullPath;
use dulse_types::path::NAME_LEN_MAX;

/// Names tried beside a path that is taken.
const BESIDE_MAX: u32 = 8;

/// Paths to be tried in turn: `notes.txt`, `notes.txt.conflict-1732546800`, then with `-2`
/// and so on behind it. The number is the second at which it was written.
pub(super) fn candidates(own: &FullPath, conflict: &Conflict) -> Vec<FullPath> {
    let written_s = conflict.lost.stamp.0 / 1_000_000_000;
    let beside = (1..=BESIDE_MAX).filter_map(|n| {
        let tail = match n {
            1 => format!(".conflict-{written_s}"),
            n => format!(".conflict-{written_s}-{n}"),
        };
        let mut stem = own.name();
        while stem.len() + tail.len() > NAME_LEN_MAX {
            // A character at a time: a name is text.
            let (last, _) = stem.char_indices().next_back()?;
            stem = &stem[..last];
        }
        let dir = own.parent()?;
        FullPath::of(dir.as_str(), &format!("{stem}{tail}")).ok()
    });
    std::iter::once(own.clone()).chain(beside).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dulse_types::{Entry, Identity, Origin, Stamp, Version};

    use super::*;

    #[test]
    fn a_copy_goes_to_its_own_path_or_beside_it_however_long_the_name() {
        let version = Version {
            stamp: Stamp(1_732_546_800_000_000_123),
            origin: Origin(1),
        };
        let conflict = Conflict {
            id: Identity::default(),
            is_data: true,
            is_pending: false,
            name: Identity::default(),
            path: Bytes::new(),
            loser: Entry::default(),
            lost: version,
            winner: version,
            recorded: version,
        };
        let of = |path: &str| candidates(&FullPath::parse(path).unwrap(), &conflict);
        let found = of("/a/notes.txt");
        assert_eq!(found[0].as_str(), "/a/notes.txt");
        assert_eq!(found[1].as_str(), "/a/notes.txt.conflict-1732546800");
        assert_eq!(found[2].as_str(), "/a/notes.txt.conflict-1732546800-2");
        let long = of(&format!("/{}", "é".repeat(127)));
        assert_eq!(long.len(), 1 + BESIDE_MAX as usize);
        assert!(long.iter().all(|path| path.name().len() <= NAME_LEN_MAX));
    }
}
