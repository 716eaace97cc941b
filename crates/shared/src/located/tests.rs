// SPDX-License-Identifier: Apache-2.0
//! Which store a path is in, what is refused, and whose clock counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::backend::held;

/// Rows by path and values by key, with a clock that runs by itself.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Rows>>);

#[derive(Default)]
pub(crate) struct Rows {
    rows: BTreeMap<String, Bytes>,
    keys: BTreeMap<Bytes, Bytes>,
    clock_ns: i64,
    /// Tickets that it was asked for.
    asked: Vec<i64>,
}

impl Memory {
    pub(crate) fn at(clock_ns: i64) -> Self {
        let memory = Self::default();
        memory.0.lock().clock_ns = clock_ns;
        memory
    }

    pub(crate) fn put(&self, at: &str, value: &Bytes) {
        let mut memory = self.0.lock();
        memory.rows.insert(at.to_owned(), value.clone());
    }

    pub(crate) fn rows(&self) -> Vec<String> {
        self.0.lock().rows.keys().cloned().collect()
    }
}

impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, path: &FullPath) -> Result<Option<Bytes>, Error> {
        Ok(self.0.lock().rows.get(path.as_str()).cloned())
    }

    async fn list(
        &self,
        directory: &FullPath,
        range: &ListRange,
    ) -> Result<Vec<(String, Bytes)>, Error> {
        let memory = self.0.lock();
        let rows = memory.rows.iter().filter_map(|(path, value)| {
            let path = FullPath::parse(path).unwrap();
            let is_in = path.parent().as_ref() == Some(directory);
            is_in.then(|| (path.name().to_owned(), value.clone()))
        });
        Ok(rows.take(range.limit).collect())
    }

    async fn kv_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.0.lock().keys.get(key).cloned())
    }

    async fn apply(&self, work: &Work, held: &Held<'_>) -> Result<(), Error> {
        let now = self.clock_ns().await?;
        held(now).await?;
        let mut memory = self.0.lock();
        for write in &work.writes {
            match write {
                Write::Insert(path, value) | Write::Replace(path, value) => {
                    memory.rows.insert(path.as_str().to_owned(), value.clone());
                }
                Write::Remove(path) | Write::RemoveDirectory(path) => {
                    memory.rows.remove(path.as_str());
                }
                Write::PutKey(key, value) => {
                    memory.keys.insert(key.clone(), value.clone());
                }
                Write::RemoveKey(key) => {
                    memory.keys.remove(key);
                }
            }
        }
        Ok(())
    }

    async fn settle(&self, ticket: i64, _: Option<&FullPath>) -> Result<Settled, Error> {
        self.0.lock().asked.push(ticket);
        Ok(Settled::Over)
    }

    async fn clock_ns(&self) -> Result<i64, Error> {
        let mut memory = self.0.lock();
        memory.clock_ns += 1;
        Ok(memory.clock_ns)
    }
}

pub(crate) fn path(text: &str) -> FullPath {
    FullPath::parse(text).unwrap()
}

fn place(at: &str, section: &str, memory: &Memory) -> Place {
    Place {
        path: path(at),
        section: section.to_owned(),
        backend: Erased::new(memory.clone()),
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

/// A default store, `/tmp` and `/tmp/deep`.
fn three() -> ([Memory; 3], Located) {
    let stores = [Memory::at(1_000), Memory::at(5_000), Memory::at(9)];
    let [default, tmp, deep] = &stores;
    let places = vec![
        place("/tmp/deep", "b.deep", deep),
        place("/tmp", "a.tmp", tmp),
    ];
    let located = run(Located::of(Erased::new(default.clone()), places, 7)).unwrap();
    (stores, located)
}

fn insert(at: &str) -> Work {
    let parent = path(at).parent().unwrap();
    Work {
        ticket: 1,
        guards: vec![Guard::Directory(parent), Guard::Absent(path(at))],
        writes: vec![Write::Insert(path(at), Bytes::from_static(b"x"))],
    }
}

fn make(located: &Located, work: &Work) -> Result<i64, Error> {
    let stamp = Mutex::new(0);
    run(located.apply(work, &|clock_ns| {
        *stamp.lock() = clock_ns;
        held()
    }))?;
    Ok(stamp.into_inner())
}

#[test]
fn a_path_is_in_the_store_of_the_longest_location_above_it() {
    let (stores, located) = three();
    for at in [
        "/tmp",
        "/tmpx",
        "/x/tmp/a",
        "/tmp/a",
        "/tmp/deep",
        "/tmp/deep/a/b",
        "/tmp/deeper",
    ] {
        make(&located, &insert(at)).unwrap();
        assert!(run(located.get(&path(at))).unwrap().is_some(), "{at}");
    }
    assert_eq!(stores[0].rows(), ["/tmp", "/tmpx", "/x/tmp/a"]);
    assert_eq!(stores[1].rows(), ["/a", "/deep", "/deeper"]);
    assert_eq!(stores[2].rows(), ["/a/b"]);
    let range = ListRange {
        prefix: String::new(),
        start: String::new(),
        inclusive: false,
        limit: 10,
    };
    let names = |at: &str| {
        let rows = run(located.list(&path(at), &range)).unwrap();
        rows.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names("/"), ["tmp", "tmpx"]);
    assert_eq!(names("/tmp"), ["a", "deep", "deeper"]);
    assert_eq!(names("/tmp/deep/a"), ["b"]);
    run(located.settle(3, Some(&path("/tmp/a")))).unwrap();
    run(located.settle(4, None)).unwrap();
    assert_eq!(stores[1].0.lock().asked, [3]);
    assert_eq!(stores[0].0.lock().asked, [4]);
}

#[test]
fn stamps_of_every_store_are_of_the_default_stores_clock() {
    let (_, located) = three();
    let mut last = 1_000;
    for at in ["/tmp/a", "/a", "/tmp/deep/a", "/tmp/b"] {
        let stamp = make(&located, &insert(at)).unwrap();
        assert!(
            last < stamp && stamp < 2_000,
            "{at} at {stamp}, behind {last}"
        );
        last = stamp;
    }
}

#[test]
fn a_change_of_two_stores_is_refused_and_nothing_of_it_is_made() {
    let (stores, located) = three();
    let both = |one: Work, other: Work| Work {
        ticket: 1,
        guards: [one.guards, other.guards].concat(),
        writes: [one.writes, other.writes].concat(),
    };
    let key = Bytes::from_static(b"shared by links");
    let linked = Work {
        ticket: 1,
        guards: vec![Guard::Key(key.clone(), None)],
        writes: vec![Write::PutKey(key, Bytes::from_static(b"x"))],
    };
    for work in [
        both(insert("/a"), insert("/tmp/a")),
        both(insert("/tmp/a"), insert("/tmp/deep/a")),
        both(insert("/tmp/a"), linked),
    ] {
        let error = make(&located, &work).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("within one store"), "{error}");
    }
    let removed = Work {
        writes: vec![Write::RemoveDirectory(path("/tmp"))],
        ..Work::default()
    };
    let error = make(&located, &removed).unwrap_err();
    assert!(error.to_string().contains("begins at /tmp"), "{error}");
    assert!(stores.iter().all(|store| store.rows().is_empty()));
}

#[test]
fn a_clock_that_cannot_be_asked_lets_nothing_be_made() {
    let (stores, located) = three();
    let failing: &Held<'_> = &|_| {
        let error = Error::new(Operation::Commit, ErrorKind::Unavailable);
        Box::pin(std::future::ready(Err(error)))
    };
    run(located.apply(&insert("/tmp/a"), failing)).unwrap_err();
    assert!(stores[1].rows().is_empty());
}

#[test]
fn stores_that_are_one_are_refused() {
    let (default, tmp) = (Memory::at(1), Memory::at(1));
    let of = |places| {
        let located = Located::of(Erased::new(default.clone()), places, 7);
        run(located).map(drop).unwrap_err().to_string()
    };
    let text = of(vec![place("/tmp", "a.tmp", &default)]);
    assert!(
        text.contains("[a.tmp] is the same store as the default store"),
        "{text}"
    );
    let text = of(vec![place("/a", "a.a", &tmp), place("/b", "a.b", &tmp)]);
    assert!(text.contains("[a.b] is the same store as a.a"), "{text}");
}

#[test]
fn locations_that_are_missing_are_made_and_then_always_show() {
    let (stores, located) = three();
    let row = value::encode(&directory());
    let missing = || {
        let transaction = run(located.missing()).unwrap();
        transaction.map(|transaction| match &transaction.steps[..] {
            [Step::Create { path, .. }] => path.as_str().to_owned(),
            steps => panic!("{steps:?}"),
        })
    };
    let put = |store: usize, at: &str, value: &Bytes| {
        let mut store = stores[store].0.lock();
        store.rows.insert(at.to_owned(), value.clone());
    };
    assert_eq!(missing().as_deref(), Some("/tmp"));
    put(0, "/tmp", &row);
    // With it there, the next one is made in its store.
    assert_eq!(missing().as_deref(), Some("/tmp/deep"));
    put(1, "/deep", &row);
    assert_eq!(missing(), None);
    put(0, "/tmp", &Bytes::new());
    let text = run(located.missing()).map(drop).unwrap_err().to_string();
    assert!(text.contains("`/tmp` is a file"), "{text}");

    stores[0].0.lock().rows.clear();
    assert_eq!(run(located.get(&path("/tmp"))).unwrap(), None);
    located.show_all();
    assert_eq!(run(located.get(&path("/tmp"))).unwrap(), Some(row));
}
