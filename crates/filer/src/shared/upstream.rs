// SPDX-License-Identifier: Apache-2.0
//! Hears what upstream's filers on the same store did, by their own protocol.
//!
//! They promise nothing and stamp by their own clocks, so nobody waits for them: what they did is
//! told as it comes, raised above what was told before where it is late.

use std::sync::Arc;

use dulse_proto::filer as pb;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_shared::{Announced, Event, Payload};
use dulse_transport::{MESSAGE_BYTES_MAX, within};
use dulse_types::{Entry, FullPath, Origin, ServerAddress, Stamp};
use tonic::transport::Channel;

use super::OnShared;
use super::follow::{ANSWER_TIME_MAX, Failed};
use super::gathered::Heard;
use super::others::State;

/// Where upstream's filers keep their log as files: no subscriber is told of it.
const LOG_DIRECTORY: &str = "/topics/.system/log";

/// Hears one of them until it breaks off.
pub(super) async fn once(
    on: &Arc<OnShared>,
    address: &ServerAddress,
    channel: Channel,
) -> Result<(), Failed> {
    let mut client = SeaweedFilerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let asked = client.get_filer_configuration(pb::GetFilerConfigurationRequest {});
    let theirs = within(ANSWER_TIME_MAX, asked).await?.into_inner();
    if theirs.signature != on.origin().signature() {
        let text = format!("it is on another store, with id {}", theirs.signature);
        return Err(Failed::Misfit(text));
    }
    if let Some(location) = on.of_one() {
        let text = format!(
            "it shows at `/` what this filer keeps below {location}: give this one a database of \
             its own there"
        );
        return Err(Failed::Misfit(text));
    }
    let origin = stand_in(address, on.origin());
    let mut last = on.gathered.lasts().get(origin);
    if last == Stamp::ZERO {
        // What it did before is not asked for: whoever wants that takes the state.
        last = on.promise_now();
        let (taking, floor) = (Arc::clone(on), last);
        let noted =
            tokio::task::spawn_blocking(move || taking.gathered.begin_behind(origin, floor));
        noted.await.map_err(|e| Failed::Broken(e.to_string()))??;
    }
    let request = pb::SubscribeMetadataRequest {
        client_name: format!("filer:{}", on.address),
        path_prefix: "/".to_owned(),
        since_ns: last.0,
        client_id: (on.origin().0 >> 32) as i32,
        client_epoch: (crate::grpc::now_ns() / 1_000_000_000) as i32,
        ..pb::SubscribeMetadataRequest::default()
    };
    on.others.ended(address, State::Foreign, "");
    tracing::info!(%address, "follows upstream's filer on this store");
    // It answers with its first event, whenever that is; a connection that is dead is noticed
    // below.
    let mut stream = client.subscribe_local_metadata(request).await?.into_inner();
    while let Some(mut message) = stream.message().await? {
        let more = std::mem::take(&mut message.events);
        let mut heard = Vec::new();
        for event in std::iter::once(message).chain(more) {
            let Some(announced) = announced(&event) else {
                continue;
            };
            // Inclusive: what is at the cursor itself was taken in already.
            if event.ts_ns <= last.0 {
                continue;
            }
            let stamp = Stamp(event.ts_ns);
            let position = 0;
            let payload = Payload::Seen {
                position,
                announced,
            };
            heard.push(Heard {
                stamp,
                prev: last,
                payload: payload.encode(),
            });
            last = stamp;
        }
        if heard.is_empty() {
            continue;
        }
        crate::metrics::HEARD.add(heard.len() as u64);
        let taking = Arc::clone(on);
        let taken = tokio::task::spawn_blocking(move || taking.gathered.append(origin, heard));
        taken.await.map_err(|e| Failed::Broken(e.to_string()))??;
    }
    Ok(())
}

/// Who stands for a filer that has no origin: by its address, on this store.
fn stand_in(address: &ServerAddress, own: Origin) -> Origin {
    // FNV-1a: the same at every start.
    let text = address.http();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let store = own.0 & u64::from(u32::MAX);
    Origin(u64::from(hash.max(1)) << 32 | store)
}

/// What an event of upstream's says; nothing for what is none.
fn announced(event: &pb::SubscribeMetadataResponse) -> Option<Announced> {
    let told = event.event_notification.as_ref()?;
    if event.directory.starts_with(LOG_DIRECTORY) {
        return None;
    }
    let at = |dir: &str, entry: &Entry| {
        let path = FullPath::of(dir, &entry.name()).ok()?;
        Some((path, entry.clone()))
    };
    let parent = match told.new_parent_path.as_str() {
        "" => event.directory.as_str(),
        parent => parent,
    };
    let old = told.old_entry.as_ref();
    let old = old.and_then(|entry| at(&event.directory, entry));
    let new = told.new_entry.as_ref().and_then(|entry| at(parent, entry));
    (old.is_some() || new.is_some()).then(|| Announced {
        signatures: told.signatures.clone(),
        is_from_other_cluster: told.is_from_other_cluster,
        events: vec![Event {
            old,
            new,
            delete_chunks: told.delete_chunks,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_upstreams_is_told_as_it_is_and_its_own_log_is_not() {
        let entry = |name: &str| Some(Entry::default().with_name(name));
        let event = |dir: &str, old, new, parent: &str| pb::SubscribeMetadataResponse {
            directory: dir.to_owned(),
            event_notification: Some(pb::EventNotification {
                old_entry: old,
                new_entry: new,
                new_parent_path: parent.to_owned(),
                signatures: vec![7],
                ..pb::EventNotification::default()
            }),
            ..pb::SubscribeMetadataResponse::default()
        };
        let paths = |event| {
            let told = announced(&event)?;
            let path = |one: &Option<(FullPath, Entry)>| one.as_ref().map(|(p, _)| p.to_string());
            Some((path(&told.events[0].old), path(&told.events[0].new)))
        };
        let (a, b) = (Some("/d/a".to_owned()), Some("/e/b".to_owned()));
        assert_eq!(
            paths(event("/d", entry("a"), entry("b"), "/e")),
            Some((a.clone(), b))
        );
        assert_eq!(
            paths(event("/d", None, entry("a"), "")),
            Some((None, a.clone()))
        );
        assert_eq!(paths(event("/d", entry("a"), None, "")), Some((a, None)));
        assert_eq!(paths(event("/d", None, None, "")), None);
        let log = event("/topics/.system/log/2026", None, entry("x"), "");
        assert_eq!(announced(&log), None);
        let own = Origin(9 << 32 | 5);
        let address: ServerAddress = "10.0.0.1:8888".parse().unwrap();
        let other: ServerAddress = "10.0.0.2:8888".parse().unwrap();
        assert_eq!(stand_in(&address, own).signature(), own.signature());
        assert_ne!(stand_in(&address, own), stand_in(&other, own));
    }
}
