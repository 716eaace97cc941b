// SPDX-License-Identifier: Apache-2.0
//! Which rows a change may have written, told later.

use dulse_merge::touched::{Ranges, touched};
use dulse_merge::{Change, Txn, forget, keys};
use dulse_types::Vector;

use crate::guards::{create, delete, receive_all, rename, update};
use crate::world::Replica;

fn told(replica: &Replica, change: &Change) -> (bool, Ranges) {
    let mut ranges = Ranges::new();
    let is_known = touched(&Txn::new(&replica.rows), change, &mut ranges).unwrap();
    (is_known, ranges)
}

/// A file that was renamed, by one who knew of it, and a change by one who did not; then the
/// rename is stable, and where the file had been is forgotten.
fn moved_and_forgotten(change: impl FnOnce(&mut Replica) -> Change) -> (Replica, Change) {
    let [mut provider, mut mover, mut other] = [1, 2, 3].map(Replica::new);
    let birth = create(&mut provider, "/a", 1);
    receive_all(&mut mover, &[&birth]);
    receive_all(&mut other, &[&birth]);
    let moved = rename(&mut mover, "/a", "/b");
    let change = change(&mut other);
    receive_all(&mut provider, &[&moved, &change]);
    let stable: Vector = [(birth.origin, birth.stamp), (moved.origin, moved.stamp)]
        .into_iter()
        .collect();
    let writes = {
        let mut txn = Txn::new(&provider.rows);
        forget(&mut txn, dulse_types::Origin(9), &stable, &[], usize::MAX).unwrap();
        txn.finish().unwrap().0
    };
    provider.rows.write(writes);
    (provider, change)
}

/// A transfer that went on left the file at its new name as it was before the update: the
/// update says where the file was when it was made, and that it moved was forgotten
/// (simulated, seeds 102302 and 108478 of that day).
#[test]
fn an_update_of_a_file_whose_move_is_forgotten_cannot_be_told() {
    let (provider, change) = moved_and_forgotten(|other| update(other, "/a", 2));
    let (is_known, _) = told(&provider, &change);
    assert!(!is_known, "it lies at /b, and nothing says so");
}

#[test]
fn a_delete_of_a_file_whose_move_is_forgotten_touched_where_its_grave_says() {
    let (provider, change) = moved_and_forgotten(|other| delete(other, "/a"));
    let (is_known, ranges) = told(&provider, &change);
    assert!(is_known);
    let was_at = keys::entry(b"/b");
    assert!(ranges.iter().any(|(from, _)| *from == was_at), "{ranges:?}");
}
