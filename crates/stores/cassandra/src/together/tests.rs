// SPDX-License-Identifier: Apache-2.0
//! Callers of one partition beside servers that answer when they are told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dulse_shared::At;
use dulse_types::FullPath;
use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::layout::place;

/// A partition of rows that compares as the servers do, and notes what it was asked for.
struct Servers {
    /// What a row holds that is not as its writers say.
    others: BTreeMap<String, Bytes>,
    /// What every write of several callers ends with.
    fails: Option<fn() -> Error>,
    asked: Mutex<Vec<Vec<String>>>,
    /// How many writes may be answered.
    answers: Semaphore,
    came: Notify,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            others: BTreeMap::new(),
            fails: None,
            asked: Mutex::default(),
            answers: Semaphore::new(0),
            came: Notify::new(),
        }
    }
}

impl Asks for Servers {
    async fn ask(&self, rows: &[(RowWrite, Place)]) -> Result<bool, Error> {
        let names: Vec<String> = rows.iter().map(|(_, place)| place.name.clone()).collect();
        self.asked.lock().push(names.clone());
        self.came.notify_one();
        self.answers.acquire().await.unwrap().forget();
        if let (Some(error), true) = (self.fails, names.len() > 1) {
            return Err(error());
        }
        let is_as_read =
            |(row, place): &(RowWrite, Place)| self.others.get(&place.name).cloned() == row.before;
        Ok(rows.iter().all(is_as_read))
    }
}

struct World {
    servers: Servers,
    lanes: Lanes,
}

impl World {
    fn new(servers: Servers) -> Arc<Self> {
        let lanes = Lanes::default();
        Arc::new(Self { servers, lanes })
    }

    fn write(
        self: &Arc<Self>,
        path: &str,
        wait_max: Duration,
    ) -> tokio::task::JoinHandle<Result<bool, Error>> {
        let at = At::Path(FullPath::parse(path).unwrap());
        let place = place(&BTreeSet::new(), &at).unwrap().unwrap();
        let row = RowWrite {
            at,
            before: None,
            after: Some(Bytes::from_static(b"new")),
        };
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let World { servers, lanes } = &*world;
            lanes.write(servers, vec![(row, place)], wait_max).await
        })
    }

    /// One write that the servers are asked for, and these others, which wait behind it.
    async fn wait_behind_one(
        self: &Arc<Self>,
        paths: &[&str],
    ) -> Vec<tokio::task::JoinHandle<Result<bool, Error>>> {
        let mut writes = vec![self.write("/d/first", MINUTE)];
        self.servers.came.notified().await;
        for path in paths {
            writes.push(self.write(path, MINUTE));
            self.settle().await;
        }
        writes
    }

    /// Lets every task go as far as it can.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    fn answer(&self, n: usize) {
        self.servers.answers.add_permits(n);
    }

    fn asked(&self) -> Vec<Vec<String>> {
        self.servers.asked.lock().clone()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_waits_for_one_partition_is_made_together() {
    let world = World::new(Servers::default());
    let writes = world.wait_behind_one(&["/d/a", "/d/b", "/d/c"]).await;
    world.answer(2);
    for write in writes {
        assert!(write.await.unwrap().unwrap());
    }
    assert_eq!(world.asked(), [vec!["first"], vec!["a", "b", "c"]]);
}

#[tokio::test]
async fn one_that_had_read_its_row_wrong_fails_alone() {
    let others = BTreeMap::from([("b".to_owned(), Bytes::from_static(b"other"))]);
    let world = World::new(Servers {
        others,
        ..Servers::default()
    });
    let writes = world.wait_behind_one(&["/d/a", "/d/b", "/d/c"]).await;
    world.answer(9);
    let mut told = Vec::new();
    for write in writes {
        told.push(write.await.unwrap().unwrap());
    }
    assert_eq!(told, [true, true, false, true]);
    let asked = world.asked();
    assert_eq!(
        asked[1..],
        [vec!["a", "b", "c"], vec!["a"], vec!["b"], vec!["c"]]
    );
}

#[tokio::test]
async fn a_write_that_may_be_made_yet_is_asked_for_once() {
    for is_conflict in [false, true] {
        let fails: fn() -> Error = match is_conflict {
            false => || Error::new(Operation::Commit, ErrorKind::Invalid).unknown_outcome(),
            true => || Error::new(Operation::Commit, ErrorKind::Conflict).unknown_outcome(),
        };
        let world = World::new(Servers {
            fails: Some(fails),
            ..Servers::default()
        });
        let mut writes = world.wait_behind_one(&["/d/a", "/d/b"]).await;
        world.answer(9);
        assert!(writes.remove(0).await.unwrap().unwrap());
        for write in writes {
            let error = write.await.unwrap().unwrap_err();
            assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
            assert_eq!(error.kind(), fails().kind(), "{error}");
        }
        assert_eq!(world.asked(), [vec!["first"], vec!["a", "b"]]);
    }
}

#[tokio::test]
async fn one_that_is_refused_for_what_it_is_takes_no_other_along() {
    let world = World::new(Servers {
        fails: Some(|| Error::new(Operation::Commit, ErrorKind::Invalid)),
        ..Servers::default()
    });
    let writes = world.wait_behind_one(&["/d/a", "/d/b"]).await;
    world.answer(9);
    for write in writes {
        assert!(write.await.unwrap().unwrap());
    }
    assert_eq!(world.asked()[2..], [vec!["a"], vec!["b"]]);
}

#[tokio::test]
async fn servers_that_are_away_are_asked_once_for_all() {
    let world = World::new(Servers {
        fails: Some(|| Error::new(Operation::Commit, ErrorKind::Unavailable)),
        ..Servers::default()
    });
    let mut writes = world.wait_behind_one(&["/d/a", "/d/b"]).await;
    world.answer(9);
    assert!(writes.remove(0).await.unwrap().unwrap());
    for write in writes {
        let error = write.await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    }
    assert_eq!(world.asked().len(), 2);
}

#[tokio::test]
async fn one_row_twice_is_two_writes() {
    let world = World::new(Servers::default());
    let writes = world.wait_behind_one(&["/d/a", "/d/a", "/d/b"]).await;
    world.answer(9);
    for write in writes {
        assert!(write.await.unwrap().unwrap());
    }
    assert_eq!(world.asked(), [vec!["first"], vec!["a", "b"], vec!["a"]]);
}

#[tokio::test]
async fn one_write_holds_no_more_than_fits() {
    let world = World::new(Servers::default());
    let paths: Vec<String> = (0..GROUP_ROWS_MAX + 5).map(|n| format!("/d/{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let writes = world.wait_behind_one(&paths).await;
    world.answer(9);
    for write in writes {
        assert!(write.await.unwrap().unwrap());
    }
    let sizes: Vec<usize> = world.asked().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, GROUP_ROWS_MAX, 5]);
}

#[tokio::test]
async fn who_waits_too_long_or_goes_away_writes_nothing() {
    let world = World::new(Servers::default());
    let mut writes = world.wait_behind_one(&["/d/gone"]).await;
    writes.remove(1).abort();
    let error = world.write("/d/late", Duration::from_millis(1));
    let error = error.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    writes.push(world.write("/d/a", MINUTE));
    world.settle().await;
    world.answer(9);
    for write in writes {
        assert!(write.await.unwrap().unwrap());
    }
    assert_eq!(world.asked(), [vec!["first"], vec!["a"]]);
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_for_alone_after_all_waits_no_longer_for_that() {
    let others = BTreeMap::from([("a".to_owned(), Bytes::from_static(b"other"))]);
    let world = World::new(Servers {
        others,
        ..Servers::default()
    });
    let mut writes = world.wait_behind_one(&["/d/a", "/d/b"]).await;
    world.answer(2);
    assert!(writes.remove(0).await.unwrap().unwrap());
    world.servers.came.notified().await;
    world.settle().await;
    // `a` is asked for alone by now, and not answered for so long that `b` has no time left.
    tokio::time::advance(MINUTE * 2).await;
    world.answer(9);
    assert!(!writes.remove(0).await.unwrap().unwrap());
    let error = writes.remove(0).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    assert_eq!(world.asked()[1..], [vec!["a", "b"], vec!["a"]]);
}

#[tokio::test]
async fn those_whose_write_is_given_up_are_told_that_it_is_unknown() {
    let world = World::new(Servers::default());
    let mut writes = world.wait_behind_one(&["/d/a", "/d/b"]).await;
    world.answer(1);
    assert!(writes.remove(0).await.unwrap().unwrap());
    world.servers.came.notified().await;
    // It has the turn, and asked for both.
    writes.remove(0).abort();
    let error = writes.remove(0).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(world.asked().len(), 2);
}
