// SPDX-License-Identifier: Apache-2.0
//! Changes that no log brings any more, and peers that have another log of this store.

use dulse_types::Version;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A filer with the origin `own`, and another with the origin 2, which is asked for its changes
/// behind what is here and says that it keeps them no more.
struct Behind {
    core: Core,
    applied: Vector,
    members: [(Origin, ServerAddress); 2],
    cuts: bool,
    said: Greeting,
    actions: Vec<Action>,
}

impl Behind {
    fn new(own: u64) -> Self {
        let core = core_of(own);
        let said = Greeting {
            origin: origin(2),
            instance: 2,
            is_fresh: false,
            vector: vector(&[(own, 5), (2, 20)]),
            gone: Vec::new(),
            members: vec![origin(own), origin(2)],
            is_ready: true,
            started_ns: 1,
            forked: None,
            is_cut_behind: false,
            forgotten: Vector::new(),
            lacks_forgotten: false,
            own: Stamp(5),
            joins: Vec::new(),
            unheard: Vec::new(),
            is_founder_told: false,
            promised: Stamp::ZERO,
        };
        Self {
            core,
            applied: vector(&[(own, 5), (2, 10)]),
            members: [(origin(own), address(1)), (origin(2), address(2))],
            cuts: true,
            said,
            actions: Vec::new(),
        }
    }

    /// Polls, and answers what is asked.
    fn poll(&mut self, now: Now) {
        let mut todo = vec![()];
        while todo.pop().is_some() {
            let view = View {
                applied: &self.applied,
                members: &self.members,
                gone: &[],
            };
            for action in self.core.poll(now, &view) {
                match &action {
                    Action::Greet { link, .. } => {
                        self.core.greeted(now, *link, Ok(self.said.clone()));
                        todo.push(());
                    }
                    Action::Pull { stream, .. } if self.cuts => {
                        self.core
                            .cut_off(now, *stream, "it is kept no more".to_owned());
                    }
                    _ => {}
                }
                self.actions.push(action);
            }
        }
    }

    /// When it takes a new origin, in tenths of a second.
    fn renewed_at(&mut self, tenths: std::ops::Range<u32>) -> Option<u32> {
        let mut tenths = tenths;
        tenths.find(|tenth| {
            self.poll(SECOND / 10 * *tenth);
            let renews = |action: &Action| matches!(action, Action::Renew { .. });
            self.actions.iter().any(renews)
        })
    }
}

/// A store was set back and had made nothing since: it was told again and again that what it
/// lacks is kept no more, and stayed as it was for ever, ready to serve.
#[test]
fn a_member_whose_missing_changes_are_kept_no_more_takes_a_new_origin() {
    let mut behind = Behind::new(3);
    behind.poll(Now::ZERO);
    let why = behind.core.not_ready().unwrap_or_default();
    assert!(why.contains("catching up"), "{why:?}");
    let at = behind.renewed_at(1..100).expect("it does not stay so");
    assert!((30..50).contains(&at), "others are asked meanwhile: {at}");
    let renewal = behind.actions.iter().find_map(|action| match action {
        Action::Renew { known, .. } => Some(known),
        _ => None,
    });
    assert_eq!(renewal.unwrap().get(origin(3)), Some(Stamp(5)));
}

/// If both did, nobody would have a state to give.
#[test]
fn of_two_that_lack_what_the_other_keeps_no_more_the_greater_origin_steps_aside_first() {
    let (smaller, greater) = (Behind::new(1), Behind::new(3));
    let [smaller, greater] = [smaller, greater].map(|mut b| b.renewed_at(0..200).unwrap());
    assert!(smaller >= greater + 20, "{smaller} and {greater}");
}

#[test]
fn one_that_does_not_know_this_filer_for_a_member_proves_nothing_by_what_it_cut() {
    let mut behind = Behind::new(3);
    behind.said.members = vec![origin(2)];
    assert_eq!(behind.renewed_at(0..200), None);
}

#[test]
fn changes_that_arrive_from_elsewhere_close_the_gap() {
    let mut behind = Behind::new(3);
    assert_eq!(behind.renewed_at(0..25), None);
    behind.applied = vector(&[(3, 5), (2, 20)]);
    behind.cuts = false;
    assert_eq!(behind.renewed_at(25..200), None);
    assert_eq!(behind.core.not_ready(), None);
}

/// The gap of an origin that is idle never ended: no change came that could close it, and its
/// peer went on answering.
#[test]
fn one_that_says_that_it_has_no_more_ends_the_gap() {
    for (has, is_missing) in [(10, false), (20, true)] {
        let mut behind = Behind::new(3);
        behind.said.vector = vector(&[(3, 5), (2, 10)]);
        behind.poll(Now::ZERO);
        behind.poll(SECOND);
        assert_eq!(behind.core.missing(), Some(origin(2)));
        behind.cuts = false;
        behind.poll(SECOND * 2);
        let streams = behind.actions.iter().rev();
        let mut streams = streams.filter_map(|action| match action {
            Action::Pull { stream, .. } => Some(*stream),
            _ => None,
        });
        let stream = streams.next().expect("it is asked again");
        let statement = Statement {
            position: Stamp(has),
            applied: vector(&[(3, 5), (2, has)]),
            ..Statement::default()
        };
        behind.core.heard(SECOND * 2, stream, statement, &[]);
        behind.poll(SECOND * 2);
        assert_eq!(behind.core.missing().is_some(), is_missing, "{has}");
    }
}

/// A member whose stream broke at once was taken for silent, and a filer that lacked what it had
/// was ready, wrote, and handed out its state.
#[test]
fn one_whose_stream_broke_has_answered_and_is_waited_for() {
    let mut behind = Behind::new(3);
    // It keeps all changes: that some are missing is no reason to wait.
    behind.cuts = false;
    for tenth in 0..40 {
        let now = SECOND / 10 * tenth;
        behind.poll(now);
        let why = behind.core.not_ready().unwrap_or_default();
        assert!(why.contains("catching up"), "{tenth}: {why:?}");
        for action in behind.actions.drain(..) {
            if let Action::Pull { stream, .. } = action {
                let broke = Some("connection reset".to_owned());
                behind.core.ended(now, stream, broke);
            }
        }
    }
}

/// A log that parted: another wrote under that origin, and what it wrote never fits.
#[test]
fn a_log_that_parted_is_left_with_what_only_this_filer_has_of_it() {
    let mut behind = Behind::new(3);
    behind.cuts = false;
    for tenth in 0..100 {
        behind.poll(SECOND / 10 * tenth);
        let pulls = behind.actions.drain(..).collect::<Vec<_>>();
        for action in pulls {
            match action {
                Action::Pull { stream, .. } => {
                    let parted = Outcome::Hole(Stamp(7));
                    behind.core.applied(SECOND / 10 * tenth, stream, parted);
                }
                Action::Renew { known, .. } => {
                    assert_eq!(known.get(origin(2)), Some(Stamp(7)));
                    return;
                }
                _ => {}
            }
        }
    }
    panic!("it stays so");
}

/// It wrote on before it heard of it, so that nothing that a peer states is more: the peer cannot
/// go on with this log, and greets.
#[test]
fn a_peer_that_greets_and_has_another_log_of_this_store_is_looked_at_again() {
    let mut behind = Behind::new(3);
    behind.cuts = false;
    behind.applied = vector(&[(3, 9), (2, 20)]);
    behind.said.own = Stamp(9);
    behind.poll(Now::ZERO);
    let stream = behind.actions.iter().find_map(|action| match action {
        Action::Pull { stream, .. } => Some(*stream),
        _ => None,
    });
    let stated = Statement {
        position: Stamp(20),
        applied: vector(&[(3, 7), (2, 20)]),
        ..Statement::default()
    };
    behind.core.heard(SECOND, stream.unwrap(), stated, &[]);
    behind.said.forked = Some(Stamp(4));
    assert_eq!(behind.renewed_at(10..20), None, "nobody asked");
    behind.core.called_by(SECOND * 2, origin(2), &address(2));
    // A second later it would be greeted since it takes nothing.
    assert!(behind.renewed_at(20..29).is_some(), "{:?}", behind.actions);
}

/// It was met while it was fresh and never joined, as another store was put in its place: for
/// two minutes no subscriber was told anything.
#[test]
fn a_fresh_filer_that_never_joined_holds_up_no_subscriber() {
    let mut behind = Behind::new(3);
    behind.cuts = false;
    behind.said.is_fresh = true;
    behind.said.vector = Vector::new();
    let members = [(origin(3), address(1))];
    behind.poll(Now::ZERO);
    let view = View {
        applied: &behind.applied,
        members: &members,
        gone: &[],
    };
    assert_eq!(behind.core.watermark(SECOND, &view), None);
    let mut behind = Behind::new(3);
    behind.cuts = false;
    behind.poll(Now::ZERO);
    let mark = behind.core.watermark(SECOND, &view);
    assert_eq!(mark, Some(Stamp(10)), "its join has not arrived yet");
}

/// It was set back and lost for ever what it had said to have: this filer waited for that for ever
/// (simulated, one store put back while all was well).
#[test]
fn what_a_peer_has_lost_when_it_answers_again_nobody_waits_for() {
    let mut behind = Behind::new(3);
    behind.cuts = false;
    behind.poll(Now::ZERO);
    let why = behind.core.not_ready().unwrap_or_default();
    assert!(why.contains("catching up"), "{why:?}");
    behind.said.instance = 3;
    behind.said.vector = vector(&[(3, 5), (2, 10)]);
    let stream = behind.actions.iter().find_map(|action| match action {
        Action::Pull { stream, .. } => Some(*stream),
        _ => None,
    });
    let gone = Some("connection reset".to_owned());
    behind.core.ended(SECOND, stream.expect("it pulls"), gone);
    behind.poll(SECOND * 2);
    assert_eq!(behind.core.not_ready(), None);
}

/// A store was set back to when its filer was alone, wrote on, and cut its log, as it knew of no
/// other member: each of the two waited for the other one for ever.
#[test]
fn a_member_that_is_unknown_here_and_lacks_what_is_cut_shows_that_this_store_was_set_back() {
    let renewed = |change: fn(&mut Behind)| {
        let mut behind = Behind::new(3);
        behind.cuts = false;
        behind.applied = vector(&[(3, 9), (2, 20)]);
        behind.said.own = Stamp(9);
        behind.said.is_cut_behind = true;
        behind.said.is_founder_told = true;
        // By this store's list there is nobody else; the master tells of the other one.
        behind.members[1] = behind.members[0].clone();
        let listing = Listing {
            filers: vec![address(1), address(2)],
            known_members: Vec::new(),
        };
        behind.core.listed(Now::ZERO, listing);
        change(&mut behind);
        behind.renewed_at(0..150)?;
        behind.actions.into_iter().find_map(|action| match action {
            Action::Renew { known, .. } => known.get(origin(3)),
            _ => None,
        })
    };
    let all_that_it_has = Some(Stamp(5));
    assert_eq!(renewed(|_| ()), all_that_it_has);
    assert_eq!(renewed(|b| b.said.is_cut_behind = false), None);
    // It may wait for what this one has cut (simulated, seed 370035825 of that version).
    assert_eq!(renewed(|b| b.said.is_ready = false), all_that_it_has);
    assert_eq!(renewed(|b| b.said.is_founder_told = false), None);
    assert_eq!(renewed(|b| b.said.members = vec![origin(2)]), None);
    let knows = |b: &mut Behind| b.members[1] = (origin(2), address(2));
    assert_eq!(renewed(knows), None, "it is a member here");
}

/// All members had on disk what one of them forgets: a store that lacks some of it was set back.
#[test]
fn a_store_that_lacks_what_a_member_has_forgotten_takes_a_new_origin() {
    let renewed = |change: fn(&mut Behind)| {
        let mut behind = Behind::new(3);
        behind.cuts = false;
        behind.said.lacks_forgotten = true;
        change(&mut behind);
        behind.renewed_at(0..150)?;
        behind.actions.into_iter().find_map(|action| match action {
            Action::Renew { known, .. } => known.get(origin(3)),
            _ => None,
        })
    };
    assert_eq!(renewed(|_| ()), Some(Stamp(5)), "what the other has of it");
    assert_eq!(renewed(|b| b.said.lacks_forgotten = false), None);
    assert_eq!(renewed(|b| b.said.is_ready = false), None);
    assert_eq!(renewed(|b| b.said.members = vec![origin(2)]), None);
    let is_unknown = |b: &mut Behind| {
        b.members[1] = b.members[0].clone();
        let listing = Listing {
            filers: vec![address(1), address(2)],
            known_members: Vec::new(),
        };
        b.core.listed(Now::ZERO, listing);
    };
    assert_eq!(renewed(is_unknown), None, "how did it join?");
}

/// A fresh filer to which those with these origins answered that they have that.
fn fresh(must_join: bool, answers: &[(u64, &[(u64, i64)])]) -> Core {
    let mut core = core_of(1);
    core.settings.must_join = must_join;
    let all = answers.iter().map(|(n, _)| address(*n as u16));
    let filers = all.chain([address(1), address(9)]).collect();
    let known_members = Vec::new();
    let listing = Listing {
        filers,
        known_members,
    };
    core.listed(Now::ZERO, listing);
    let nothing = Vector::new();
    let none = View {
        applied: &nothing,
        members: &[],
        gone: &[],
    };
    let actions = core.poll(Now::ZERO, &none);
    for (n, has) in answers {
        let greeted = actions.iter().find_map(|action| match action {
            Action::Greet { link, address: at } if *at == address(*n as u16) => Some(*link),
            _ => None,
        });
        let greeted = greeted.expect("it is greeted");
        core.greeted(Now::ZERO, greeted, Ok(has_most(*n, has)));
    }
    core
}

/// The same, where these answer each greeting.
fn joins_when_greeted(
    core: &mut Core,
    now: Now,
    answers: &[(u64, &[(u64, i64)])],
    tenths: u32,
) -> Option<StreamId> {
    let nothing = Vector::new();
    let none = View {
        applied: &nothing,
        members: &[],
        gone: &[],
    };
    for tenth in 0..tenths {
        let now = now + SECOND / 10 * tenth;
        for action in core.poll(now, &none) {
            match action {
                Action::Join { stream, .. } => return Some(stream),
                Action::Greet { link, address: at } => {
                    let answer = answers.iter().find(|(n, _)| at == address(*n as u16));
                    if let Some((n, has)) = answer {
                        core.greeted(now, link, Ok(has_most(*n, has)));
                    }
                }
                _ => {}
            }
        }
    }
    None
}

fn has_most(n: u64, has: &[(u64, i64)]) -> Greeting {
    Greeting {
        origin: origin(n),
        vector: vector(has),
        ..Behind::new(1).said
    }
}

/// A new filer joined at one that was shut out just then. Those who had shut it out had greeted the
/// new one while it was fresh, and took its changes (simulated, seed 471010535 of that version).
#[test]
fn of_one_that_was_fresh_nothing_is_taken_before_it_has_said_how_it_joined() {
    for is_fresh in [true, false] {
        let mut behind = Behind::new(3);
        behind.cuts = false;
        behind.said.is_fresh = is_fresh;
        behind.poll(Now::ZERO);
        let pulled = behind.actions.iter().find_map(|action| match action {
            Action::Pull { stream, .. } => Some(*stream),
            _ => None,
        });
        let stream = pulled.expect("it pulls");
        let core = &mut behind.core;
        assert_eq!(core.takes_from(SECOND, stream, false), Some(origin(2)));
        let through = core.takes_from(SECOND, stream, true);
        assert_eq!(through.is_none(), is_fresh);
        let n_before = behind.actions.len();
        behind.said.is_fresh = false;
        behind.poll(SECOND);
        let mut since = behind.actions[n_before..].iter();
        let is_greeted = since.any(|action| matches!(action, Action::Greet { .. }));
        assert_eq!(is_greeted, is_fresh);
    }
}

/// A filer that came back under a new origin, since others had shut it out, took in the state of
/// one that had joined at it meanwhile: with it came what the others never take, beyond the cut
/// (simulated, seed 450010171 of that version).
#[test]
fn a_state_is_taken_from_one_that_another_has_shut_out_only_when_there_is_no_other() {
    let from = |change: fn(&mut Greeting, &mut Greeting)| {
        let mut core = core_of(1);
        core.settings.must_join = true;
        let listing = Listing {
            filers: vec![address(1), address(2), address(3)],
            known_members: Vec::new(),
        };
        core.listed(Now::ZERO, listing);
        let nothing = Vector::new();
        let none = View {
            applied: &nothing,
            members: &[],
            gone: &[],
        };
        let (mut two, mut three) = (has_most(2, &[(8, 9)]), has_most(3, &[(8, 4)]));
        change(&mut two, &mut three);
        for action in core.poll(Now::ZERO, &none) {
            if let Action::Greet { link, address: at } = action {
                let answers = [&two, &three].into_iter();
                let said = answers.filter(|said| at == address(said.origin.0 as u16));
                for said in said {
                    core.greeted(Now::ZERO, link, Ok(said.clone()));
                }
            }
        }
        core.poll(SECOND, &none);
        match core.phase() {
            Phase::Joining { from, .. } => from.clone(),
            phase => panic!("{phase:?}"),
        }
    };
    fn joined_at_eight(said: &mut Greeting) {
        said.unheard = vec![Version {
            stamp: Stamp(5),
            origin: origin(8),
        }];
    }
    assert_eq!(from(|_, _| ()), address(2), "the first that answers");
    let beyond = |two: &mut Greeting, three: &mut Greeting| {
        joined_at_eight(two);
        three.gone = vec![(origin(8), Stamp(4))];
    };
    assert_eq!(from(beyond), address(3));
    let before = |two: &mut Greeting, three: &mut Greeting| {
        joined_at_eight(two);
        three.gone = vec![(origin(8), Stamp(5))];
    };
    assert_eq!(from(before), address(2), "they have its join");
    let itself = |_: &mut Greeting, three: &mut Greeting| {
        three.gone = vec![(origin(2), Stamp(4))];
    };
    assert_eq!(from(itself), address(3));
    let both = |two: &mut Greeting, three: &mut Greeting| {
        two.gone = vec![(origin(3), Stamp(4))];
        three.gone = vec![(origin(2), Stamp(4))];
    };
    assert_eq!(from(both), address(2), "rather than nobody's");
}

/// From whom it fetches the state at that time.
fn joins_at(core: &mut Core, now: Now) -> Option<StreamId> {
    let nothing = Vector::new();
    let none = View {
        applied: &nothing,
        members: &[],
        gone: &[],
    };
    let actions = core.poll(now, &none);
    actions.iter().find_map(|action| match action {
        Action::Join { stream, .. } => Some(*stream),
        _ => None,
    })
}

/// A provider that refused was asked again at once, a hundred times a second.
#[test]
fn a_state_that_was_refused_is_asked_for_again_after_a_pause() {
    let answers: [(u64, &[(u64, i64)]); 1] = [(2, &[(2, 10)])];
    let mut core = fresh(true, &answers);
    let stream = joins_when_greeted(&mut core, SECOND, &answers, 9).expect("it joins");
    core.joined(SECOND * 2, stream, Err("refused".to_owned()));
    let at_once = joins_when_greeted(&mut core, SECOND * 2, &answers, 5);
    assert_eq!(at_once, None);
    let later = joins_when_greeted(&mut core, SECOND * 2 + RETRY_DELAY, &answers, 5);
    assert!(later.is_some_and(|later| later != stream), "{later:?}");
}

/// Two stores that lacked what a third filer had of a lost one, and that this had in its log no
/// more, took new origins in turn, each from the state of the other, for ever.
#[test]
fn the_state_comes_from_who_has_most_of_those_that_went() {
    // Of what lives more comes by itself, of 8 no more.
    let answers: [(u64, &[(u64, i64)]); 2] =
        [(2, &[(2, 90), (3, 9), (8, 5)]), (3, &[(2, 10), (8, 6)])];
    let mut core = fresh(true, &answers);
    for n_tried in 0..4 {
        let now = SECOND * n_tried + SECOND;
        let stream = joins_when_greeted(&mut core, now, &answers, 9).expect("it joins");
        let from = match core.phase() {
            Phase::Joining { from, .. } => from.clone(),
            phase => panic!("{phase:?}"),
        };
        let is_last = n_tried == 3;
        assert_eq!(from, address(if is_last { 2 } else { 3 }), "{n_tried}");
        core.joined(now, stream, Err("cut short".to_owned()));
        // The other one answers: it is not taken for that.
        let other = joins_when_greeted(&mut core, now, &answers[..1], 4);
        assert_eq!(other, None, "{n_tried}");
    }
}

/// A store that was set back to when its filer was alone let another one join before it had heard
/// from the third: two sides that each lacked what the other had cut.
#[test]
fn a_filer_serves_once_all_that_are_listed_were_asked_for_a_moment() {
    let applied = vector(&[(3, 5)]);
    let members = [(origin(3), address(1))];
    let view = View {
        applied: &applied,
        members: &members,
        gone: &[],
    };
    let nobody = || {
        Core::new(Settings {
            started_ns: 1,
            ..core_of(3).settings
        })
    };
    let mut core = nobody();
    core.poll(Now::ZERO, &view);
    assert!(core.not_ready().is_some(), "the master has not answered");
    core.poll(SECOND, &view);
    assert_eq!(core.not_ready(), None, "it may be away");
    for is_answered in [true, false] {
        let mut core = nobody();
        let filers = vec![address(1), address(2)];
        let known_members = Vec::new();
        let listing = Listing {
            filers,
            known_members,
        };
        core.listed(Now::ZERO, listing);
        let actions = core.poll(Now::ZERO, &view);
        assert!(core.not_ready().is_some());
        if let (Some(Action::Greet { link, .. }), true) = (actions.first(), is_answered) {
            let refused = Refusal::Broken("connection refused".to_owned());
            core.greeted(Now::ZERO, *link, Err(refused));
        }
        core.poll(Now::ZERO, &view);
        assert_eq!(core.not_ready().is_none(), is_answered);
        core.poll(SECOND, &view);
        assert_eq!(core.not_ready(), None);
    }
}

/// The one with most may be the last to answer.
#[test]
fn a_store_that_had_another_origin_asks_all_before_it_takes_a_state() {
    let answers: [(u64, &[(u64, i64)]); 1] = [(2, &[(2, 90)])];
    assert!(joins_at(&mut fresh(false, &answers), Now::ZERO).is_some());
    let mut core = fresh(true, &answers);
    assert_eq!(joins_at(&mut core, Now::ZERO), None, "9 may answer yet");
    assert!(joins_at(&mut core, SECOND).is_some());
}

/// Both have the same code.
#[test]
fn a_message_that_is_too_long_is_no_log_that_was_cut() {
    use crate::convert::{is_log_cut, log_cut};
    assert!(is_log_cut(&log_cut("changes up to 7".to_owned())));
    let too_long = tonic::Status::out_of_range("decoded message length too large");
    assert!(!is_log_cut(&too_long));
}
