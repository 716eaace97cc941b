// SPDX-License-Identifier: Apache-2.0
//! Addresses: which to try, and who was met where. Identity is the origin; an address is
//! only a hint, so several hints are kept and the one that answers wins.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dulse_types::{Origin, ServerAddress};

use crate::{Listing, Now};

/// Most origins whose addresses are kept; a cluster has a handful of filers.
pub const ADDRESSES_MAX: usize = 1024;

/// Hints kept for one origin.
const HINTS_MAX: usize = 4;

/// Hearsay about an origin that was met within this time is not needed.
const MET_LATELY: Duration = Duration::from_secs(5);

#[derive(Clone, Default, Debug)]
struct Place {
    met: Option<(ServerAddress, Now)>,
    /// Newest last.
    hints: Vec<ServerAddress>,
}

/// The address book of one filer.
#[derive(Clone, Default, Debug)]
pub struct Directory {
    listing: Option<Listing>,
    listing_since: Now,
    places: BTreeMap<Origin, Place>,
    /// Members no more: nobody looks for them. Whoever comes back greets others.
    gone: BTreeSet<Origin>,
}

impl Directory {
    /// These are no members any more: what is known of where they were is dropped.
    pub fn gone(&mut self, gone: impl IntoIterator<Item = Origin>) {
        for origin in gone {
            self.places.remove(&origin);
            self.gone.insert(origin);
        }
    }

    /// The master answered. The list stays as it was while no master answers.
    pub fn listed(&mut self, now: Now, listing: Listing) {
        if self.listing.as_ref() != Some(&listing) {
            self.listing_since = now;
            self.listing = Some(listing);
        }
    }

    /// What the master said last, and since when it has said the same.
    #[must_use]
    pub fn listing(&self) -> Option<(&Listing, Now)> {
        self.listing.as_ref().map(|l| (l, self.listing_since))
    }

    /// Somebody answered as this origin at this address: its other hints are void, and so is
    /// this address as a hint of anyone else.
    pub fn met(&mut self, now: Now, origin: Origin, address: &ServerAddress) {
        for (other, place) in &mut self.places {
            if *other != origin {
                place.hints.retain(|hint| !hint.is_same_server(address));
                if place
                    .met
                    .as_ref()
                    .is_some_and(|(a, _)| a.is_same_server(address))
                {
                    place.met = None;
                }
            }
        }
        let is_full = self.places.len() >= ADDRESSES_MAX && !self.places.contains_key(&origin);
        if is_full || self.gone.contains(&origin) {
            return;
        }
        let place = self.places.entry(origin).or_default();
        place.met = Some((address.clone(), now));
        place.hints.clear();
    }

    /// Somebody says that this origin is at this address: the log, a peer, or itself.
    /// True when that is news worth trying.
    pub fn told(&mut self, now: Now, origin: Origin, address: &ServerAddress) -> bool {
        let is_full = self.places.len() >= ADDRESSES_MAX && !self.places.contains_key(&origin);
        if is_full || self.gone.contains(&origin) {
            return false;
        }
        let place = self.places.entry(origin).or_default();
        if let Some((at, when)) = &place.met
            && (at.is_same_server(address) || now.saturating_sub(*when) < MET_LATELY)
        {
            return false;
        }
        if place.hints.iter().any(|hint| hint.is_same_server(address)) {
            return false;
        }
        if place.hints.len() >= HINTS_MAX {
            place.hints.remove(0);
        }
        place.hints.push(address.clone());
        true
    }

    /// Every address worth trying, except the own one.
    #[must_use]
    pub fn wanted(&self, own: &ServerAddress) -> BTreeSet<ServerAddress> {
        let listed = self.listing.iter().flat_map(|l| &l.filers);
        let remembered = self.listing.iter().flat_map(|l| &l.known_members);
        let remembered = remembered.filter(|(origin, _)| !self.gone.contains(origin));
        let remembered = remembered.map(|(_, address)| address);
        let places = self.places.values();
        let met = places.clone().filter_map(|p| p.met.as_ref().map(|m| &m.0));
        let hints = places.flat_map(|p| &p.hints);
        let mut wanted = BTreeSet::new();
        for address in listed.chain(met).chain(hints).chain(remembered) {
            let is_new = !wanted
                .iter()
                .any(|w: &ServerAddress| w.is_same_server(address));
            if is_new && !address.is_same_server(own) && wanted.len() < ADDRESSES_MAX {
                wanted.insert(address.clone());
            }
        }
        wanted
    }

    /// Whether an address is nothing but hearsay about this origin.
    #[must_use]
    pub fn is_hint_of(&self, origin: Origin, address: &ServerAddress) -> bool {
        let place = self.places.get(&origin);
        place.is_some_and(|place| place.hints.iter().any(|hint| hint.is_same_server(address)))
    }

    /// Where each origin was met last.
    pub fn known(&self) -> impl Iterator<Item = (Origin, &ServerAddress)> {
        let places = self.places.iter();
        places.filter_map(|(origin, place)| Some((*origin, &place.met.as_ref()?.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> ServerAddress {
        ServerAddress::new("127.0.0.1", port, 0).unwrap()
    }

    fn ports(directory: &Directory) -> Vec<u16> {
        let wanted = directory.wanted(&at(1));
        wanted.iter().map(ServerAddress::port).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_address_is_tried_whoever_tells_of_it_and_never_the_own() {
        let mut directory = Directory::default();
        directory.listed(
            SECOND,
            Listing {
                filers: vec![at(1), at(2)],
                known_members: vec![(Origin(3), at(3))],
            },
        );
        assert!(directory.told(SECOND, Origin(4), &at(4)));
        assert!(!directory.told(SECOND, Origin(4), &at(4)));
        directory.met(SECOND, Origin(5), &at(5));
        assert_eq!(ports(&directory), [2, 3, 4, 5]);
    }

    #[test]
    fn s18_an_origin_that_moved_leaves_its_address_to_whoever_answers_there() {
        let mut directory = Directory::default();
        directory.met(SECOND, Origin(7), &at(2));
        assert!(!directory.told(SECOND * 2, Origin(7), &at(9)), "met lately");
        assert!(directory.told(SECOND * 60, Origin(7), &at(9)));
        directory.met(SECOND * 61, Origin(8), &at(2));
        let known: Vec<_> = directory.known().map(|(o, a)| (o.0, a.port())).collect();
        assert_eq!(
            known,
            [(8, 2)],
            "nobody is told that the first is still there"
        );
        directory.met(SECOND * 61, Origin(7), &at(9));
        let known: Vec<_> = directory.known().map(|(o, a)| (o.0, a.port())).collect();
        assert_eq!(known, [(7, 9), (8, 2)]);
        assert_eq!(ports(&directory), [2, 9]);
    }

    #[test]
    fn nobody_looks_for_who_is_a_member_no_more() {
        let mut directory = Directory::default();
        directory.listed(
            SECOND,
            Listing {
                filers: vec![at(4)],
                known_members: vec![(Origin(2), at(2)), (Origin(3), at(3))],
            },
        );
        directory.met(SECOND, Origin(3), &at(3));
        directory.gone([Origin(3)]);
        assert!(!directory.told(SECOND * 60, Origin(3), &at(9)));
        directory.met(SECOND * 60, Origin(3), &at(9));
        assert_eq!(ports(&directory), [2, 4]);
        assert_eq!(directory.known().count(), 0);
    }

    #[test]
    fn hints_and_origins_are_bounded() {
        let mut directory = Directory::default();
        for port in 10..100 {
            directory.told(SECOND, Origin(1), &at(port));
        }
        assert_eq!(ports(&directory), [96, 97, 98, 99]);
        for origin in 0..5_000 {
            directory.told(SECOND, Origin(origin), &at(5));
        }
        assert_eq!(directory.places.len(), ADDRESSES_MAX);
    }
}
