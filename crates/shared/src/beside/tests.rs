// SPDX-License-Identifier: Apache-2.0
//! Which of the two has a path, what is refused, and whose log a change is in.

use std::path::Path;
use std::sync::mpsc;

use dulse_store::{Commit, StepResult};
use dulse_types::{EntryFields, Stamp, UnknownFields};
use parking_lot::Mutex;

use super::*;
use crate::located::tests::{Memory, path};
use crate::{Placed, SharedOptions, SharedStore};

/// An embedded store that remembers what it was asked to make, and has nothing.
#[derive(Default)]
struct Own(Mutex<Vec<Transaction>>);

impl EntryStore for Own {
    fn find(&self, _: &FullPath) -> Result<Option<Found>, Error> {
        Ok(None)
    }

    fn list(&self, _: &FullPath, _: &ListRange) -> Result<Vec<Listed>, Error> {
        Ok(Vec::new())
    }

    fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(Some(Bytes::copy_from_slice(key)))
    }

    fn commit(&self, transaction: Transaction, done: Done) {
        let nothing = StepResult {
            stamp: Stamp(1),
            old_entry: None,
            new_entry: None,
        };
        let results = transaction.steps.iter().map(|_| nothing.clone());
        let results = results.collect();
        self.0.lock().push(transaction);
        done(Ok(Commit {
            origin: self.origin(),
            stamp: Stamp(1),
            results,
        }));
    }

    fn origin(&self) -> Origin {
        Origin(9)
    }
}

struct Both {
    own: Arc<Own>,
    tmp: Memory,
    located: Arc<dyn AnyShared>,
    both: Beside,
    _dir: tempfile::TempDir,
}

/// A store that has what is below a directory.
fn placed(memory: &Memory, at: &str, dir: &Path) -> Arc<dyn AnyShared> {
    let options = SharedOptions {
        journal: dir.join(at.replace('/', "-")),
        random: 5 << 32 | at.len() as u64,
    };
    let backend = memory.clone();
    let store = SharedStore::open(&options, move || async move { Ok(backend) }).unwrap();
    let section = format!("memory.{at}");
    Arc::new(Placed::new(Arc::new(store), path(at), section))
}

fn both() -> Both {
    let dir = tempfile::tempdir().unwrap();
    let tmp = Memory::at(1_000);
    let located = placed(&tmp, "/tmp", dir.path());
    let own = Arc::new(Own::default());
    Both {
        both: Beside::new(own.clone(), vec![located.clone()]),
        own,
        tmp,
        located,
        _dir: dir,
    }
}

fn creating(paths: &[&str]) -> Transaction {
    let create = |at: &&str| Step::Create {
        path: path(at),
        entry: directory(),
    };
    Transaction {
        steps: paths.iter().map(create).collect(),
        ..Transaction::default()
    }
}

fn commit(store: &Beside, transaction: Transaction) -> Result<Commit, Error> {
    let (answer, answered) = mpsc::channel();
    store.commit(
        transaction,
        Box::new(move |result| answer.send(result).unwrap()),
    );
    answered.recv().unwrap()
}

#[test]
fn a_change_is_made_by_the_store_that_has_its_paths() {
    let Both {
        own,
        tmp,
        located,
        both,
        ..
    } = both();
    assert!(
        both.find(&path("/tmp")).unwrap().is_some(),
        "it always shows"
    );
    assert!(both.find(&path("/x")).unwrap().is_none());
    let mut in_tmp = creating(&["/tmp/a", "/tmp/a/b"]);
    in_tmp.expects = vec![
        Expect::Directory(path("/tmp")),
        Expect::Empty(path("/tmp")),
        Expect::Absent(path("/tmp/a")),
    ];
    let made = commit(&both, in_tmp).unwrap();
    assert_eq!(
        made.origin,
        located.origin(),
        "it is in the log of that store"
    );
    assert_eq!(tmp.rows(), ["/a", "/a/b"]);
    assert!(own.0.lock().is_empty());
    assert!(both.find(&path("/tmp/a/b")).unwrap().is_some());
    let range = ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: false,
        limit: 10,
    };
    let names = both.list(&path("/tmp"), &range).unwrap();
    assert_eq!(names.len(), 1);
    // It is told by its path in the tree.
    let told = located.announcements(Stamp::ZERO, 1 << 20).unwrap();
    let told = told.iter().flat_map(|one| &one.announced.events);
    let told = told.map(|event| event.new.as_ref().unwrap().0.as_str());
    assert_eq!(told.collect::<Vec<_>>(), ["/tmp/a", "/tmp/a/b"]);
    // It is found where it is there, too.
    assert!(both.as_it_is().find(&path("/tmp")).unwrap().is_none());
    let both = Beside::new(own.clone(), vec![located]);

    // The location itself, what is beside it, and every key are the embedded store's.
    let mut touched = creating(&["/tmp", "/tmpx"]);
    touched.expects = vec![Expect::Directory(path("/tmp"))];
    touched.steps.push(Step::KvPut {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
    });
    let made = commit(&both, touched).unwrap();
    assert_eq!((made.origin, both.origin()), (Origin(9), Origin(9)));
    let asked = own.0.lock().remove(0);
    assert_eq!((asked.expects.len(), asked.steps.len()), (0, 3));
    assert_eq!(tmp.rows(), ["/a", "/a/b"]);
    assert!(both.kv_get(b"k").unwrap().is_some());
}

#[test]
fn a_change_of_both_is_refused_and_nothing_of_it_is_made() {
    let Both { own, tmp, both, .. } = both();
    let step = |step: Step| Transaction {
        steps: vec![step],
        ..Transaction::default()
    };
    let mut kept = creating(&["/tmp/a"]);
    kept.steps.push(Step::KvDelete {
        key: Bytes::from_static(b"k"),
    });
    let mut expects = creating(&["/tmp/a"]);
    expects.expects.push(Expect::Absent(path("/a")));
    let mut emptied = creating(&["/a"]);
    emptied.expects.push(Expect::Empty(path("/tmp")));
    for transaction in [
        creating(&["/a", "/tmp/a"]),
        step(Step::Rename {
            from: path("/a"),
            to: path("/tmp/a"),
        }),
        step(Step::Link {
            from: path("/tmp/a"),
            to: path("/a"),
        }),
        kept,
        expects,
        emptied,
    ] {
        let text = format!("{transaction:?}");
        let error = commit(&both, transaction).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(error.to_string().contains("stays within one"), "{error}");
    }
    assert!(own.0.lock().is_empty() && tmp.rows().is_empty());
}

#[test]
fn what_is_below_two_locations_is_in_the_store_of_the_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (outer, inner) = (Memory::at(1), Memory::at(1));
    let stores = vec![
        placed(&inner, "/a/tmp/deep", dir.path()),
        placed(&outer, "/a/tmp", dir.path()),
    ];
    let own = Arc::new(Own::default());
    let tree = Beside::new(own.clone(), stores.clone());
    for at in [
        "/a/tmp/x",
        "/a/tmp/deep",
        "/a/tmp/deep/x",
        "/a/tmp/deeper",
        "/a/tmp",
    ] {
        commit(&tree, creating(&[at])).unwrap();
        assert!(tree.find(&path(at)).unwrap().is_some(), "{at}");
    }
    assert_eq!(outer.rows(), ["/deep", "/deeper", "/x"]);
    assert_eq!(inner.rows(), ["/x"]);
    assert_eq!(own.0.lock().len(), 1);
    commit(&tree, creating(&["/a/tmp/y", "/a/tmp/deep/y"])).unwrap_err();

    let apart =
        |stores: &[Arc<dyn AnyShared>]| check_apart(None, stores).map_err(|e| e.to_string());
    apart(&stores).unwrap();
    let again = placed(&outer, "/b", dir.path());
    let text = apart(&[stores.clone(), vec![again.clone()]].concat()).unwrap_err();
    assert!(
        text.contains("[memory./b] is the same store as memory./a/tmp"),
        "{text}"
    );
    let error = check_apart(Some(&*again), &stores).unwrap_err().to_string();
    assert!(
        error.contains("the same store as the default store"),
        "{error}"
    );
    let other = placed(&Memory::at(1), "/a/tmp", &dir.path().join("other"));
    let text = apart(&[stores, vec![other]].concat()).unwrap_err();
    assert!(text.contains("have one location, `/a/tmp`"), "{text}");
}

#[test]
fn what_needs_a_key_is_refused_below_a_location() {
    let Both {
        tmp, both, located, ..
    } = both();
    let file = || {
        let mut fields = EntryFields::default();
        fields.attrs_mut().file_mode = 0o644;
        fields
    };
    let create = |at: &str, fields: EntryFields| Transaction {
        steps: vec![Step::Create {
            path: path(at),
            entry: fields.to_entry(&UnknownFields::default()),
        }],
        ..Transaction::default()
    };
    commit(&both, create("/tmp/a", file())).unwrap();
    let link = Transaction {
        steps: vec![Step::Link {
            from: path("/tmp/a"),
            to: path("/tmp/b"),
        }],
        ..Transaction::default()
    };
    let mut linked = file();
    linked.hard_link_id = Bytes::from_static(b"a link");
    linked.hard_link_counter = 2;
    for transaction in [link, create("/tmp/c", linked.clone())] {
        let error = commit(&both, transaction).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("hard links and keys"), "{error}");
    }
    assert_eq!(tmp.rows(), ["/a"]);

    // One that upstream's filer made: it is shown and stays, with the chunks that it shares.
    let entry = linked.to_entry(&UnknownFields::default());
    tmp.put("/up", &crate::value::encode(&entry));
    assert!(both.find(&path("/tmp/up")).unwrap().is_some());
    let remove = Transaction {
        steps: vec![Step::Delete {
            path: path("/tmp/up"),
            delete_chunks: true,
        }],
        ..Transaction::default()
    };
    commit(&both, remove).unwrap_err();
    assert_eq!(tmp.rows(), ["/a", "/up"]);
    assert_eq!(
        located.announcements(Stamp::ZERO, 1 << 20).unwrap().len(),
        1
    );
}
