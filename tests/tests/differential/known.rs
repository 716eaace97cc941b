// SPDX-License-Identifier: Apache-2.0
//! Where the two filers differ, and why ours does not copy the other.

/// A case of which one aspect differs.
pub(crate) struct Known {
    pub(crate) case: &'static str,
    /// `answers`, `tree` or `events`.
    pub(crate) aspect: &'static str,
    pub(crate) why: &'static str,
}

const fn known(case: &'static str, aspect: &'static str, why: &'static str) -> Known {
    Known { case, aspect, why }
}

const APPEND_TO_DIR: &str = "chunks in a directory are reachable by nobody: refused";
const APPEND_TO_INLINE: &str =
    "chunks over inline content hide it: refused, with the text that HTTP has for it";
const DOTS_IN_NAME: &str = "no kernel can name such an entry: refused";
const NUL_IN_NAME: &str = "NUL ends a name in a store's keys: refused";
const SLASH_IN_NAME: &str =
    "a slash in a name makes an entry elsewhere than where it was asked for: refused";
const RENAME_ALIKE: &str = "upstream compares paths as text: /d and /dd are strangers";
const UNTIMED: &str =
    "an entry without a birth would have expired at once with a time to live: now is put there";
const UPDATE: &str = "an update that changes nothing is no event; upstream compares the inode number, which no client sends";
const LINK_OVER: &str = "a name written over leaves its inode: another file, with a number of \
    its own, told as the old name's end and the new one's birth; upstream keeps the number";
const LINK_UNLINK: &str = "link counts follow from the names and are in no record: a name that \
    goes changes no time of the others, and events show the count that was written last";

/// The table.
pub(crate) const DIFFERENCES: &[Known] = &[
    known("append_to_dir", "answers", APPEND_TO_DIR),
    known("append_to_dir", "tree", APPEND_TO_DIR),
    known("append_to_dir", "events", APPEND_TO_DIR),
    known("append_to_inline", "answers", APPEND_TO_INLINE),
    known("append_to_inline", "tree", APPEND_TO_INLINE),
    known("append_to_inline", "events", APPEND_TO_INLINE),
    known(
        "below_a_file",
        "events",
        "a file that becomes a directory is told as the change it is, with what it was",
    ),
    known(
        "delete_tree_signed",
        "events",
        "what a recursive delete removes carries the request's signatures, or syncs echo it",
    ),
    known(
        "signed_parents",
        "events",
        "and so do directories made on the way",
    ),
    known("dots_in_name", "answers", DOTS_IN_NAME),
    known("dots_in_name", "tree", DOTS_IN_NAME),
    known("dots_in_name", "events", DOTS_IN_NAME),
    known("nul_in_name", "answers", NUL_IN_NAME),
    known("nul_in_name", "tree", NUL_IN_NAME),
    known("nul_in_name", "events", NUL_IN_NAME),
    known("slash_in_name", "answers", SLASH_IN_NAME),
    known("slash_in_name", "tree", SLASH_IN_NAME),
    known("slash_in_name", "events", SLASH_IN_NAME),
    known(
        "expired_and_anew",
        "events",
        "an expired entry that is written over is told as deleted first: its chunks are freed",
    ),
    known(
        "listing_from_before_the_prefix",
        "answers",
        "leveldb's listing ends at a start before the prefix",
    ),
    known("rename_alike", "answers", RENAME_ALIKE),
    known("rename_alike", "tree", RENAME_ALIKE),
    known("rename_alike", "events", RENAME_ALIKE),
    known(
        "rename_below_missing",
        "events",
        "directories that a rename makes are told, too, or peers lack them",
    ),
    known(
        "skipped_parents",
        "tree",
        "what lies below a directory that nobody made is listed, and the directory with it",
    ),
    known("link_over", "answers", LINK_OVER),
    known("link_over", "tree", LINK_OVER),
    known("link_over", "events", LINK_OVER),
    known("link_unlink", "answers", LINK_UNLINK),
    known("link_unlink", "events", LINK_UNLINK),
    known(
        "root",
        "answers",
        "the root has no times, and an update of it is no change and no event",
    ),
    known("untimed", "answers", UNTIMED),
    known("untimed", "tree", UNTIMED),
    known("untimed", "events", UNTIMED),
    known("update", "answers", UPDATE),
    known("update", "events", UPDATE),
];
