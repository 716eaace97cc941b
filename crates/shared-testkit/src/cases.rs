// SPDX-License-Identifier: Apache-2.0
//! The cases themselves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dulse_shared::{AnyShared as _, SharedOptions};
use dulse_store::{EntryStore, ErrorKind, Outcome, Step};
use dulse_store_testkit::{commit, directory, file, path};
use dulse_types::Stamp;

use crate::cuts::Cuts;
use crate::faulty::{Broken, LOST_BEFORE, MADE_AND_LOST, OVER, SOUND, TRUTH};
use crate::filers::{Server, Shared, announced, as_store, create, one, shown, state, told};

/// How long is waited for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sentence, and what it does with a server of its own.
pub type Case<S> = (&'static str, fn(S));

/// What every shared store is put through.
#[must_use]
pub fn cases<S: Server>() -> Vec<Case<S>> {
    vec![
        ("filers_on_one_store_know_and_see_one_another", know),
        ("a_journal_of_another_store_is_refused", refused_journal),
        (
            "announcements_of_all_in_order_of_stamps_lead_to_the_state",
            replay,
        ),
        (
            "an_answer_that_was_lost_is_asked_for_and_not_guessed",
            asked,
        ),
        (
            "a_change_that_was_made_unseen_is_announced_at_the_next_start",
            made_unseen,
        ),
        ("a_change_that_was_not_made_is_never_announced", not_made),
        (
            "what_nobody_could_say_for_a_while_is_told_in_the_same_run",
            unknown_for_a_while,
        ),
        (
            "what_others_wrote_over_an_unknown_change_is_what_is_told",
            overwritten,
        ),
        ("a_killed_server_loses_and_doubles_nothing", killed),
        (
            "a_commit_whose_answer_is_cut_off_is_told_as_what_became_of_it",
            cut_off,
        ),
        (
            "a_lost_write_of_a_key_is_not_told_as_made_unless_it_shows",
            keys,
        ),
        ("a_promise_holds_back_what_is_under_way", promised),
    ]
}

/// What a store whose database has no transactions is put through. What becomes of its lost
/// answers is tried out in `crates/shared/tests/stepwise.rs`, call by call.
#[must_use]
pub fn cases_of_rows<S: Server>() -> Vec<Case<S>> {
    let of_rows = [
        "filers_on_one_store_know_and_see_one_another",
        "a_journal_of_another_store_is_refused",
        "announcements_of_all_in_order_of_stamps_lead_to_the_state",
        "a_killed_server_loses_and_doubles_nothing",
        "a_promise_holds_back_what_is_under_way",
    ];
    let mut all = cases();
    all.retain(|(name, _)| of_rows.contains(name));
    assert_eq!(all.len(), of_rows.len(), "each is there");
    all
}

fn know<S: Server>(server: S) {
    let shared = Shared::on(&server);
    let (a, b) = (shared.open(1).unwrap(), shared.open(2).unwrap());
    assert_eq!(a.origin().signature(), b.origin().signature());
    assert_ne!(a.origin(), b.origin());
    let (a, b) = (as_store(&a), as_store(&b));
    for n in 0..50 {
        let (writer, reader) = if n % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let at = format!("/{n}");
        commit(writer, create(&at, "x")).unwrap();
        assert_eq!(shown(reader, &at), Some(file("x")), "at once");
    }
}

fn refused_journal<S: Server>(server: S) {
    let (one, two) = (Shared::on(&server), Shared::of(&server, 0, 1));
    drop(one.open(1).unwrap());
    let options = SharedOptions {
        random: 7 << 32 | 99,
        ..two.options(1)
    };
    drop(two.open_with(two.config.clone(), &options).unwrap());
    let error = two.open_with(two.config.clone(), &one.options(1));
    let error = error.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("a directory of its own"),
        "{error}"
    );
}

fn replay<S: Server>(server: S) {
    for layout in 0..S::LAYOUTS {
        replay_on(&Shared::of(&server, layout, layout));
    }
}

fn replay_on<S: Server>(shared: &Shared<S>) {
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    let top = Step::Create {
        path: path("/d"),
        entry: directory(),
    };
    commit(&as_store(&filers[0]), one(top)).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..6_usize {
            let store = as_store(&filers[writer % 2]);
            scope.spawn(move || {
                for n in 0..80_usize {
                    // Few paths, so that writers of both filers meet.
                    let at = path(&format!("/d/{}", (n * 7 + writer * 3) % 5));
                    let there = store.find(&at).unwrap();
                    let entry = file(&format!("{writer} {n}"));
                    let step = match (there, n % 4) {
                        (None, _) => Step::Create { path: at, entry },
                        (Some(_), 0) => Step::Delete {
                            path: at,
                            delete_chunks: true,
                        },
                        (Some(_), 1) => Step::Rename {
                            from: at,
                            to: path(&format!("/d/m{writer}")),
                        },
                        (Some(_), _) => Step::Update {
                            path: at,
                            entry,
                            delete_chunks: true,
                        },
                    };
                    // Losing a race is fine; nothing of a loser is told.
                    if let Err(error) = commit(&store, one(step)) {
                        let is_lost = error.outcome() == Outcome::NotApplied;
                        assert!(is_lost || !S::HAS_TRANSACTIONS, "{error}");
                    }
                }
            });
        }
    });
    let all = [announced(&filers[0]), announced(&filers[1])];
    for log in &all {
        assert!(!log.is_empty());
        assert!(log.is_sorted_by(|a, b| a.stamp < b.stamp && b.prev == a.stamp));
    }
    assert_eq!(told(&all), state(&as_store(&filers[0])));
}

fn asked<S: Server>(server: S) {
    let shared = Shared::on(&server);
    let broken = Broken::on(&shared);
    broken.answer.store(TRUTH, Ordering::SeqCst);
    let store = as_store(&broken.store);
    for (n, fault) in [MADE_AND_LOST, LOST_BEFORE, SOUND].into_iter().enumerate() {
        broken.fault.store(fault, Ordering::SeqCst);
        let at = format!("/{n}");
        // Made, or made at the second try: the caller is told what is true.
        match commit(&store, create(&at, "x")) {
            Ok(_) => assert_eq!(shown(&store, &at), Some(file("x"))),
            // Where rows alone tell, one that is not there may have been there: it is told as gone.
            Err(error) => {
                assert!(!S::HAS_TRANSACTIONS && fault == LOST_BEFORE, "{error}");
                assert_eq!(error.outcome(), Outcome::Unknown);
                assert_eq!(shown(&store, &at), None);
            }
        }
    }
    let log = announced(&broken.store);
    assert_eq!(log.len(), 3, "each once");
    assert_eq!(told(&[log]), state(&store));
}

/// Nothing is announced of keys, so that everything announced is there says nothing of them.
fn keys<S: Server>(server: S) {
    let shared = Shared::on(&server);
    let broken = Broken::on(&shared);
    broken.answer.store(OVER, Ordering::SeqCst);
    let store = as_store(&broken.store);
    for (fault, n) in [(MADE_AND_LOST, 1), (LOST_BEFORE, 2)] {
        broken.fault.store(fault, Ordering::SeqCst);
        let (key, value) = (Bytes::from(vec![n; 9]), Bytes::from(vec![n]));
        let put = Step::KvPut {
            key: key.clone(),
            value: value.clone(),
        };
        let told = commit(&store, one(put)).map(drop);
        let there = store.kv_get(&key).unwrap();
        match told {
            Ok(()) => assert_eq!(there, Some(value)),
            Err(error) => {
                assert_eq!(error.outcome(), Outcome::Unknown);
                assert_eq!((fault, there), (LOST_BEFORE, None));
            }
        }
    }
}

/// A create whose outcome stays unknown; the store is closed then.
fn leave_unknown<S: Server>(shared: &Shared<S>, fault: u8) {
    let broken = Broken::on(shared);
    let store = as_store(&broken.store);
    commit(&store, create("/before", "x")).unwrap();
    broken.fault.store(fault, Ordering::SeqCst);
    let error = commit(&store, create("/a", "x")).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "neither made nor failed");
    assert_eq!(announced(&broken.store).len(), 1);
    // Others go on, and are told.
    commit(&store, create("/behind", "x")).unwrap();
    assert_eq!(announced(&broken.store).len(), 2);
}

fn made_unseen<S: Server>(server: S) {
    let shared = Shared::on(&server);
    leave_unknown(&shared, MADE_AND_LOST);
    for _ in 0..2 {
        let store = shared.open(1).unwrap();
        let log = announced(&store);
        assert_eq!(log.len(), 3, "once, however often it is started");
        assert!(log.is_sorted_by(|a, b| a.stamp < b.stamp));
        assert_eq!(told(&[log]), state(&as_store(&store)));
    }
}

fn not_made<S: Server>(server: S) {
    let shared = Shared::on(&server);
    leave_unknown(&shared, LOST_BEFORE);
    let store = shared.open(1).unwrap();
    let log = announced(&store);
    assert_eq!(log.len(), 2);
    assert_eq!(shown(&as_store(&store), "/a"), None);
    assert_eq!(told(&[log]), state(&as_store(&store)));
}

fn unknown_for_a_while<S: Server>(server: S) {
    let shared = Shared::on(&server);
    let other = shared.open(2).unwrap();
    let broken = Broken::on(&shared);
    let store = as_store(&broken.store);
    for (fault, at) in [(MADE_AND_LOST, "/made"), (LOST_BEFORE, "/not")] {
        broken.fault.store(fault, Ordering::SeqCst);
        let error = commit(&store, create(at, "x")).unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "neither made nor failed");
    }
    let update = Step::Update {
        path: path("/made"),
        entry: file("by another"),
        delete_chunks: true,
    };
    commit(&as_store(&other), one(update)).unwrap();
    commit(&store, create("/behind", "x")).unwrap();
    assert_eq!(announced(&broken.store).len(), 1);
    broken.answer.store(TRUTH, Ordering::SeqCst);
    let end = Instant::now() + PATIENCE;
    while announced(&broken.store).len() < 2 {
        assert!(Instant::now() < end, "it is told while the filer runs");
        std::thread::sleep(Duration::from_millis(50));
    }
    let all = [announced(&broken.store), announced(&other)];
    assert_eq!(all.each_ref().map(Vec::len), [2, 1]);
    assert_eq!(told(&all), state(&store));
    assert_eq!(shown(&store, "/not"), None);
    assert!(broken.store.seal(), "nothing is to be told later");
    drop((store, broken));

    let unsure = Broken::on(&shared);
    unsure.fault.store(MADE_AND_LOST, Ordering::SeqCst);
    commit(&as_store(&unsure.store), create("/later", "x")).unwrap_err();
    assert!(!unsure.store.seal(), "something is to be told later");
}

fn overwritten<S: Server>(server: S) {
    let shared = Shared::on(&server);
    leave_unknown(&shared, MADE_AND_LOST);
    let other = shared.open(2).unwrap();
    let update = Step::Update {
        path: path("/a"),
        entry: file("by another"),
        delete_chunks: true,
    };
    commit(&as_store(&other), one(update)).unwrap();
    let store = shared.open(1).unwrap();
    let log = announced(&store);
    let seen = log.last().unwrap();
    assert!(
        seen.announced
            .events
            .iter()
            .all(|event| !event.delete_chunks)
    );
    assert_eq!(told(&[log, announced(&other)]), state(&as_store(&store)));
}

fn killed<S: Server>(mut server: S) {
    for layout in 0..S::LAYOUTS {
        let shared = Shared::of(&server, layout, layout);
        killed_under(&shared, &mut server);
    }
}

fn killed_under<S: Server>(shared: &Shared<S>, server: &mut S) {
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    let (is_over, n_made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let results = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_usize)
            .map(|writer| {
                let store = as_store(&filers[writer % 2]);
                let (is_over, n_made) = (&is_over, &n_made);
                scope.spawn(move || {
                    let mut results = Vec::new();
                    for n in 0.. {
                        if is_over.load(Ordering::SeqCst) {
                            break;
                        }
                        let at = format!("/{writer}-{n}");
                        let result = commit(&store, create(&at, &at));
                        n_made.fetch_add(usize::from(result.is_ok()), Ordering::SeqCst);
                        results.push((path(&at), result.map(drop)));
                    }
                    results
                })
            })
            .collect();
        let more = |n: usize| {
            let until = n_made.load(Ordering::SeqCst) + n;
            while n_made.load(Ordering::SeqCst) < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        for _ in 0..S::N_KILLS {
            more(100);
            server.kill().unwrap();
            server.start_again().unwrap();
        }
        more(100);
        is_over.store(true, Ordering::SeqCst);
        let joined = writers.into_iter().map(|writer| writer.join().unwrap());
        joined.flatten().collect::<Vec<_>>()
    });
    // What is unknown is known at the next start.
    drop(filers);
    let filers = [shared.open(1).unwrap(), shared.open(2).unwrap()];
    let there = state(&as_store(&filers[0]));
    let mut n_unknown = 0;
    for (at, result) in &results {
        match result {
            Ok(()) => assert!(there.contains_key(at), "{at} was acknowledged and is lost"),
            Err(error) if error.outcome() == Outcome::NotApplied => {
                assert!(
                    !there.contains_key(at),
                    "{at} was refused and is there: {error}"
                );
            }
            Err(_) => n_unknown += 1,
        }
    }
    println!("{} writes, {n_unknown} unknown", results.len());
    let all = [announced(&filers[0]), announced(&filers[1])];
    let events = || all.iter().flatten().flat_map(|one| &one.announced.events);
    // Nobody removes anything here. Where rows alone tell, a create whose answer was lost and that
    // is not there may have been there: it is told as gone.
    let n_gone = events().filter(|event| event.new.is_none()).count();
    let n_gone_max = if S::HAS_TRANSACTIONS { 0 } else { n_unknown };
    assert!(
        n_gone <= n_gone_max,
        "{n_gone} removals, {n_unknown} unknown"
    );
    let n_events = events().count() - n_gone;
    assert_eq!(n_events, there.len(), "each change is announced once");
    assert_eq!(told(&all), there);
}

fn promised<S: Server>(server: S) {
    let shared = Shared::on(&server);
    let filer = shared.open(1).unwrap();
    let store = as_store(&filer);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (store, is_over) = (&store, &is_over);
            scope.spawn(move || {
                for n in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    commit(store, create(&format!("/{writer}-{n}"), "x")).unwrap();
                }
            });
        }
        // The writers end also when this fails.
        let _over = Over(&is_over);
        let mut last = Stamp::ZERO;
        for _ in 0..100 {
            let promise = filer.promise().unwrap();
            assert!(promise >= last, "a promise is not taken back");
            last = promise;
            let known = announced(&filer).len();
            let after = filer.announcements(promise, 1 << 20).unwrap();
            let behind = announced(&filer);
            // What came since the promise is above it: nothing slipped in below.
            let below = behind.iter().filter(|one| one.stamp <= promise).count();
            assert!(
                below <= known,
                "{below} at or below the promise, {known} were known"
            );
            assert!(after.iter().all(|one| one.stamp > promise));
        }
    });
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn cut_off<S: Server>(server: S) {
    let shared = Shared::on(&server);
    let (cuts, port) = Cuts::to(server.port(), S::COMMIT);
    let config = S::through(&shared.config, port);
    let filer = shared.open_with(config, &shared.options(1)).unwrap();
    let store = as_store(&filer);
    let cut = |n: usize, transaction| {
        let cut = if n.is_multiple_of(2) {
            &cuts.n_before
        } else {
            &cuts.n_behind
        };
        cut.store(1, Ordering::SeqCst);
        // Made, found out to be, or made anew: never called failed, never made twice.
        commit(&store, transaction).unwrap();
        assert_eq!(cut.load(Ordering::SeqCst), 0, "it was cut");
    };
    for n in 0..40 {
        cut(n, create(&format!("/{n}"), "x"));
    }
    let log = announced(&filer);
    assert_eq!(log.len(), 40, "each once");
    assert_eq!(told(&[log]), state(&store));
    // Keys are announced to nobody, and cannot be read back from what was announced.
    for n in 0..20_u8 {
        let (key, value) = (Bytes::from(vec![n; 9]), Bytes::from(vec![n]));
        let put = Step::KvPut {
            key: key.clone(),
            value: value.clone(),
        };
        cut(usize::from(n), one(put));
        assert_eq!(store.kv_get(&key).unwrap(), Some(value));
    }
}
