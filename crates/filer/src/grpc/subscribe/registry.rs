// SPDX-License-Identifier: Apache-2.0
//! Who is subscribed: told apart, listed, and replaced by a newer one of the same client.

use std::collections::BTreeMap;
use std::sync::Arc;

use dulse_proto::filer::MetadataSubscriber;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Local subscriptions and aggregated ones of one client do not clash.
type Key = (bool, i32);

/// Live subscriptions of clients that have an id. Those without are served, but neither
/// listed nor told apart.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<Live>>);

#[derive(Default)]
struct Live {
    rows: BTreeMap<Key, Row>,
    last_number: u64,
}

struct Row {
    who: MetadataSubscriber,
    /// Whose it is: a place that was refused or replaced must not give it up.
    number: u64,
    replaced: CancellationToken,
}

/// One subscription's place; it is given up when dropped.
pub(crate) struct Place {
    registry: Registry,
    key: Key,
    number: u64,
    /// Cancelled when a newer subscription of the same client took over.
    pub(crate) replaced: CancellationToken,
}

impl Registry {
    /// The live ones, of these client types or all, by name and prefix.
    pub(crate) fn list(&self, types: &[String]) -> Vec<MetadataSubscriber> {
        let live = self.0.lock();
        let wanted = live
            .rows
            .values()
            .filter(|row| types.is_empty() || types.contains(&row.who.client_type));
        let mut rows: Vec<_> = wanted.map(|row| row.who.clone()).collect();
        rows.sort_by(|a, b| {
            (&a.client_name, &a.path_prefix).cmp(&(&b.client_name, &b.path_prefix))
        });
        rows
    }

    /// Takes a place; an older subscription of the same client loses its own.
    ///
    /// # Errors
    ///
    /// When the client has a subscription of the same or a later epoch. Upstream's filers
    /// compare the text of the local one.
    pub(crate) fn add(&self, is_local: bool, who: MetadataSubscriber) -> Result<Place, Status> {
        let key = (is_local, who.client_id);
        let mut live = self.0.lock();
        live.last_number += 1;
        let place = Place {
            registry: self.clone(),
            key,
            number: live.last_number,
            replaced: CancellationToken::new(),
        };
        if who.client_id == 0 {
            return Ok(place);
        }
        if let Some(other) = live.rows.get(&key) {
            if other.who.client_epoch >= who.client_epoch {
                // Order: a place gives itself up when it is dropped, which takes the lock.
                drop(live);
                return Err(duplicated(is_local, &who));
            }
            other.replaced.cancel();
        }
        let row = Row {
            who,
            number: place.number,
            replaced: place.replaced.clone(),
        };
        live.rows.insert(key, row);
        Ok(place)
    }
}

/// The refusal of a second subscription; the wordings are upstream's.
fn duplicated(is_local: bool, who: &MetadataSubscriber) -> Status {
    let (name, id) = (&who.client_name, who.client_id);
    Status::unknown(if is_local {
        format!("duplicated local subscription detected for client {name} clientId:{id}")
    } else {
        format!("duplicated subscription detected for client {name} id {id}")
    })
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = self.registry.0.lock();
        let is_ours = |row: &Row| row.number == self.number;
        if live.rows.get(&self.key).is_some_and(is_ours) {
            live.rows.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(id: i32, epoch: i32) -> MetadataSubscriber {
        MetadataSubscriber {
            client_name: format!("mount@{id}"),
            client_type: "mount".to_owned(),
            client_id: id,
            client_epoch: epoch,
            ..MetadataSubscriber::default()
        }
    }

    #[test]
    fn a_later_epoch_replaces_and_an_equal_one_is_refused() {
        let registry = Registry::default();
        let first = registry.add(false, who(7, 1)).unwrap();
        let refused = registry.add(false, who(7, 1)).err().unwrap();
        assert_eq!(
            refused.message(),
            "duplicated subscription detected for client mount@7 id 7"
        );
        let local = registry.add(true, who(7, 1)).unwrap();
        let refused = registry.add(true, who(7, 0)).err().unwrap();
        assert!(
            refused
                .message()
                .contains("duplicated local subscription detected")
        );
        let second = registry.add(false, who(7, 2)).unwrap();
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert_eq!(registry.list(&[]).len(), 2, "the newer one keeps its place");
        drop((second, local));
        assert_eq!(registry.list(&[]), []);
    }

    #[test]
    fn clients_without_an_id_are_neither_refused_nor_listed() {
        let registry = Registry::default();
        let places = [
            registry.add(false, who(0, 0)).unwrap(),
            registry.add(false, who(0, 0)).unwrap(),
        ];
        assert_eq!(registry.list(&["mount".to_owned()]), []);
        drop(places);
    }
}
