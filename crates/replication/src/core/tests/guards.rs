// SPDX-License-Identifier: Apache-2.0
//! Guards of `GUARDS.md` that need a case of their own.

use dulse_types::Version;

use super::*;

/// A filer without peers yet, and what it is told of addresses.
pub(super) fn listing(ports: &[u16]) -> Core {
    let mut core = core_of(1);
    let filers = ports.iter().map(|port| address(*port)).collect();
    let listing = Listing {
        filers,
        known_members: Vec::new(),
    };
    core.listed(Now::ZERO, listing);
    core
}

pub(super) fn view<'a>(applied: &'a Vector, members: &'a [(Origin, ServerAddress)]) -> View<'a> {
    View {
        applied,
        members,
        gone: &[],
    }
}

pub(super) fn says(origin: Origin, instance: u64, has: Vector) -> Greeting {
    Greeting {
        origin,
        instance,
        is_fresh: false,
        vector: has,
        gone: Vec::new(),
        members: Vec::new(),
        is_ready: true,
        started_ns: 1,
        forked: None,
        is_cut_behind: false,
        forgotten: Vector::new(),
        lacks_forgotten: false,
        own: Stamp(i64::MAX),
        joins: Vec::new(),
        unheard: Vec::new(),
        is_founder_told: false,
        promised: Stamp::ZERO,
    }
}

pub(super) fn link_to(actions: &[Action], port: u16) -> LinkId {
    let link = actions.iter().find_map(|action| match action {
        Action::Greet { link, address: at } if *at == address(port) => Some(*link),
        _ => None,
    });
    link.unwrap_or_else(|| panic!("it greets {port}: {actions:?}"))
}

fn pulls(actions: &[Action], of: Origin) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::Pull { origin, .. } if *origin == of))
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Stale words of peers must not bring back what this filer has made since.
#[test]
fn own_changes_are_not_fetched_from_others_once_this_filer_serves() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let (mut core, stream) = pulling(&applied);
    assert_eq!(core.not_ready(), None, "it serves");
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let statement = Statement {
        position: Stamp(10),
        durable: vector(&[(1, 50), (2, 10), (3, 7)]),
        ..Statement::default()
    };
    let mut actions = Vec::new();
    for second in 0..4 {
        core.heard(SECOND * second, stream, statement.clone(), &[]);
        actions.extend(core.poll(SECOND * second, &view(&applied, &members)));
    }
    assert!(pulls(&actions, origin(3)), "a third one's are: {actions:?}");
    assert!(!pulls(&actions, origin(1)), "{actions:?}");
}

#[test]
fn a_second_process_of_one_origin_is_refused() {
    let applied = vector(&[(1, 5)]);
    let mut core = listing(&[1, 2, 3]);
    let members = [(origin(1), address(1))];
    let actions = core.poll(Now::ZERO, &view(&applied, &members));
    let (first, second) = (link_to(&actions, 2), link_to(&actions, 3));
    core.greeted(Now::ZERO, first, Ok(says(origin(2), 2, Vector::new())));
    core.greeted(Now::ZERO, second, Ok(says(origin(2), 9, Vector::new())));
    let peers = core.peers(&applied);
    let state = |port| {
        peers
            .iter()
            .find(|p| p.address == address(port))
            .map(|p| p.state)
    };
    assert_eq!(state(3), Some(PeerState::Refused));
    assert_ne!(state(2), Some(PeerState::Refused));
}

#[test]
fn a_peer_that_moved_is_shown_once() {
    let applied = vector(&[(1, 5)]);
    let mut core = listing(&[1, 2, 3]);
    let members = [(origin(1), address(1))];
    let actions = core.poll(Now::ZERO, &view(&applied, &members));
    let (old, new) = (link_to(&actions, 2), link_to(&actions, 3));
    core.greeted(Now::ZERO, old, Ok(says(origin(2), 2, Vector::new())));
    core.poll(Now::ZERO, &view(&applied, &members));
    // It is silent there for longer than a peer is taken for alive, and answers elsewhere.
    core.greeted(SECOND * 2, new, Ok(says(origin(2), 2, Vector::new())));
    let of_it: Vec<_> = core.peers(&applied);
    let of_it = of_it.iter().filter(|peer| peer.origin == origin(2));
    let at: Vec<_> = of_it.map(|peer| peer.address.port()).collect();
    assert_eq!(at, [3]);
}

#[test]
fn a_restarted_filer_is_ready_once_it_has_what_its_peer_had() {
    let applied = vector(&[(1, 5)]);
    let mut core = listing(&[1, 2]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let actions = core.poll(Now::ZERO, &view(&applied, &members));
    let link = link_to(&actions, 2);
    core.greeted(Now::ZERO, link, Ok(says(origin(2), 2, vector(&[(2, 10)]))));
    core.poll(Now::ZERO, &view(&applied, &members));
    assert!(
        core.not_ready()
            .is_some_and(|why| why.contains("catching up"))
    );
    let level = vector(&[(1, 5), (2, 10)]);
    core.poll(Now::ZERO, &view(&level, &members));
    assert_eq!(core.not_ready(), None);
}

#[test]
fn a_change_that_cannot_be_applied_is_shown_until_it_can() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let (mut core, stream) = pulling(&applied);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    core.applied(Now::ZERO, stream, Outcome::Stuck("kind 99".to_owned()));
    // It is asked again, and streams again, and the change is still the same.
    let actions = core.poll(SECOND * 10, &view(&applied, &members));
    let link = link_to(&actions, 2);
    core.greeted(SECOND * 10, link, Ok(says(origin(2), 2, Vector::new())));
    let actions = core.poll(SECOND * 10, &view(&applied, &members));
    let peer = core.peers(&applied).remove(0);
    assert_eq!(
        (peer.state, &*peer.last_error),
        (PeerState::Stuck, "kind 99")
    );
    let again = actions.iter().find_map(|action| match action {
        Action::Pull { stream, .. } => Some(*stream),
        _ => None,
    });
    core.applied(SECOND * 10, again.expect("it pulls"), Outcome::Applied);
    assert_eq!(core.peers(&applied)[0].state, PeerState::Streaming);
}

/// A ready filer beside a member that it never hears, which is shut out after an hour.
fn beside_a_silent_one() -> (Core, Vector, [(Origin, ServerAddress); 2]) {
    let core = Core::new(Settings {
        origin: origin(1),
        instance: 1,
        address: address(1),
        started_ns: 1,
        must_join: false,
        is_alone: true,
        offline_max: Duration::from_secs(3600),
    });
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    (core, vector(&[(1, 1)]), members)
}

fn fences(actions: &[Action]) -> bool {
    let fence = |action: &Action| matches!(action, Action::Fence { .. });
    actions.iter().any(fence)
}

/// Polls each second; the second at which somebody is shut out.
fn fenced_at(core: &mut Core, view: &View<'_>, seconds: std::ops::Range<u64>) -> Option<u64> {
    let mut seconds = seconds;
    seconds.find(|second| fences(&core.poll(Duration::from_secs(*second), view)))
}

/// When members had been heard was kept by the wall clock: one that was an hour behind then,
/// and right when the filer started again, made a member silent for an hour that had been
/// heard a minute ago, and it was shut out.
#[test]
fn silence_is_counted_while_a_filer_listens_and_goes_on_after_a_restart() {
    let (mut core, applied, members) = beside_a_silent_one();
    let view = view(&applied, &members);
    assert_eq!(fenced_at(&mut core, &view, 0..3_000), None);
    let kept = core.silences(&view);
    assert_eq!(kept, [(origin(2), Duration::from_secs(2_999))]);
    // A week passes in which this filer does not run.
    let (mut core, ..) = beside_a_silent_one();
    for (member, silent) in kept {
        core.silent_before(member, silent);
    }
    assert_eq!(fenced_at(&mut core, &view, 0..2_000), Some(601));
}

/// A filer that stood still for a day has heard nobody for a day, and knows nothing of them.
#[test]
fn time_in_which_a_filer_stood_still_is_nobodys_silence() {
    let (mut core, applied, members) = beside_a_silent_one();
    let view = view(&applied, &members);
    assert_eq!(fenced_at(&mut core, &view, 0..100), None);
    assert_eq!(fenced_at(&mut core, &view, 86_400..86_500), None);
    let silent = core.silent_for(origin(2));
    assert!(silent < Duration::from_secs(300), "{silent:?}");
}

#[test]
fn a_pull_names_the_process_that_was_greeted() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let mut core = listing(&[1, 2]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let actions = core.poll(Now::ZERO, &view(&applied, &members));
    let link = link_to(&actions, 2);
    let greeting = Greeting {
        instance: 77,
        ..says(origin(2), 2, applied.clone())
    };
    core.greeted(Now::ZERO, link, Ok(greeting));
    let actions = core.poll(Now::ZERO, &view(&applied, &members));
    let asked = actions.iter().find_map(|action| match action {
        Action::Pull { instance, .. } => Some(*instance),
        _ => None,
    });
    assert_eq!(asked, Some(77));
    assert!(crate::feed::is_asked(77, 77) && crate::feed::is_asked(77, 0));
    assert!(!crate::feed::is_asked(78, 77));
}

/// It answers each greeting, and so counted as heard: what subscribers are told of all others
/// stood still for as long as the change could not be applied, which is until somebody upgrades
/// a filer. It is left out after two minutes now, as one that is silent.
#[test]
fn a_change_that_cannot_be_applied_holds_up_subscribers_for_two_minutes_at_most() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let (mut core, stream) = pulling(&applied);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let view = view(&applied, &members);
    let says_more = Statement {
        position: Stamp(20),
        promise: Stamp(20),
        ..Statement::default()
    };
    core.heard(Now::ZERO, stream, says_more, &[]);
    let mut stream = Some(stream);
    for seconds in (0..120).step_by(4) {
        let now = SECOND * seconds;
        let stuck = Outcome::Stuck("kind 99".to_owned());
        core.applied(now, stream.take().expect("it pulls"), stuck);
        assert_eq!(core.watermark(now, &view), Some(Stamp(10)), "{seconds} s");
        let later = now + SECOND * 3;
        let actions = core.poll(later, &view);
        let link = link_to(&actions, 2);
        core.greeted(later, link, Ok(says(origin(2), 2, Vector::new())));
        let actions = core.poll(later, &view);
        stream = actions.iter().find_map(|action| match action {
            Action::Pull { stream, .. } => Some(*stream),
            _ => None,
        });
    }
    assert_eq!(core.watermark(SECOND * 120, &view), None, "left out");
    core.applied(SECOND * 121, stream.expect("it pulls"), Outcome::Applied);
    assert_eq!(core.watermark(SECOND * 121, &view), Some(Stamp(10)));
}

/// A member that was shut out.
fn shut_out(n: u64) -> Gone {
    Gone {
        origin: origin(n),
        how: End::Fenced,
        end: Version {
            stamp: Stamp(5),
            origin: origin(1),
        },
        address: Some(address(n as u16)),
    }
}

#[test]
fn nothing_is_pulled_from_one_that_was_shut_out() {
    let applied = vector(&[(1, 5)]);
    let mut core = listing(&[1, 2, 3]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let everybody = [1, 2, 3].map(|n| (origin(n), address(n as u16)));
    let actions = core.poll(Now::ZERO, &view(&applied, &everybody));
    let (second, third) = (link_to(&actions, 2), link_to(&actions, 3));
    // One is met before it is shut out, the other one is met again afterwards.
    core.greeted(Now::ZERO, third, Ok(says(origin(3), 3, Vector::new())));
    let actions = core.poll(Now::ZERO, &view(&applied, &everybody));
    assert!(pulls(&actions, origin(3)));
    let gone = [shut_out(3), shut_out(2)];
    let after = View {
        gone: &gone,
        ..view(&applied, &members[..1])
    };
    let mut actions = core.poll(Now::ZERO, &after);
    core.greeted(Now::ZERO, second, Ok(says(origin(2), 2, Vector::new())));
    actions.extend(core.poll(Now::ZERO, &after));
    let is_cancelled = |a: &Action| matches!(a, Action::Cancel(_));
    assert!(actions.iter().any(is_cancelled), "{actions:?}");
    assert!(!pulls(&actions, origin(2)), "{actions:?}");
    for peer in core.peers(&applied) {
        assert_eq!(peer.state, PeerState::Refused, "{peer:?}");
    }
}

#[test]
fn one_that_was_shut_out_serves_no_more() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let (mut core, _) = pulling(&applied);
    assert_eq!(core.not_ready(), None);
    let gone = [shut_out(1)];
    let members = [(origin(2), address(2))];
    let after = View {
        gone: &gone,
        ..view(&applied, &members)
    };
    let actions = core.poll(SECOND, &after);
    let why = core.not_ready().unwrap_or_default();
    assert!(why.contains("a member of its cluster no more"), "{why}");
    assert!(!core.may_pull());
    assert!(core.is_gone(), "its digest says nothing any more");
    let is_cancelled = |a: &Action| matches!(a, Action::Cancel(_));
    assert!(actions.iter().any(is_cancelled), "{actions:?}");
}

/// A fresh filer that joins may have taken what a member would not.
#[test]
fn what_is_left_of_one_that_was_shut_out_is_fetched_from_members_alone() {
    for is_member in [true, false] {
        let applied = vector(&[(1, 5), (2, 10)]);
        let (mut core, stream) = pulling(&applied);
        let gone = [shut_out(3)];
        let members = [(origin(1), address(1)), (origin(2), address(2))];
        let of = if is_member { 2 } else { 1 };
        let after = View {
            gone: &gone,
            ..view(&applied, &members[..of])
        };
        let statement = Statement {
            position: Stamp(10),
            durable: vector(&[(1, 5), (2, 10), (3, 7)]),
            ..Statement::default()
        };
        let mut actions = Vec::new();
        for second in 0..4 {
            core.heard(SECOND * second, stream, statement.clone(), &[]);
            actions.extend(core.poll(SECOND * second, &after));
        }
        assert_eq!(pulls(&actions, origin(3)), is_member, "{actions:?}");
    }
}

#[test]
fn an_answer_that_waited_while_this_process_stood_still_counts_for_nothing() {
    let applied = vector(&[(1, 5)]);
    let mut core = listing(&[1, 2]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let actions = core.poll(Now::ZERO, &view(&applied, &members));
    let link = link_to(&actions, 2);
    let late = SECOND * 60;
    core.greeted(late, link, Ok(says(origin(2), 2, Vector::new())));
    let actions = core.poll(late, &view(&applied, &members));
    assert!(!pulls(&actions, origin(2)), "{actions:?}");
    let again = late + SECOND;
    let actions = core.poll(again, &view(&applied, &members));
    let link = link_to(&actions, 2);
    core.greeted(again, link, Ok(says(origin(2), 2, Vector::new())));
    let actions = core.poll(again, &view(&applied, &members));
    assert!(pulls(&actions, origin(2)), "{actions:?}");
}

#[test]
fn one_that_was_shut_out_holds_back_stability_until_it_is_cut() {
    let applied = vector(&[(1, 5), (2, 10), (3, 6)]);
    let (mut core, stream) = pulling(&applied);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let gone = [shut_out(3)];
    let after = View {
        gone: &gone,
        ..view(&applied, &members)
    };
    let says = |ends_at| Statement {
        position: Stamp(10),
        durable: vector(&[(1, ends_at), (2, 10), (3, 6)]),
        applied: vector(&[(1, ends_at), (2, 10), (3, 6)]),
        ..Statement::default()
    };
    // The other member has not heard of the end, which is change 5 of filer 1.
    core.heard(Now::ZERO, stream, says(4), &[]);
    assert_eq!(core.stable(&after, &applied).get(origin(3)), Stamp::ZERO);
    core.heard(Now::ZERO, stream, says(5), &[]);
    assert_eq!(core.stable(&after, &applied), applied);
}

/// Of one that serves and one that does not, the latter steps aside; else who started later.
#[test]
fn of_two_on_copies_of_a_store_the_one_that_started_later_steps_aside() {
    for (started_ns, steps_aside) in [(0, true), (2, false)] {
        let applied = vector(&[(1, 5)]);
        let mut core = listing(&[1, 2]);
        let members = [(origin(1), address(1))];
        let actions = core.poll(Now::ZERO, &view(&applied, &members));
        let link = link_to(&actions, 2);
        let twin = Greeting {
            started_ns,
            is_ready: core.not_ready().is_none(),
            ..says(origin(1), 9, applied.clone())
        };
        core.greeted(Now::ZERO, link, Ok(twin));
        let actions = core.poll(Now::ZERO, &view(&applied, &members));
        let renews = actions.iter().any(|a| matches!(a, Action::Renew { .. }));
        assert_eq!(renews, steps_aside, "{actions:?}");
    }
}

/// A copy of a store was started elsewhere while the original could not be reached: the others
/// took what the copy acknowledged for the word of both.
#[test]
fn who_runs_at_another_place_says_so_by_a_change_before_it_is_ready() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let mut core = listing(&[1, 2]);
    let members = [(origin(1), address(9)), (origin(2), address(2))];
    let view = view(&applied, &members);
    let mut actions = core.poll(Now::ZERO, &view);
    let (peer, old_place) = (link_to(&actions, 2), link_to(&actions, 9));
    let has = vector(&[(1, 5), (2, 10)]);
    core.greeted(Now::ZERO, peer, Ok(says(origin(2), 2, has)));
    let nobody = Refusal::Broken("connection refused".to_owned());
    core.greeted(Now::ZERO, old_place, Err(nobody));
    for now in 0..3 {
        actions = core.poll(SECOND * now, &view);
        let n_said = actions.iter().filter(|a| **a == Action::Appear).count();
        assert_eq!(n_said, usize::from(now == 0), "{actions:?}");
        assert!(core.not_ready().is_some());
    }
    core.appeared(SECOND * 3, Err("no room".to_owned()));
    actions = core.poll(SECOND * 6, &view);
    assert!(actions.contains(&Action::Appear), "again: {actions:?}");
    core.appeared(SECOND * 6, Ok(()));
    core.poll(SECOND * 6, &view);
    assert_eq!(core.not_ready(), None);
}

/// Another ran on a copy of this store and wrote while this process stood still: nothing broke
/// the stream, and only a handshake says that it is behind.
#[test]
fn a_peer_that_has_more_of_this_origin_is_greeted_anew() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    for (has, is_anew) in [(5, false), (6, true)] {
        let (mut core, stream) = pulling(&applied);
        let statement = Statement {
            position: Stamp(10),
            applied: vector(&[(1, has), (2, 10)]),
            ..Statement::default()
        };
        let mut actions = core.poll(Now::ZERO, &view(&applied, &members));
        core.heard(Now::ZERO, stream, statement, &[]);
        for second in 0..3 {
            actions.extend(core.poll(SECOND * second, &view(&applied, &members)));
        }
        let greets = actions.iter().any(|a| matches!(a, Action::Greet { .. }));
        assert_eq!(greets, is_anew, "{actions:?}");
    }
}

/// Another wrote on a copy of this store, and this filer wrote on beyond that before it heard of
/// it: the peer could take nothing of it, and no more was in that peer's vector than here.
#[test]
fn a_peer_that_takes_nothing_of_what_this_filer_wrote_is_greeted_anew() {
    let applied = vector(&[(1, 9), (2, 10)]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let greeted_at = |has: fn(u64) -> i64| {
        let (mut core, stream) = pulling(&applied);
        for second in 0..8 {
            let now = SECOND * second as u32;
            let statement = Statement {
                position: Stamp(10),
                applied: vector(&[(1, has(second)), (2, 10)]),
                ..Statement::default()
            };
            core.heard(now, stream, statement, &[]);
            let actions = core.poll(now, &view(&applied, &members));
            if actions.iter().any(|a| matches!(a, Action::Greet { .. })) {
                return Some(second);
            }
        }
        None
    };
    assert_eq!(greeted_at(|_| 5), Some(2), "it stands beside the log");
    assert_eq!(greeted_at(|_| 9), None, "it has all");
    assert_eq!(greeted_at(|_| 0), None, "it has not begun to take any");
    assert_eq!(greeted_at(|s| s.min(8) as i64 + 1), None, "it moves");
}

/// A store that was set back took a new origin at once, and dropped the last copy of what a lost
/// filer had written.
#[test]
fn what_it_has_of_third_filers_is_fetched_before_a_store_takes_a_new_origin() {
    let applied = vector(&[(1, 5), (2, 10), (3, 10)]);
    let members = [1, 2, 3].map(|n| (origin(n), address(n as u16)));
    let view = view(&applied, &members);
    let says = |of_third| Greeting {
        own: Stamp(5),
        members: vec![origin(1), origin(2)],
        ..says(origin(2), 2, vector(&[(1, 9), (2, 10), (3, of_third)]))
    };
    // It is fetched, or the others take too long.
    for is_fetched in [true, false] {
        let mut core = listing(&[1, 2]);
        let actions = core.poll(Now::ZERO, &view);
        core.greeted(Now::ZERO, link_to(&actions, 2), Ok(says(7)));
        let mut renewed_at = None;
        for second in 1..15 {
            let now = SECOND * second;
            let actions = core.poll(now, &view);
            for action in &actions {
                if let Action::Renew { of_thirds, .. } = action {
                    renewed_at = Some((second, of_thirds.get(origin(3))));
                }
            }
            let greeted = actions.iter().find_map(|action| match action {
                Action::Greet { link, address: at } if *at == address(2) => Some(*link),
                _ => None,
            });
            if let Some(link) = greeted {
                let has_fetched = is_fetched && second >= 4;
                core.greeted(now, link, Ok(says(if has_fetched { 10 } else { 7 })));
            }
        }
        // What was not fetched it keeps.
        let (fetched, late) = ((5, Stamp::ZERO), (10, Stamp(7)));
        assert_eq!(renewed_at, Some(if is_fetched { fetched } else { late }));
    }
}

/// The others take nothing from a store whose log parted from what they have of it: what it had
/// of a lost filer was gone.
#[test]
fn what_others_cannot_fetch_of_third_filers_is_kept_over_a_new_origin() {
    let applied = vector(&[(1, 5), (2, 10), (3, 10), (4, 10)]);
    let members = [1, 2, 3].map(|n| (origin(n), address(n as u16)));
    let view = view(&applied, &members);
    let mut core = listing(&[1, 2]);
    let actions = core.poll(Now::ZERO, &view);
    let said = Greeting {
        own: Stamp(5),
        forked: Some(Stamp(3)),
        members: vec![origin(1), origin(2)],
        ..says(origin(2), 2, vector(&[(1, 4), (2, 10), (3, 7)]))
    };
    core.greeted(Now::ZERO, link_to(&actions, 2), Ok(said));
    let actions = core.poll(SECOND, &view);
    let renewed = actions.into_iter().find_map(|action| match action {
        Action::Renew { of_thirds, .. } => Some(of_thirds),
        _ => None,
    });
    assert_eq!(renewed, Some(vector(&[(3, 7)])), "of 4 they know nothing");
}

/// The view of a poll was taken before the change that a peer had already: the peer's stream was
/// broken for nothing.
#[test]
fn what_was_said_after_the_view_of_a_poll_was_taken_is_no_news() {
    let before = vector(&[(1, 5), (2, 10)]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let (mut core, stream) = pulling(&before);
    let applied = vector(&[(1, 6), (2, 10)]);
    let statement = Statement {
        position: Stamp(10),
        applied: applied.clone(),
        ..Statement::default()
    };
    core.heard(SECOND, stream, statement, &[]);
    let mut actions = core.poll(SECOND, &view(&before, &members));
    for second in 2..4 {
        actions.extend(core.poll(SECOND * second, &view(&applied, &members)));
    }
    let is_broken = actions.iter().any(|a| matches!(a, Action::Cancel(_)));
    assert!(!is_broken, "{actions:?}");
}

/// What came of a greeting of the second filer, and of one of the third after that.
fn after_greetings(of: impl Fn(u64) -> Greeting) -> [Option<dulse_replica::Known>; 2] {
    let applied = vector(&[(1, 5), (2, 10), (3, 10)]);
    let mut core = listing(&[1, 2, 3]);
    let members = [1, 2, 3].map(|n| (origin(n), address(n as u16)));
    let mut actions = core.poll(Now::ZERO, &view(&applied, &members));
    [2, 3].map(|n| {
        // The latest first: links are broken off where a store is to take a new origin.
        actions.reverse();
        core.greeted(Now::ZERO, link_to(&actions, n as u16), Ok(of(n)));
        actions.reverse();
        let since = actions.len();
        // By then whoever has not answered is waited for no more.
        actions.extend(core.poll(SECOND, &view(&applied, &members)));
        actions[since..].iter().find_map(|action| match action {
            Action::Renew { known, .. } => Some(known.clone()),
            _ => None,
        })
    })
}

#[test]
fn who_is_out_itself_or_steps_aside_shuts_nobody_out() {
    let shuts_out = |n| Greeting {
        gone: vec![(origin(1), Stamp(3))],
        ..says(origin(n), n, Vector::new())
    };
    let [first, _] = after_greetings(shuts_out);
    assert!(first.is_some(), "a member's word counts");
    let is_out = |n| Greeting {
        gone: vec![(origin(1), Stamp(3)), (origin(n), Stamp(3))],
        ..says(origin(n), n, Vector::new())
    };
    assert_eq!(after_greetings(is_out), [None, None]);
    let steps_aside = |n| Greeting {
        started_ns: i64::MAX,
        ..shuts_out(n)
    };
    assert_eq!(after_greetings(steps_aside), [None, None]);
}

#[test]
fn every_member_that_answers_is_asked_what_it_had() {
    let of = |n| Greeting {
        gone: vec![(origin(1), Stamp(if n == 2 { 3 } else { 4 }))],
        members: vec![origin(2), origin(3)],
        ..says(origin(n), n, vector(&[(1, if n == 2 { 3 } else { 4 })]))
    };
    let [first, second] = after_greetings(of);
    assert_eq!(first, None, "the third was not asked");
    assert_eq!(
        second.and_then(|known| known.get(origin(1))),
        Some(Stamp(4))
    );
}

/// The member that had the later write did not answer within the two seconds for which it was
/// asked then, and an earlier one was made anew over it.
#[test]
fn a_member_that_does_not_answer_is_asked_for_ten_seconds() {
    let applied = vector(&[(1, 5), (2, 10), (3, 10)]);
    let mut core = listing(&[1, 2, 3]);
    let members = [1, 2, 3].map(|n| (origin(n), address(n as u16)));
    let shuts_out = Greeting {
        gone: vec![(origin(1), Stamp(3))],
        members: vec![origin(2), origin(3)],
        ..says(origin(2), 2, vector(&[(1, 3)]))
    };
    let renewed = (0..30).find(|second| {
        let now = SECOND * *second;
        let actions = core.poll(now, &view(&applied, &members));
        for action in &actions {
            if let Action::Greet { link, address: at } = action
                && *at == address(2)
            {
                core.greeted(now, *link, Ok(shuts_out.clone()));
            }
        }
        let mut all = actions;
        all.extend(core.poll(now, &view(&applied, &members)));
        all.iter().any(|a| matches!(a, Action::Renew { .. }))
    });
    assert_eq!(renewed, Some(10));
}

/// Whatever it stamped would be taken for what the others have of it already.
#[test]
fn a_store_that_lacks_own_changes_which_others_have_takes_a_new_origin() {
    let of = |has| {
        move |n| Greeting {
            own: Stamp(5),
            ..says(origin(n), n, vector(&[(1, has)]))
        }
    };
    let [first, _] = after_greetings(of(9));
    let known = first.expect("it was set back");
    assert_eq!(known.get(origin(1)), Some(Stamp(5)), "both have that");
    assert_eq!(after_greetings(of(5)), [None, None], "all is here");
}

fn admitted_by(by: u64, stamp: i64) -> Version {
    Version {
        stamp: Stamp(stamp),
        origin: origin(by),
    }
}

/// What it wrote may speak of what was forgotten here, as nobody waited for it; and what it says
/// of this store comes from another side of a split.
#[test]
fn who_joined_beyond_the_cut_of_one_that_is_shut_out_is_refused_until_it_has_heard() {
    let pulled = |unheard: Vec<Version>, members: &[u64]| {
        let applied = vector(&[(1, 5), (4, 6)]);
        let members: Vec<_> = members
            .iter()
            .map(|n| (origin(*n), address(*n as u16)))
            .collect();
        let gone = [Gone {
            origin: origin(4),
            how: End::Removed,
            end: admitted_by(1, 5),
            address: None,
        }];
        let view = View {
            applied: &applied,
            members: &members,
            gone: &gone,
        };
        let mut core = listing(&[1, 2]);
        let actions = core.poll(Now::ZERO, &view);
        let said = Greeting {
            unheard,
            // It counts this filer among those that went: that one side's word says nothing.
            gone: vec![(origin(1), Stamp(3))],
            members: vec![origin(2)],
            ..says(origin(2), 2, vector(&[(2, 10)]))
        };
        core.greeted(Now::ZERO, link_to(&actions, 2), Ok(said));
        let mut actions = core.poll(Now::ZERO, &view);
        actions.extend(core.poll(SECOND * 11, &view));
        let renews = |action: &Action| matches!(action, Action::Renew { .. });
        (pulls(&actions, origin(2)), actions.iter().any(renews))
    };
    let beyond = vec![admitted_by(3, 9), admitted_by(4, 7)];
    let three = [1, 3, 5];
    assert_eq!(pulled(beyond.clone(), &three), (false, false));
    // Nobody that went journaled it: it has shut this filer out.
    assert_eq!(pulled(vec![admitted_by(3, 9)], &three), (false, true));
    assert_eq!(pulled(beyond, &[1, 2, 3]), (false, true), "a member");
}

/// Nobody ever tells the others that it joined, and they keep nothing for it.
#[test]
fn whose_join_lies_beyond_the_cut_of_who_journaled_it_comes_back_as_another() {
    let of = |cut| {
        move |n| Greeting {
            gone: vec![(origin(4), Stamp(cut))],
            members: vec![origin(2), origin(3)],
            joins: vec![admitted_by(5, 3), admitted_by(4, 7)],
            ..says(origin(n), n, vector(&[(1, 2)]))
        }
    };
    let [_, beyond] = after_greetings(of(6));
    let known = beyond.expect("its join is cut off");
    assert_eq!(known.get(origin(1)), Some(Stamp(2)));
    assert_eq!(known.get(origin(4)), Some(Stamp(6)));
    assert_eq!(after_greetings(of(7)), [None, None], "they have its join");
}

/// What it applied before would be its own beginning, and no state that others hand out fits
/// on top of that.
#[test]
fn a_fresh_filer_pulls_nothing_before_it_has_its_own_beginning() {
    let nothing = Vector::new();
    let mut core = listing(&[1, 2]);
    let mut actions = core.poll(Now::ZERO, &view(&nothing, &[]));
    let link = link_to(&actions, 2);
    core.greeted(Now::ZERO, link, Ok(says(origin(2), 2, vector(&[(2, 10)]))));
    for second in 0..4 {
        actions.extend(core.poll(SECOND * second, &view(&nothing, &[])));
    }
    assert!(!pulls(&actions, origin(2)), "{actions:?}");
    assert!(!core.may_pull());
    // With one it does.
    let applied = vector(&[(1, 5)]);
    let (core, _) = pulling(&applied);
    assert!(core.may_pull());
}

/// Its machine may be gone, or its store may have been set back since: the last copy of what this
/// filer wrote would go with it.
#[test]
fn what_a_member_acknowledged_that_answers_no_more_counts_for_nothing() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let (mut core, stream) = pulling(&applied);
    core.leaving();
    let has_all = Statement {
        position: Stamp(10),
        durable: applied.clone(),
        leaving: vec![origin(1)],
        ..Statement::default()
    };
    core.heard(SECOND, stream, has_all, &[]);
    let handed_over = |core: &Core, now| {
        let over = core.handed_over(now, &view(&applied, &members), &applied);
        assert_eq!(over.lacking, []);
        (over.n_have, over.silent.len())
    };
    assert_eq!(handed_over(&core, SECOND), (1, 0));
    assert_eq!(handed_over(&core, SECOND * 20), (0, 1), "it is silent");
    core.ended(SECOND, stream, Some("connection reset".to_owned()));
    assert_eq!(handed_over(&core, SECOND), (0, 1), "it is not connected");
}

/// Others have of it what its log has and its engine could not take in: that shows when it is
/// restarted, and until then its refusals say what failed.
#[test]
fn a_store_that_has_failed_takes_no_new_origin() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let members = [1, 2].map(|n| (origin(n), address(n as u16)));
    for has_failed in [false, true] {
        let mut core = listing(&[1, 2]);
        core.store_has_failed(has_failed);
        let mut actions = core.poll(Now::ZERO, &view(&applied, &members));
        let said = Greeting {
            own: Stamp(5),
            ..says(origin(2), 2, vector(&[(1, 9), (2, 10)]))
        };
        core.greeted(Now::ZERO, link_to(&actions, 2), Ok(said));
        for second in 0..5 {
            actions.extend(core.poll(SECOND * second, &view(&applied, &members)));
        }
        let renews = actions.iter().any(|a| matches!(a, Action::Renew { .. }));
        assert_eq!(renews, !has_failed, "{actions:?}");
    }
}
