// SPDX-License-Identifier: Apache-2.0
//! Copies of a store beside its original, and what is taken for one in error.

use super::guards::{SECOND, link_to, listing, says, view};
use super::*;

/// Whether the origin that is given up is in use, where one is.
fn given_up(actions: &[Action]) -> Option<bool> {
    actions.iter().find_map(|action| match action {
        Action::Renew { is_in_use, .. } => Some(*is_in_use),
        _ => None,
    })
}

fn nobody() -> Result<Greeting, Refusal> {
    Err(Refusal::Broken("connection refused".to_owned()))
}

/// A member told a copy that it lacks changes before its original answered: the copy gave up the
/// origin as one that nobody uses, and shut out its living original.
#[test]
fn a_copy_leaves_its_origin_to_the_original_whoever_answers_first() {
    let applied = vector(&[(1, 5), (2, 10)]);
    // The original is where it joined, or where the master lists it.
    for (joined_at, at) in [(9, 9), (1, 3)] {
        let members = [(origin(1), address(joined_at)), (origin(2), address(2))];
        let view = view(&applied, &members);
        let begun = || {
            let mut core = listing(&[1, 2, at]);
            let actions = core.poll(Now::ZERO, &view);
            let (member, original) = (link_to(&actions, 2), link_to(&actions, at));
            let said = Greeting {
                own: Stamp(5),
                members: vec![origin(1), origin(2)],
                ..says(origin(2), 2, vector(&[(1, 9), (2, 10)]))
            };
            core.greeted(Now::ZERO, member, Ok(said));
            let actions = core.poll(Now::ZERO, &view);
            assert_eq!(given_up(&actions), None, "the original was not asked");
            (core, original)
        };
        let twin = says(origin(1), 9, vector(&[(1, 9), (2, 10)]));
        for (answer, is_in_use) in [(Ok(twin), true), (nobody(), false)] {
            let (mut core, original) = begun();
            core.greeted(Now::ZERO, original, answer);
            let mut actions = core.poll(Now::ZERO, &view);
            actions.extend(core.poll(SECOND, &view));
            assert_eq!(given_up(&actions), Some(is_in_use));
        }
        // It is not waited for for ever.
        let (mut core, _) = begun();
        let given = (1..=10).find_map(|n| given_up(&core.poll(SECOND * n, &view)));
        assert_eq!(given, Some(false));
    }
}

/// A copy that had not met its original by then looks once more when it has the state.
#[test]
fn an_origin_under_which_another_goes_on_is_not_shut_out() {
    let applied = vector(&[(1, 9), (2, 10), (4, 11)]);
    let members = [(4, 1), (1, 9), (2, 2)].map(|(n, at)| (origin(n), address(at)));
    let view = view(&applied, &members);
    let former = [origin(1)];
    let original = says(origin(1), 9, vector(&[(1, 9), (2, 10)]));
    let steps_aside = Greeting {
        started_ns: i64::MAX,
        ..original.clone()
    };
    let answers = [
        (Ok(original), former.to_vec()),
        (Ok(steps_aside), Vec::new()),
        (nobody(), Vec::new()),
    ];
    for (answer, in_use) in answers {
        let mut core = core_of(4);
        let actions = core.poll(Now::ZERO, &view);
        let untried = core.in_use(Now::ZERO, &view, &former);
        assert_eq!(untried, None, "nobody looked where it was");
        core.greeted(Now::ZERO, link_to(&actions, 9), answer);
        assert_eq!(core.in_use(Now::ZERO, &view, &former), Some(in_use));
    }
    let mut core = core_of(4);
    core.in_use(Now::ZERO, &view, &former);
    let late = core.in_use(SECOND * 10, &view, &former);
    assert_eq!(late, Some(Vec::new()), "it is not waited for for ever");
}

/// A write waited for a slow sync. Peers get what is synced, so they took nothing for as long, and
/// all links were broken every two seconds.
#[test]
fn what_waits_for_a_sync_is_nothing_that_a_peer_does_not_take() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let members = [(origin(1), address(1)), (origin(2), address(2))];
    // What the peer has of the log, which goes to 9 and of which 5 is applied.
    for (has, is_anew) in [(4, true), (5, false), (7, false), (9, false)] {
        for calls in [false, true] {
            let (mut core, stream) = pulling(&applied);
            let mut actions = Vec::new();
            for second in 0..4 {
                let now = SECOND * second;
                core.has_logged(Stamp(9));
                actions.extend(core.poll(now, &view(&applied, &members)));
                let statement = Statement {
                    position: Stamp(10),
                    applied: vector(&[(1, has), (2, 10)]),
                    ..Statement::default()
                };
                core.heard(now, stream, statement, &[]);
                if calls {
                    core.called_by(now, origin(2), &address(2));
                }
            }
            let greets = actions.iter().any(|a| matches!(a, Action::Greet { .. }));
            assert_eq!(greets, is_anew, "{has} {calls}: {actions:?}");
        }
    }
}

/// A filer said by a change that it runs at another place. A peer that had taken that was greeted
/// anew before the filer was ready, and it took a new origin: others had more than it had once.
#[test]
fn what_a_filer_wrote_before_it_was_ready_is_no_proof_that_it_was_set_back() {
    let applied = vector(&[(1, 5), (2, 10)]);
    let members = [(origin(1), address(9)), (origin(2), address(2))];
    let view = view(&applied, &members);
    // Another one on a copy may have written, too: then more is there than here.
    for (has, is_set_back) in [(6, false), (7, true)] {
        let mut core = listing(&[1, 2]);
        let mut actions = core.poll(Now::ZERO, &view);
        let (peer, old_place) = (link_to(&actions, 2), link_to(&actions, 9));
        core.greeted(Now::ZERO, peer, Ok(says(origin(2), 2, applied.clone())));
        core.greeted(Now::ZERO, old_place, nobody());
        actions = core.poll(Now::ZERO, &view);
        assert!(actions.contains(&Action::Appear), "{actions:?}");
        let stream = actions.iter().find_map(|action| match action {
            Action::Pull { stream, .. } => Some(*stream),
            _ => None,
        });
        // It is in the log, and the engine takes its time.
        core.has_logged(Stamp(6));
        let broken = Some("connection reset".to_owned());
        core.ended(Now::ZERO, stream.expect("it pulls"), broken);
        let actions = core.poll(SECOND, &view);
        let said = Greeting {
            own: Stamp(6),
            members: vec![origin(1), origin(2)],
            ..says(origin(2), 2, vector(&[(1, has), (2, 10)]))
        };
        core.greeted(SECOND, link_to(&actions, 2), Ok(said));
        let actions = core.poll(SECOND * 2, &view);
        assert_eq!(given_up(&actions).is_some(), is_set_back, "{actions:?}");
    }
}
