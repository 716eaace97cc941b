// SPDX-License-Identifier: Apache-2.0
//! Written cases: one matter each.

use crate::Case;
use crate::op::{DIR, How, Kill, Op, Range, What};

fn case(name: &str, ops: Vec<Op>) -> Case {
    // The directory itself, so that no case depends on how parents are made unless it says so.
    let mut all = vec![Op::mkdir("")];
    all.extend(ops);
    Case {
        name: name.to_owned(),
        ops: all,
    }
}

fn create(path: &str, what: What) -> Op {
    Op::Create(path.to_owned(), what, How::default())
}

fn how(path: &str, what: What, how: How) -> Op {
    Op::Create(path.to_owned(), what, how)
}

fn update(path: &str, what: What) -> Op {
    Op::Update(path.to_owned(), what, Vec::new())
}

fn delete(path: &str) -> Op {
    let kill = Kill {
        data: true,
        ..Kill::default()
    };
    Op::Delete(path.to_owned(), kill)
}

fn delete_tree(path: &str) -> Op {
    let kill = Kill {
        recursive: true,
        data: true,
        ..Kill::default()
    };
    Op::Delete(path.to_owned(), kill)
}

fn rename(from: &str, to: &str) -> Op {
    Op::Rename(from.to_owned(), to.to_owned())
}

fn stream_rename(from: &str, to: &str) -> Op {
    Op::StreamRename(from.to_owned(), to.to_owned())
}

fn lookup(path: &str) -> Op {
    Op::Lookup(path.to_owned())
}

fn list(dir: &str, range: Range) -> Op {
    Op::List(dir.to_owned(), range)
}

fn with(change: impl FnOnce(&mut What)) -> What {
    let mut what = What::file();
    change(&mut what);
    what
}

/// All written cases.
pub(crate) fn all() -> Vec<Case> {
    let mut all = creates();
    all.extend(updates());
    all.extend(appends());
    all.extend(deletes());
    all.extend(renames());
    all.extend(listings());
    all.extend(links());
    all.extend(expiry());
    all.extend(others());
    all
}

fn creates() -> Vec<Case> {
    let exclusive = || How {
        exclusive: true,
        ..How::default()
    };
    let condition = |condition| How {
        condition,
        ..How::default()
    };
    vec![
        case(
            "plain",
            vec![Op::file("a"), lookup("a"), Op::file("a"), lookup("b")],
        ),
        case(
            "parents",
            vec![Op::file("x/y/z"), lookup("x"), lookup("x/y")],
        ),
        case(
            "parents_of_private",
            vec![
                create("x/z", with(|w| (w.mode, w.uid) = (0o600, 5))),
                lookup("x"),
            ],
        ),
        case(
            "signed_parents",
            vec![how(
                "x/z",
                What::file(),
                How {
                    signatures: vec![12, 34],
                    other_cluster: true,
                    ..How::default()
                },
            )],
        ),
        case(
            "skipped_parents",
            vec![how(
                "x/z",
                What::file(),
                How {
                    skip_parents: true,
                    ..How::default()
                },
            )],
        ),
        case(
            "exclusive",
            vec![
                how("a", What::file(), exclusive()),
                how("a", What::file(), exclusive()),
                how("a", What::dir(), exclusive()),
                Op::mkdir("d"),
                how("d", What::dir(), exclusive()),
            ],
        ),
        case(
            "other_type",
            vec![
                Op::file("f"),
                create("f", What::dir()),
                Op::mkdir("d"),
                create("d", What::file()),
                Op::mkdir("d"),
            ],
        ),
        case(
            "conditions",
            vec![
                how("a", What::file(), condition(2)),
                how("a", What::file(), condition(1)),
                how("a", What::file(), condition(1)),
                how("a", What::file(), condition(2)),
            ],
        ),
        case(
            "below_a_file",
            vec![
                create("f", with(|w| w.chunks = vec![(1, 9)])),
                Op::file("f/x"),
                lookup("f"),
            ],
        ),
        case(
            "replaced_content",
            vec![
                create("a", with(|w| w.chunks = vec![(1, 9), (2, 5)])),
                create("a", with(|w| w.chunks = vec![(2, 5)])),
                create("a", with(|w| w.content = "inline")),
                lookup("a"),
            ],
        ),
        case(
            "names",
            vec![
                create(&"n".repeat(255), What::file()),
                create(&"n".repeat(256), What::file()),
                create(&"é".repeat(127), What::file()),
                create(&"é".repeat(128), What::file()),
                create("日本語 and spaces", What::file()),
                create("a\\b", What::file()),
                create("per%cent", What::file()),
                lookup("日本語 and spaces"),
            ],
        ),
        case(
            "slash_in_name",
            vec![Op::CreateRaw("/slash_in_name", "a/b")],
        ),
        case("nul_in_name", vec![Op::CreateRaw("/nul_in_name", "a\0b")]),
        case("dots_in_name", vec![Op::CreateRaw("/dots_in_name", "..")]),
        case(
            "mime",
            vec![
                create("a", with(|w| w.mime = "application/octet-stream")),
                create("b", with(|w| w.mime = "text/plain")),
                lookup("a"),
                lookup("b"),
            ],
        ),
        case(
            "symlink",
            vec![create(
                "l",
                with(|w| (w.mode, w.symlink) = (1 << 27 | 0o777, "/x")),
            )],
        ),
        case(
            "extended",
            vec![
                create(
                    "a",
                    with(|w| w.extended = vec![("xattr-user.k", "v"), ("Seaweed-a", "b")]),
                ),
                lookup("a"),
            ],
        ),
        case(
            "untimed",
            vec![
                create("a", with(|w| (w.mtime, w.crtime) = (0, 0))),
                lookup("a"),
            ],
        ),
        case(
            "bucket_names",
            vec![
                Op::file("/buckets/Not_A_Bucket/x"),
                Op::file("/buckets/ab/x"),
            ],
        ),
    ]
}

fn updates() -> Vec<Case> {
    vec![
        case("update_missing", vec![update("a", What::file())]),
        case(
            "update",
            vec![
                Op::file("a"),
                update("a", with(|w| w.mode = 0o600)),
                update("a", with(|w| w.mode = 0o600)),
                update("a", with(|w| (w.crtime, w.mtime) = (9, 1_600_000_001))),
                lookup("a"),
            ],
        ),
        case("update_type", vec![Op::file("a"), update("a", What::dir())]),
        case(
            "update_expecting",
            vec![
                create("a", with(|w| w.extended = vec![("k", "v")])),
                Op::Update("a".to_owned(), What::file(), vec![("k", "other")]),
                Op::Update("a".to_owned(), What::file(), vec![("k", "v"), ("none", "")]),
                lookup("a"),
            ],
        ),
        case(
            "update_chunks",
            vec![
                create("a", with(|w| w.chunks = vec![(1, 9), (2, 5)])),
                update("a", with(|w| w.chunks = vec![(1, 9)])),
                lookup("a"),
            ],
        ),
        case(
            "update_dir",
            vec![Op::mkdir("d"), update("d", with(|w| w.mode = DIR | 0o700))],
        ),
    ]
}

fn appends() -> Vec<Case> {
    let append = |path: &str, chunks: &[(u64, u64)]| Op::Append(path.to_owned(), chunks.to_vec());
    vec![
        case(
            "append",
            vec![
                append("a", &[(1, 4)]),
                append("a", &[(2, 6), (3, 1)]),
                lookup("a"),
            ],
        ),
        case("append_below_missing", vec![append("x/a", &[(1, 4)])]),
        case(
            "append_to_dir",
            vec![Op::mkdir("d"), append("d", &[(1, 4)])],
        ),
        case(
            "append_to_inline",
            vec![
                create("a", with(|w| w.content = "abc")),
                append("a", &[(1, 4)]),
                lookup("a"),
            ],
        ),
    ]
}

fn deletes() -> Vec<Case> {
    let tree = || {
        vec![
            Op::mkdir("t"),
            Op::file("t/b"),
            Op::mkdir("t/c"),
            Op::file("t/c/x"),
            Op::file("t/d"),
        ]
    };
    let mut all = vec![
        case("delete_missing", vec![delete("a"), delete_tree("x/y")]),
        case(
            "delete",
            vec![Op::file("a"), delete("a"), lookup("a"), delete("a")],
        ),
        case("delete_empty", vec![Op::mkdir("d"), delete("d")]),
        case("delete_root", vec![delete("/"), delete_tree("/")]),
    ];
    let mut ops = tree();
    ops.extend([delete("t"), delete("t/c"), delete("t/c/x"), delete("t/c")]);
    all.push(case("delete_not_empty", ops));
    let mut ops = tree();
    ops.push(delete_tree("t"));
    all.push(case("delete_tree", ops));
    let mut ops = tree();
    let signed = Kill {
        recursive: true,
        data: true,
        signatures: vec![12, 34],
        ..Kill::default()
    };
    ops.push(Op::Delete("t".to_owned(), signed));
    all.push(case("delete_tree_signed", ops));
    let unless = |not_after| Kill {
        data: true,
        not_after,
        ..Kill::default()
    };
    all.push(case(
        "delete_unless_modified",
        vec![
            Op::file("a"),
            Op::Delete("a".to_owned(), unless(1_599_999_999)),
            lookup("a"),
            Op::Delete("a".to_owned(), unless(1_600_000_000)),
            lookup("a"),
        ],
    ));
    all.push(case(
        "delete_keeps_data",
        vec![
            create("a", with(|w| w.chunks = vec![(1, 9)])),
            Op::Delete("a".to_owned(), Kill::default()),
        ],
    ));
    all
}

fn renames() -> Vec<Case> {
    vec![
        case("rename_missing", vec![rename("a", "b")]),
        case(
            "rename",
            vec![Op::file("a"), rename("a", "b"), lookup("b"), lookup("a")],
        ),
        case(
            "rename_itself",
            vec![Op::file("a"), rename("a", "a"), lookup("a")],
        ),
        case(
            "rename_over_file",
            vec![
                create("a", with(|w| w.uid = 1)),
                create("b", with(|w| (w.uid, w.chunks) = (2, vec![(1, 9)]))),
                rename("a", "b"),
                lookup("b"),
            ],
        ),
        case(
            "rename_file_over_dir",
            vec![Op::file("a"), Op::mkdir("d"), rename("a", "d")],
        ),
        case(
            "rename_dir_over_file",
            vec![Op::mkdir("d"), Op::file("a"), rename("d", "a")],
        ),
        case(
            "rename_over_full_dir",
            vec![
                Op::mkdir("d"),
                Op::file("e/x"),
                rename("d", "e"),
                stream_rename("d", "e"),
            ],
        ),
        case(
            "rename_over_empty_dir",
            vec![Op::mkdir("d"), Op::mkdir("e"), rename("d", "e")],
        ),
        case(
            "rename_into_itself",
            vec![Op::mkdir("d"), rename("d", "d/x")],
        ),
        case(
            "rename_alike",
            vec![Op::mkdir("d"), Op::mkdir("dd"), rename("d", "dd/x")],
        ),
        case(
            "rename_tree",
            vec![
                Op::mkdir("d"),
                Op::file("d/a"),
                Op::mkdir("d/b"),
                Op::file("d/b/x"),
                Op::file("d/c"),
                rename("d", "e"),
            ],
        ),
        case(
            "rename_below_missing",
            vec![Op::file("a"), rename("a", "x/b")],
        ),
        case(
            "stream_rename",
            vec![
                Op::mkdir("d"),
                Op::file("d/a"),
                Op::mkdir("d/b"),
                Op::file("d/b/x"),
                stream_rename("d", "e"),
                stream_rename("none", "x"),
                Op::file("f"),
                stream_rename("e", "f"),
                stream_rename("f", "g"),
            ],
        ),
        case("rename_to_root", vec![Op::file("a"), rename("a", "/")]),
        case("rename_root", vec![rename("/", "x")]),
        case(
            "rename_bucket",
            vec![Op::mkdir("/buckets/one"), rename("/buckets/one", "x")],
        ),
        case(
            "rename_across_buckets",
            vec![
                Op::file("/buckets/two/x"),
                rename("/buckets/two/x", "/buckets/three/x"),
            ],
        ),
    ]
}

fn listings() -> Vec<Case> {
    let mut ops: Vec<Op> = ["a", "aa", "ab", "b", "ba", "c"]
        .iter()
        .map(|n| Op::file(n))
        .collect();
    ops.push(create("big", with(|w| w.chunks = vec![(1, 9), (2, 100)])));
    let range = |prefix, start, inclusive, limit| Range {
        prefix,
        start,
        inclusive,
        limit,
        omit_chunks: false,
    };
    let lists = [
        range("", "", false, 0),
        range("", "", false, 3),
        range("", "aa", false, 3),
        range("", "aa", true, 3),
        range("", "aaa", true, 1),
        range("a", "", false, 10),
        range("a", "aa", false, 10),
        range("a", "b", false, 10),
        range("b", "b", true, 2),
        range("zz", "", false, 10),
        range("", "zz", true, 10),
    ];
    ops.extend(lists.into_iter().map(|range| list("", range)));
    ops.push(list(
        "",
        Range {
            omit_chunks: true,
            ..range("big", "", false, 0)
        },
    ));
    ops.push(list("none", Range::default()));
    ops.push(list("a", Range::default()));
    let early = case(
        "listing_from_before_the_prefix",
        vec![
            Op::file("a"),
            Op::file("ba"),
            list("", range("b", "a", false, 10)),
        ],
    );
    let walk = |dir: &str, excluded: &[&str]| {
        Op::Traverse(
            dir.to_owned(),
            excluded.iter().map(|e| (*e).to_owned()).collect(),
        )
    };
    let walks = vec![
        Op::mkdir("t"),
        Op::file("t/b"),
        Op::mkdir("t/c"),
        Op::file("t/c/x"),
        Op::mkdir("t/cc"),
        Op::file("t/cc/y"),
        walk("", &[]),
        walk("t", &["t/c"]),
        walk("none", &[]),
        walk("t/b", &[]),
    ];
    vec![case("listing", ops), early, case("traverse", walks)]
}

/// A file with two names, `a` and `b`, then something more.
fn linked(name: &str, id: &'static str, ops: Vec<Op>) -> Case {
    let two = with(|w| (w.link, w.links, w.content) = (id, 2, "shared"));
    let mut all = vec![
        create("a", with(|w| w.content = "shared")),
        update("a", two.clone()),
        create("b", two),
    ];
    all.extend(ops);
    case(name, all)
}

fn links() -> Vec<Case> {
    vec![
        linked(
            "link",
            "aaaaaaaaaaaaaaaa\x01",
            vec![lookup("a"), lookup("b")],
        ),
        linked(
            "link_unlink",
            "bbbbbbbbbbbbbbbb\x01",
            vec![delete("a"), lookup("b"), delete("b"), lookup("b")],
        ),
        linked(
            "link_rename",
            "cccccccccccccccc\x01",
            vec![rename("b", "c"), lookup("c"), lookup("a")],
        ),
        linked(
            "link_over",
            "dddddddddddddddd\x01",
            vec![
                create("b", with(|w| w.content = "other")),
                lookup("a"),
                lookup("b"),
            ],
        ),
    ]
}

fn expiry() -> Vec<Case> {
    let expired = |w: &mut What| w.ttl_sec = 100;
    let alive = |w: &mut What| (w.ttl_sec, w.crtime) = (60, 1_900_000_000);
    vec![
        case(
            "expired",
            vec![
                create("old", with(expired)),
                create("new", with(alive)),
                lookup("old"),
                lookup("new"),
                list("", Range::default()),
            ],
        ),
        case(
            "expired_and_anew",
            vec![
                create("old", with(expired)),
                create("old", with(alive)),
                lookup("old"),
            ],
        ),
        case(
            "directories_do_not_expire",
            vec![
                create(
                    "d",
                    What {
                        ttl_sec: 100,
                        ..What::dir()
                    },
                ),
                lookup("d"),
            ],
        ),
    ]
}

fn others() -> Vec<Case> {
    vec![
        case(
            "root",
            vec![
                lookup("/"),
                create("/", What::dir()),
                update("/", What::dir()),
            ],
        ),
        case(
            "keys",
            vec![
                Op::KvGet("differential-a"),
                Op::KvPut("differential-a", "1"),
                Op::KvGet("differential-a"),
                Op::KvPut("differential-a", "2"),
                Op::KvGet("differential-a"),
                Op::KvPut("differential-a", ""),
                Op::KvGet("differential-a"),
                Op::KvPut("differential-b", ""),
            ],
        ),
    ]
}
