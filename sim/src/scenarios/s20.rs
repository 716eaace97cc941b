// SPDX-License-Identifier: Apache-2.0
//! S20: one very large event; one change that cannot be applied.

use dulse_replication::PeerState;
use dulse_store::Step;
use dulse_types::entry::UnknownFields;

use super::cluster;
use crate::workload::make::{file, path};
use crate::world::World;

/// Bytes of content in the entry itself: as much as a record may hold.
const LARGE: usize = 3 << 20;

#[test]
fn s20_one_very_large_event_passes() {
    let mut world = cluster(3);
    let mut fields = file(&mut world.rng).fields().unwrap();
    fields.content = vec![7; LARGE].into();
    let entry = fields.to_entry(&UnknownFields::default());
    let step = Step::Create {
        path: path("/large"),
        entry: entry.clone(),
    };
    world.create(0, "/before");
    world.step(0, step).unwrap();
    world.create(0, "/behind");
    world.demand_end();
    for f in 0..3 {
        assert_eq!(world.entry(f, "/large"), Some(entry.clone()), "filer {f}");
        assert_eq!(world.names(f, "/"), ["before", "behind", "large"]);
        assert_eq!(world.subscribers[f].scalar.told.len(), 3);
    }
}

/// It is shown, retried, never skipped; other origins go on.
#[test]
fn s20_a_change_that_cannot_be_applied_holds_up_its_origin_alone() {
    let mut world = cluster(3);
    let origin = world.filers[0].running.as_ref().unwrap().origin();
    world.damaged = Some((2, origin));
    world.create(0, "/damaged");
    world.create(0, "/behind");
    world.create(1, "/other");
    world.pass(10);
    assert_eq!(
        world.names(2, "/"),
        ["other"],
        "the others go on, nothing is skipped"
    );
    let running = world.filers[2].running.as_ref().unwrap();
    let peers = running.core.peers(&running.shared().vector());
    let shown = peers.iter().find(|peer| peer.origin == origin).unwrap();
    assert_eq!(shown.state, PeerState::Stuck, "{shown:?}");
    assert!(!shown.last_error.is_empty());
    // What damaged it is mended: the same change comes again by itself.
    world.damaged = None;
    world.demand_end();
    assert_eq!(world.names(2, "/"), ["behind", "damaged", "other"]);
}

/// It answers every greeting, and so is not silent: subscribers would wait for it for ever.
#[test]
fn s20_a_change_that_cannot_be_applied_holds_up_subscribers_for_two_minutes_only() {
    let mut world = cluster(3);
    let origin = world.filers[0].running.as_ref().unwrap().origin();
    world.damaged = Some((2, origin));
    world.create(0, "/damaged");
    world.pass(10);
    let watermark = |world: &World| world.filers[2].running.as_ref().unwrap().watermark;
    let held = watermark(&world);
    world.create(1, "/since");
    world.pass(20);
    assert_eq!(watermark(&world), held, "it waits");
    world.pass(110);
    assert!(watermark(&world) > held, "it goes on without that origin");
}
