// SPDX-License-Identifier: Apache-2.0
//! Many callers at once.

use std::sync::Arc;

use dulse_store::{EntryStore, ErrorKind, Expect, Outcome};

use crate::case::suite;
use crate::make::{
    apply, apply_if, create, delete, directory, file, front, names, path, rename, shown, update,
};

suite! { "concurrency":
    Store of_many_creates_of_one_path_one_succeeds,
    Store no_update_under_a_token_is_lost,
    Store writers_of_many_paths_do_not_disturb_one_another,
    Store a_create_and_the_removal_of_its_parent_leave_no_orphan,
    Store a_create_and_the_move_of_its_parent_leave_no_orphan,
}

/// Threads of a case.
const N_WRITERS: usize = 8;

fn of_many_creates_of_one_path_one_succeeds(store: &Arc<dyn EntryStore>) {
    for round in 0..10 {
        let at = format!("/{round}");
        let won: Vec<bool> = together(|n| {
            let entry = file(&n.to_string());
            match apply(store, vec![create(&at, &entry)]) {
                Ok(_) => {
                    // Whoever was told so sees it.
                    assert_eq!(shown(store, &at), Some(entry));
                    true
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    false
                }
            }
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
    }
}

fn no_update_under_a_token_is_lost(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/n", &file(""))]).unwrap();
    let each = 10;
    together(|_| {
        for _ in 0..each {
            loop {
                let found = store.find(&path("/n")).unwrap().unwrap();
                let content = found.entry.fields().unwrap().content;
                let longer = format!("{}x", String::from_utf8(content.to_vec()).unwrap());
                let expects = vec![Expect::Same(path("/n"), found.token)];
                match apply_if(store, expects, update("/n", &file(&longer))) {
                    Ok(_) => break,
                    Err(error) => {
                        assert_eq!(error.outcome(), Outcome::NotApplied);
                        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                    }
                }
            }
        }
    });
    assert_eq!(
        shown(store, "/n"),
        Some(file(&"x".repeat(N_WRITERS * each)))
    );
}

fn writers_of_many_paths_do_not_disturb_one_another(store: &Arc<dyn EntryStore>) {
    apply(store, vec![create("/d", &directory())]).unwrap();
    let each = 25;
    together(|n| {
        for i in 0..each {
            let at = format!("/d/{n:02}-{i:03}");
            let expects = vec![Expect::Directory(path("/d")), Expect::Absent(path(&at))];
            apply_if(store, expects, create(&at, &file("1"))).unwrap();
        }
    });
    let all = names(store, "/d", &front(1_000));
    assert_eq!(all.len(), N_WRITERS * each);
    assert!(all.is_sorted());
}

fn a_create_and_the_removal_of_its_parent_leave_no_orphan(store: &Arc<dyn EntryStore>) {
    for round in 0..15 {
        let dir = format!("/d{round}");
        apply(store, vec![create(&dir, &directory())]).unwrap();
        let child = format!("{dir}/x");
        together(|n| {
            let result = if n == 0 {
                let expects = vec![Expect::Empty(path(&dir))];
                apply_if(store, expects, delete(&dir))
            } else {
                let expects = vec![Expect::Directory(path(&dir))];
                apply_if(store, expects, create(&format!("{child}{n}"), &file("1")))
            };
            if let Err(error) = result {
                let kind = error.kind();
                let is_fine = matches!(kind, ErrorKind::Conflict | ErrorKind::NotEmpty);
                assert!(is_fine, "{error}");
            }
        });
        let n_children = names(store, &dir, &front(100)).len();
        let is_there = shown(store, &dir).is_some();
        assert_eq!(is_there, n_children > 0, "{dir}: {n_children} children");
    }
}

fn a_create_and_the_move_of_its_parent_leave_no_orphan(store: &Arc<dyn EntryStore>) {
    for round in 0..15 {
        let (from, to) = (format!("/d{round}"), format!("/e{round}"));
        let steps = vec![
            create(&from, &directory()),
            create(&format!("{from}/y"), &file("0")),
        ];
        apply(store, steps).unwrap();
        together(|n| {
            let result = if n == 0 {
                apply(store, vec![rename(&from, &to)])
            } else {
                let expects = vec![Expect::Directory(path(&from))];
                apply_if(store, expects, create(&format!("{from}/x{n}"), &file("1")))
            };
            if let Err(error) = result {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            }
        });
        let (old, new) = (shown(store, &from).is_some(), shown(store, &to).is_some());
        assert_ne!(old, new, "it is at one of the two");
        let gone = if old { &to } else { &from };
        assert!(
            names(store, gone, &front(100)).is_empty(),
            "an orphan below {gone}"
        );
        let there = if old { &from } else { &to };
        assert!(names(store, there, &front(100)).contains(&"y".to_owned()));
    }
}

fn together<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..N_WRITERS)
            .map(|n| scope.spawn(move || work(n)))
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|result| result.expect("a writer that ends"))
            .collect()
    })
}
