// SPDX-License-Identifier: Apache-2.0
//! Filers and other clients that are connected, by group.

use std::collections::BTreeMap;

use dulse_proto::master as pb;

/// A registered client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// When it registered, in nanoseconds since 1970.
    pub created_at_ns: i64,
    /// What it says of its version.
    pub version: String,
    /// Data center.
    pub data_center: String,
    /// Rack.
    pub rack: String,
    n_streams: u32,
}

/// Identity of a client: group, type, address.
pub type Key = (String, String, String);

/// Everyone connected.
#[derive(Default, Debug)]
pub struct Members {
    members: BTreeMap<Key, Member>,
}

impl Members {
    /// A stream registers; true when the client is new.
    pub fn add(&mut self, request: &pb::KeepConnectedRequest, now_ns: i64) -> bool {
        let member = self.members.entry(key(request)).or_insert(Member {
            created_at_ns: now_ns,
            version: request.version.clone(),
            data_center: request.data_center.clone(),
            rack: request.rack.clone(),
            n_streams: 0,
        });
        member.n_streams += 1;
        member.n_streams == 1
    }

    /// A stream ended; true when the client is gone.
    pub fn remove(&mut self, request: &pb::KeepConnectedRequest) -> bool {
        let key = key(request);
        let Some(member) = self.members.get_mut(&key) else {
            return false;
        };
        member.n_streams -= 1;
        let is_gone = member.n_streams == 0;
        if is_gone {
            self.members.remove(&key);
        }
        is_gone
    }

    /// How many clients of one type there are, of all groups.
    #[must_use]
    pub fn count(&self, client_type: &str) -> usize {
        let keys = self.members.keys();
        keys.filter(|(_, t, _)| t == client_type).count()
    }

    /// Everyone: group, type, address.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Member)> {
        self.members.iter()
    }

    /// The clients of one type and group, by address.
    pub fn of<'a>(
        &'a self,
        client_type: &'a str,
        group: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Member)> {
        let matching = self
            .members
            .iter()
            .filter(move |((g, t, _), _)| g == group && t == client_type);
        matching.map(|((_, _, address), member)| (address.as_str(), member))
    }
}

fn key(request: &pb::KeepConnectedRequest) -> Key {
    (
        request.filer_group.clone(),
        request.client_type.clone(),
        request.client_address.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_there_while_it_has_a_stream() {
        let mut members = Members::default();
        let request = pb::KeepConnectedRequest {
            client_type: "filer".into(),
            client_address: "h:1.2".into(),
            ..pb::KeepConnectedRequest::default()
        };
        assert!(members.add(&request, 5));
        assert!(!members.add(&request, 6));
        assert!(!members.remove(&request));
        assert_eq!(members.of("filer", "").count(), 1);
        assert_eq!(members.of("filer", "other").count(), 0);
        assert!(members.remove(&request));
        assert_eq!(members.of("filer", "").count(), 0);
    }
}
