// SPDX-License-Identifier: Apache-2.0
//! The tree's rules, over a replica in memory and a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_namespace::{
    Caller, Change, CreateOptions, DeleteOptions, Error, ErrorKind, Namespace, Options,
    UpdateOptions, texts,
};
use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, ReplicaStore, SystemClock};
use dulse_store::{ListRange, Step, Transaction};
use dulse_types::entry::MODE_DIRECTORY;
use dulse_types::{Entry, EntryFields, FileChunk, FileId, FullPath, FuseAttributes, UnknownFields};

/// Nanoseconds of one second.
const SECOND_NS: i64 = 1_000_000_000;

/// When the tests begin, in seconds since 1970.
const BEGIN_S: i64 = 1_800_000_000;

struct Tree {
    names: Namespace,
    now_ns: Arc<AtomicI64>,
}

impl Tree {
    fn new() -> Self {
        let replica = Replica::open(ReplicaOptions {
            disk: Arc::new(MemDisk::new()),
            engine: Arc::new(MemoryEngine::new()),
            clock: Arc::new(SystemClock),
            random: 0x1234_5678_0000_0001,
            durability: Durability::Fsync,
            limits: Limits::STANDARD,
        });
        let store = Arc::new(ReplicaStore::start(replica.unwrap()).unwrap());
        let options = Options {
            name_len_max: 255,
            buckets_folder: "/buckets".to_owned(),
            owner: (7, 8),
        };
        let now_ns = Arc::new(AtomicI64::new(BEGIN_S * SECOND_NS));
        let asked = Arc::clone(&now_ns);
        let clock = Arc::new(move || asked.load(Ordering::Relaxed));
        Self {
            names: Namespace::with_clock(store.clone(), options, clock).with_trees(store),
            now_ns,
        }
    }

    fn pass_s(&self, seconds: i64) {
        self.now_ns
            .fetch_add(seconds * SECOND_NS, Ordering::Relaxed);
    }

    async fn create(&self, at: &str, entry: &Entry) -> Result<(), Error> {
        let options = CreateOptions::default();
        self.names.create(&path(at), entry, options).await.map(drop)
    }

    fn fields(&self, at: &str) -> Option<EntryFields> {
        let found = self.names.find_opt(&path(at)).unwrap();
        found.map(|found| found.entry.fields().unwrap())
    }

    fn names_in(&self, dir: &str) -> Vec<String> {
        let range = ListRange {
            prefix: String::new(),
            start: String::new(),
            inclusive: false,
            limit: 1_000,
        };
        let rows = self.names.list(&path(dir), &range).unwrap();
        rows.into_iter().map(|row| row.name).collect()
    }

    async fn create_exclusive(&self, at: &str, entry: Entry) -> Result<(), Error> {
        let options = CreateOptions {
            is_exclusive: true,
            ..CreateOptions::default()
        };
        self.names
            .create(&path(at), &entry, options)
            .await
            .map(drop)
    }

    async fn update(&self, at: &str, entry: Entry) -> Result<Change, Error> {
        let options = UpdateOptions::default();
        self.names.update(&path(at), &entry, options).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<Change, Error> {
        let (from, to) = (path(from), path(to));
        self.names.rename(&from, &to, Caller::default()).await
    }

    async fn delete(&self, at: &str) -> Result<(), Error> {
        let options = DeleteOptions::default();
        self.names.delete(&path(at), options).await.map(drop)
    }
}

fn path(text: &str) -> FullPath {
    FullPath::parse(text).unwrap()
}

fn entry(file_mode: u32, ttl_sec: i32) -> Entry {
    let fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode,
            ttl_sec,
            ..FuseAttributes::default()
        }),
        ..EntryFields::default()
    };
    fields.to_entry(&UnknownFields::default())
}

fn file() -> Entry {
    entry(0o640, 0)
}

fn directory() -> Entry {
    entry(MODE_DIRECTORY | 0o750, 0)
}

fn chunk(key: u64, size: u64) -> FileChunk {
    let mut chunk = FileChunk {
        size,
        ..FileChunk::default()
    };
    chunk.set_id(FileId {
        volume_id: 3,
        key,
        cookie: 1,
    });
    chunk
}

#[tokio::test]
async fn missing_parents_are_made_with_the_childs_owner_and_mode() {
    let tree = Tree::new();
    let mut fields = file().fields().unwrap();
    (fields.attrs_mut().uid, fields.attrs_mut().gid) = (21, 22);
    let entry = fields.to_entry(&UnknownFields::default());
    let options = CreateOptions::default();
    let change = tree.names.create(&path("/a/b/c"), &entry, options).await;
    assert_eq!(change.unwrap().events.len(), 3, "each is told");
    let parent = tree.fields("/a/b").unwrap().attrs();
    assert_eq!(parent.file_mode, MODE_DIRECTORY | 0o751);
    assert_eq!((parent.uid, parent.gid), (21, 22));
    assert_eq!((parent.mtime, parent.crtime), (BEGIN_S, BEGIN_S));
}

#[tokio::test]
async fn a_file_below_which_something_is_made_becomes_a_directory_and_keeps_its_content() {
    let tree = Tree::new();
    let mut fields = file().fields().unwrap();
    fields.chunks = vec![chunk(1, 10)];
    let entry = fields.to_entry(&UnknownFields::default());
    tree.create("/a", &entry).await.unwrap();
    tree.create("/a/b", &file()).await.unwrap();
    let promoted = tree.fields("/a").unwrap();
    assert_eq!(promoted.attrs().file_mode, MODE_DIRECTORY | 0o751);
    assert_eq!(promoted.chunks.len(), 1);
    assert_eq!(tree.names_in("/a"), ["b"]);
    let mut linked = file().fields().unwrap();
    linked.hard_link_id = Bytes::from_static(b"0123456789abcdef\x01");
    let linked = linked.to_entry(&UnknownFields::default());
    tree.create("/linked", &linked).await.unwrap();
    let refused = tree.create("/linked/x", &file()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ParentIsFile);
    assert!(refused.to_string().starts_with(texts::PARENT_IS_FILE));
}

#[tokio::test]
async fn creates_refuse_what_upstream_refuses() {
    let tree = Tree::new();
    tree.create("/dir", &directory()).await.unwrap();
    tree.create("/file", &file()).await.unwrap();
    let long = format!("/{}", "x".repeat(256));
    for (at, entry, kind) in [
        ("/dir", file(), ErrorKind::IsDirectory),
        ("/file", directory(), ErrorKind::IsFile),
        (long.as_str(), file(), ErrorKind::NameTooLong),
        ("/buckets/Bad_Name/x", file(), ErrorKind::Invalid),
    ] {
        let refused = tree.create(at, &entry).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{at}");
    }
    let refused = tree.create_exclusive("/file", file()).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exists);
    tree.create("/", &directory()).await.unwrap();
    tree.create(&format!("/{}", "x".repeat(255)), &file())
        .await
        .unwrap();
    assert!(tree.names_in("/buckets").is_empty(), "nothing is left");
}

#[tokio::test]
async fn an_update_keeps_birth_and_inode_number_and_an_equal_one_is_no_change() {
    let tree = Tree::new();
    tree.create("/f", &file()).await.unwrap();
    let before = tree.fields("/f").unwrap();
    tree.pass_s(100);
    let mut fields = file().fields().unwrap();
    fields.attrs_mut().mtime = BEGIN_S + 5;
    fields.attrs_mut().crtime = 1;
    let entry = fields.to_entry(&UnknownFields::default());
    let updated = tree.update("/f", entry.clone()).await.unwrap();
    assert_eq!(updated.events.len(), 1);
    let after = tree.fields("/f").unwrap().attrs();
    assert_eq!(after.crtime, before.attrs().crtime);
    assert_eq!(after.inode, before.attrs().inode);
    assert_eq!(after.mtime, BEGIN_S + 5);
    assert_eq!(tree.update("/f", entry).await.unwrap().position, None);
    let missing = tree.update("/no", file()).await.unwrap_err();
    assert!(missing.to_string().starts_with("not found /no: "));
    let wrong = UpdateOptions {
        expected_extended: [("k".to_owned(), Bytes::from_static(b"v"))].into(),
        ..UpdateOptions::default()
    };
    let refused = tree.names.update(&path("/f"), &file(), wrong).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Precondition);
}

#[tokio::test]
async fn every_one_of_many_concurrent_appends_counts() {
    const APPENDS: u64 = 300;
    let tree = Tree::new();
    let appends = (0..APPENDS).map(|i| {
        let names = tree.names.clone();
        tokio::spawn(async move {
            let chunks = vec![chunk(i + 1, 3)];
            names
                .append(&path("/log/all"), chunks, Caller::default())
                .await
        })
    });
    let appends: Vec<_> = appends.collect();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    let fields = tree.fields("/log/all").unwrap();
    assert_eq!(fields.attrs().file_size, 3 * APPENDS);
    let mut offsets: Vec<i64> = fields.chunks.iter().map(|chunk| chunk.offset).collect();
    offsets.sort_unstable();
    let expect: Vec<i64> = (0..APPENDS.cast_signed()).map(|i| i * 3).collect();
    assert_eq!(offsets, expect);
    assert_eq!(fields.attrs().file_mode, 0o644);
    assert_eq!((fields.attrs().uid, fields.attrs().gid), (7, 8));
}

#[tokio::test]
async fn an_expired_entry_is_hidden_and_in_nobodys_way() {
    let tree = Tree::new();
    tree.create("/d/short", &entry(0o640, 10)).await.unwrap();
    tree.create("/d/long", &entry(0o640, 1_000)).await.unwrap();
    tree.pass_s(10);
    assert_eq!(tree.names_in("/d"), ["long", "short"]);
    tree.pass_s(1);
    assert_eq!(tree.names_in("/d"), ["long"]);
    assert_eq!(tree.fields("/d/short"), None);
    let anew = entry(0o640, 10);
    tree.create_exclusive("/d/short", anew).await.unwrap();
    assert_eq!(
        tree.fields("/d/short").unwrap().attrs().crtime,
        BEGIN_S + 11
    );
    let refused = tree.delete("/d").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotEmpty);
    tree.pass_s(2_000);
    assert!(tree.names_in("/d").is_empty());
    tree.delete("/d").await.unwrap();
    assert!(tree.names_in("/").is_empty());
}

#[tokio::test]
async fn expiry_removes_what_has_expired_and_keeps_what_was_written_anew() {
    let tree = Tree::new();
    tree.create("/old", &entry(0o640, 10)).await.unwrap();
    tree.create("/extended", &entry(0o640, 10)).await.unwrap();
    tree.pass_s(5);
    tree.create("/extended", &entry(0o640, 100)).await.unwrap();
    tree.pass_s(20);
    let all = [path("/old"), path("/extended"), path("/missing")];
    assert_eq!(tree.names.expire(&all).await.unwrap(), 1);
    assert_eq!(tree.names.expire(&all).await.unwrap(), 0, "once");
    assert!(tree.names.store().find(&path("/old")).unwrap().is_none());
    assert!(tree.fields("/extended").is_some());
}

#[tokio::test]
async fn a_name_of_a_hard_link_that_is_written_over_leaves_the_others_as_they_were() {
    let tree = Tree::new();
    let mut linked = file().fields().unwrap();
    linked.hard_link_id = Bytes::from_static(b"0123456789abcdef\x01");
    linked.hard_link_counter = 1;
    linked.content = Bytes::from_static(b"shared");
    let shared = linked.to_entry(&UnknownFields::default());
    tree.create("/one", &shared).await.unwrap();
    tree.create("/two", &shared).await.unwrap();
    assert_eq!(tree.fields("/one").unwrap().hard_link_counter, 2);
    tree.create("/two", &file()).await.unwrap();
    let one = tree.fields("/one").unwrap();
    assert_eq!(
        (one.hard_link_counter, &one.content[..]),
        (1, &b"shared"[..])
    );
    let two = tree.fields("/two").unwrap();
    assert!(two.hard_link_id.is_empty() && two.content.is_empty());
}

#[tokio::test]
async fn renames_say_what_is_wrong_in_words_that_mounts_know() {
    let tree = Tree::new();
    tree.create("/dir/x", &file()).await.unwrap();
    tree.create("/full/y", &file()).await.unwrap();
    tree.create("/file", &file()).await.unwrap();
    for (from, to, words) in [
        ("/no", "/z", texts::RENAME_NOT_FOUND),
        ("/dir", "/full", texts::RENAME_NOT_EMPTY),
        ("/dir", "/full", texts::NON_EMPTY_FOLDER),
        ("/dir", "/file", texts::RENAME_NOT_DIRECTORY),
        ("/dir", "/file", texts::EXISTING_IS_FILE),
        ("/file", "/dir", texts::EXISTING_IS_DIRECTORY),
        ("/dir", "/dir/x/z", texts::RENAME_INTO_ITSELF),
        ("/", "/z", texts::RENAME_INTO_ITSELF),
        ("/dir/x", "/", texts::RENAME_NOT_EMPTY),
        ("/buckets/a", "/z", texts::RENAME_BUCKET),
        ("/buckets/a/x", "/buckets/b/x", texts::RENAME_ACROSS),
    ] {
        let refused = tree.rename(from, to).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{from} {to}: {refused}");
    }
    assert_eq!(tree.rename("/dir", "/dir").await.unwrap().position, None);
    // The names' beginnings are alike, the directories are not.
    tree.rename("/dir", "/dirs/d").await.unwrap();
    assert_eq!(tree.names_in("/dirs/d"), ["x"]);
}

/// Entries below `/t`, in four directories, made by few changes.
async fn plant(tree: &Tree, n_entries: usize) {
    let dirs = ["/t", "/t/deep", "/t/deep/er", "/t/zzz"];
    for dir in dirs {
        tree.create(dir, &directory()).await.unwrap();
    }
    let all: Vec<usize> = (0..n_entries).collect();
    for part in all.chunks(5_000) {
        let steps = part.iter().map(|i| Step::Create {
            path: path(&format!("{}/{i:06}", dirs[i % dirs.len()])),
            entry: file(),
        });
        let transaction = Transaction {
            steps: steps.collect(),
            ..Transaction::default()
        };
        let (answer, answered) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result: Result<_, _>| {
            let _ = answer.send(result.is_ok());
        });
        tree.names.store().commit(transaction, done);
        assert!(answered.await.unwrap());
    }
}

/// A namespace over a store of which it is not known that it changes trees itself.
fn without_trees(tree: &Tree) -> Namespace {
    let store = Arc::clone(tree.names.store());
    Namespace::new(store, tree.names.options().clone())
}

fn recursive() -> DeleteOptions {
    DeleteOptions {
        is_recursive: true,
        ..DeleteOptions::default()
    }
}

#[tokio::test]
async fn a_tree_of_more_entries_than_one_change_takes_moves_and_goes_as_a_whole() {
    let tree = Tree::new();
    plant(&tree, 20_500).await;
    let change = tree.rename("/t", "/new/u").await.unwrap();
    assert!(change.intent.is_some(), "in parts");
    let last = change.events.last().unwrap();
    assert_eq!(last.old.as_ref().unwrap().0, path("/t"));
    assert_eq!(last.new.as_ref().unwrap().0, path("/new/u"));
    assert_eq!(tree.names_in("/"), ["new"], "its parents were made");
    assert!(!tree.names_in("/new/u/deep/er").is_empty());
    let refused = tree.delete("/new/u").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "fail to delete non-empty folder: /new/u"
    );
    let gone = tree.names.delete(&path("/new/u"), recursive()).await;
    let gone = gone.unwrap();
    assert!(gone.events[0].new.is_none() && gone.intent.is_some());
    assert!(tree.names_in("/new").is_empty());
    assert!(tree.names_in("/new/u/deep/er").is_empty());
}

#[tokio::test]
async fn over_a_store_without_trees_a_big_tree_is_removed_in_changes_and_not_moved() {
    let tree = Tree::new();
    plant(&tree, 20_500).await;
    let names = without_trees(&tree);
    let (from, to) = (path("/t"), path("/u"));
    let refused = names.rename(&from, &to, Caller::default()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(
        refused.to_string().contains("more than 10000 names"),
        "{refused}"
    );
    names.delete(&path("/t"), recursive()).await.unwrap();
    assert!(tree.names_in("/").is_empty());
    assert!(tree.names_in("/t/deep/er").is_empty());
}

#[tokio::test]
async fn a_delete_leaves_what_was_written_after_a_time() {
    let tree = Tree::new();
    tree.create("/f", &file()).await.unwrap();
    let options = |if_not_modified_after| DeleteOptions {
        if_not_modified_after,
        ..DeleteOptions::default()
    };
    let kept = tree.names.delete(&path("/f"), options(BEGIN_S - 1)).await;
    assert_eq!(kept.unwrap().position, None);
    assert!(tree.fields("/f").is_some());
    let gone = tree.names.delete(&path("/f"), options(BEGIN_S)).await;
    assert!(gone.unwrap().position.is_some());
    tree.delete("/f").await.unwrap();
    tree.delete("/").await.unwrap();
}
