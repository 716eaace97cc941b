// SPDX-License-Identifier: Apache-2.0
//! What operators are told of a peer.

use super::*;

mod copies;
mod gaps;
mod guards;
mod slow_engine;

fn origin(n: u64) -> Origin {
    Origin(n << 32 | n)
}

fn address(port: u16) -> ServerAddress {
    ServerAddress::new("127.0.0.1", port, 0).unwrap()
}

fn vector(rows: &[(u64, i64)]) -> Vector {
    let rows = rows.iter().map(|(n, stamp)| (origin(*n), Stamp(*stamp)));
    rows.collect()
}

/// A filer that pulls from one peer; its core and the stream.
fn pulling(applied: &Vector) -> (Core, StreamId) {
    let mut core = core_of(1);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let view = View {
        applied,
        members: &members,
        gone: &[],
    };
    let mut actions = core.poll(Now::ZERO, &view);
    let Some(Action::Greet { link, .. }) = actions.pop() else {
        panic!("it greets the member that it knows: {actions:?}");
    };
    let greeting = Greeting {
        origin: origin(2),
        instance: 2,
        is_fresh: false,
        vector: Vector::new(),
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
    };
    core.greeted(Now::ZERO, link, Ok(greeting));
    let actions = core.poll(Now::ZERO, &view);
    let stream = actions.iter().find_map(|action| match action {
        Action::Pull { stream, .. } => Some(*stream),
        _ => None,
    });
    (core, stream.expect("it pulls from the peer that it met"))
}

#[test]
fn the_lag_is_what_the_sender_counted_and_nothing_once_all_is_applied() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let (mut core, stream) = pulling(&applied);
    let states = |position| Statement {
        position: Stamp(position),
        ..Statement::default()
    };
    core.heard(Now::ZERO, stream, states(10), &[]);
    core.behind(stream, 0);
    assert_eq!(core.peers(&applied)[0].lag_changes, 0);
    core.heard(Now::ZERO, stream, states(2_000_000_010), &[]);
    core.behind(stream, 4_711);
    let peer = &core.peers(&applied)[0];
    assert_eq!((peer.lag_changes, peer.lag_seconds), (4_711, 2.0));
    let level = vector(&[(1, 5), (2, 2_000_000_010)]);
    let peer = &core.peers(&level)[0];
    assert_eq!((peer.lag_changes, peer.lag_seconds), (0, 0.0));
}

/// A member that is gone for good held every fresh filer back for ten seconds, though it had
/// all that its provider had.
#[test]
fn a_fresh_filer_is_ready_right_after_its_transfer() {
    let mut core = Core::new(Settings {
        origin: origin(1),
        instance: 1,
        address: address(1),
        started_ns: 1,
        must_join: false,
        is_alone: false,
        offline_max: Duration::from_secs(3600),
    });
    core.listed(
        Now::ZERO,
        Listing {
            filers: vec![address(1), address(2)],
            known_members: vec![(origin(2), address(2)), (origin(3), address(3))],
        },
    );
    let nothing = Vector::new();
    let fresh = View {
        applied: &nothing,
        members: &[],
        gone: &[],
    };
    let actions = core.poll(Now::ZERO, &fresh);
    let greeted = actions.iter().find_map(|action| match action {
        Action::Greet { link, address: at } if *at == address(2) => Some(*link),
        _ => None,
    });
    let provider = Greeting {
        origin: origin(2),
        instance: 2,
        is_fresh: false,
        vector: vector(&[(2, 10)]),
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
    };
    core.greeted(Now::ZERO, greeted.expect("it greets filer 2"), Ok(provider));
    let actions = core.poll(Now::ZERO, &fresh);
    let joining = actions.iter().find_map(|action| match action {
        Action::Join { stream, .. } => Some(*stream),
        _ => None,
    });
    core.joined(Now::ZERO, joining.expect("it joins"), Ok(()));
    let applied = vector(&[(2, 10)]);
    let members = [1, 2, 3].map(|n| (origin(n), address(n as u16)));
    let view = View {
        applied: &applied,
        members: &members,
        gone: &[],
    };
    core.poll(Now::ZERO, &view);
    assert_eq!(core.not_ready(), None);
}

#[test]
fn what_a_member_has_only_applied_acknowledges_nothing() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let (mut core, stream) = pulling(&applied);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    let view = View {
        applied: &applied,
        members: &members,
        gone: &[],
    };
    assert_eq!(core.holders(Now::ZERO, &view), [], "not connected yet");
    let states = |durable| Statement {
        applied: vector(&[(1, 5)]),
        durable: vector(&[(1, durable)]),
        // Its own changes before it are not here: that does not matter for what it has.
        position: Stamp(99),
        ..Statement::default()
    };
    core.heard(Now::ZERO, stream, states(4), &[]);
    assert_eq!(core.holders(Now::ZERO, &view), [Stamp(4)]);
    core.heard(Now::ZERO, stream, states(5), &[]);
    assert_eq!(core.holders(Now::ZERO, &view), [Stamp(5)]);
    assert_eq!(core.holders(HELD_LATELY, &view), [], "silent for too long");
    let alone = View {
        applied: &applied,
        members: &members[..1],
        gone: &[],
    };
    assert_eq!(core.holders(Now::ZERO, &alone), [], "no member");
}

/// A filer of this origin at the first address that was not started alone. The master lists nobody.
fn core_of(own: u64) -> Core {
    let mut core = Core::new(Settings {
        origin: origin(own),
        instance: 1,
        address: address(1),
        started_ns: 1,
        must_join: false,
        is_alone: false,
        offline_max: Duration::from_secs(3600),
    });
    core.listed(Now::ZERO, Listing::default());
    core
}

/// Whom a filer that is ready shuts out within some seconds, with members 1, 2 and 3 of which
/// those named are heard each second.
fn fenced_by(own: u64, now: u64, heard: &[u64], is_log_over: bool) -> Vec<Origin> {
    let mut core = core_of(own);
    let applied = vector(&[(1, 5), (2, 5), (3, 5)]);
    let members = [1, 2, 3].map(|n| (origin(n), address(n as u16)));
    let view = View {
        applied: &applied,
        members: &members,
        gone: &[],
    };
    core.phase = Phase::Ready;
    core.not_ready = None;
    core.log_is_over(is_log_over);
    let mut fenced = Vec::new();
    for second in 0..=now {
        let now = Duration::from_secs(second);
        for peer in heard {
            let all = Statement {
                durable: applied.clone(),
                ..Statement::default()
            };
            core.acks.stated(now, origin(*peer), all);
        }
        let actions = core.poll(now, &view);
        fenced.extend(actions.iter().filter_map(|action| match action {
            Action::Fence { member } => Some(*member),
            _ => None,
        }));
    }
    fenced
}

#[test]
fn one_that_is_silent_for_too_long_is_shut_out_by_the_smallest_that_answers() {
    assert_eq!(fenced_by(1, 3601, &[2], false), [origin(3)]);
    assert_eq!(fenced_by(2, 3601, &[1], false), []);
    assert_eq!(fenced_by(2, 3601, &[3], false), [origin(1)]);
    assert_eq!(fenced_by(1, 3599, &[2], false), []);
}

#[test]
fn one_for_which_too_much_log_is_kept_is_shut_out_before_its_time() {
    assert_eq!(fenced_by(1, 61, &[2], true), [origin(3)]);
    assert_eq!(fenced_by(1, 59, &[2], true), [], "it may be starting");
    assert_eq!(fenced_by(1, 61, &[2], false), []);
}
