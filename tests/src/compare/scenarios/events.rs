// SPDX-License-Identifier: Apache-2.0
//! What subscribers are told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_proto::filer::{CreateEntryRequest, SubscribeMetadataRequest, SubscribeMetadataResponse};
use dulse_types::{EntryFields, FuseAttributes, UnknownFields};
use futures::future::join_all;
use tonic::transport::Channel;

use super::super::SETTLE_TIME_MAX;
use super::{Outcome, Side, fill, make};

/// A stream that brings nothing for this long is opened anew.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Pause before a filer that did not answer is asked again.
const AWAY: Duration = Duration::from_millis(200);

/// Directories that each of two filers makes while a slow subscriber reads.
const SLOWLY_READ: usize = 5_000;

/// What a slow subscriber does after each event.
const PAUSE: Duration = Duration::from_millis(2);

/// Subscribers that come back at once.
const MANY: i32 = 300;

/// Bytes of a large entry.
const LARGE: usize = 12 << 20;

/// The name of what an event made; `None` when it made nothing.
fn made(event: SubscribeMetadataResponse) -> Result<Option<String>> {
    let entry = event.event_notification.and_then(|n| n.new_entry);
    let name = entry
        .map(|e| e.take_name().map(|(_, name)| name))
        .transpose()?;
    Ok(name)
}

/// A client of a filer that may be away: tried again each 200 ms.
async fn client(port: u16) -> SeaweedFilerClient<Channel> {
    loop {
        let address = format!("http://127.0.0.1:{}", port + 10_000);
        if let Ok(client) = SeaweedFilerClient::connect(address).await {
            return client.max_decoding_message_size(2 * LARGE);
        }
        tokio::time::sleep(AWAY).await;
    }
}

/// A subscriber that goes on from the last event when its stream breaks or is silent.
struct Follower {
    port: u16,
    request: SubscribeMetadataRequest,
    /// What it does after each event.
    pause: Duration,
}

impl Follower {
    fn new(side: &Side, dir: &str, client_id: i32) -> Self {
        let request = SubscribeMetadataRequest {
            client_name: "compare".to_owned(),
            path_prefix: dir.to_owned(),
            since_ns: 1,
            client_id,
            ..SubscribeMetadataRequest::default()
        };
        Self {
            port: side.ports[0],
            request,
            pause: Duration::ZERO,
        }
    }

    /// Follows until it was told of all these names, or heard none of them for long; gives
    /// those that it was not told of.
    async fn hear(&mut self, mut wanted: BTreeSet<String>) -> Result<BTreeSet<String>> {
        let mut heard_last = Instant::now();
        while heard_last.elapsed() < SETTLE_TIME_MAX && !wanted.is_empty() {
            self.request.client_epoch += 1;
            let mut client = tokio::time::timeout(SETTLE_TIME_MAX, client(self.port)).await?;
            // The answer's head may come with the first event only.
            let opening = client.subscribe_metadata(self.request.clone());
            let Ok(Ok(opened)) = tokio::time::timeout(SILENCE_MAX, opening).await else {
                tokio::time::sleep(AWAY).await;
                continue;
            };
            let mut events = opened.into_inner();
            while !wanted.is_empty()
                && let Ok(Ok(Some(event))) =
                    tokio::time::timeout(SILENCE_MAX, events.message()).await
            {
                self.request.since_ns = self.request.since_ns.max(event.ts_ns);
                if made(event)?.is_some_and(|name| wanted.remove(&name)) {
                    heard_last = Instant::now();
                }
                tokio::time::sleep(self.pause).await;
            }
        }
        Ok(wanted)
    }
}

pub(super) async fn s04(side: &mut Side) -> Result<Outcome> {
    let side = &*side;
    side.mkdir(0, "/s04/0").await?;
    let wanted = |filer: usize| (0..SLOWLY_READ).map(move |n| format!("{n}-of-{filer}"));
    let all: BTreeSet<String> = (0..2).flat_map(wanted).collect();
    let writers = (0..2).map(|filer| async move {
        let paths: Vec<String> = wanted(filer).map(|name| format!("/s04/{name}")).collect();
        make(side, filer, &paths).await
    });
    let mut follower = Follower::new(side, "/s04", 4);
    follower.pause = PAUSE;
    let (written, missing) = futures::join!(join_all(writers), follower.hear(all));
    for written in written {
        written?;
    }
    let (missing, n_streams) = (missing?, follower.request.client_epoch);
    let n = 2 * SLOWLY_READ;
    if let Some(first) = missing.first() {
        let n_missing = missing.len();
        return Ok(Outcome::fail(format!(
            "{n_missing} of {n} events never came, such as {first}, over {n_streams} streams"
        )));
    }
    Ok(Outcome::pass(format!(
        "{n} events over {n_streams} streams"
    )))
}

pub(super) async fn s05(side: &mut Side) -> Result<Outcome> {
    let mut follower = Follower::new(side, "/s05", 5);
    let wanted = BTreeSet::from(["at-the-peer".to_owned()]);
    let following = tokio::spawn(async move {
        let missing = follower.hear(wanted).await?;
        Ok::<_, anyhow::Error>((missing, follower.request.client_epoch))
    });
    side.mkdir(0, "/s05/before").await?;
    let peer = side.add_filer()?;
    side.wait_serving(peer).await?;
    side.mkdir(peer, "/s05/at-the-peer").await?;
    let began = Instant::now();
    let (missing, n_streams) = following.await??;
    if !missing.is_empty() {
        return Ok(Outcome::fail("the event never came"));
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Outcome::pass(format!(
        "the event came after {seconds:.1} s, over {n_streams} streams"
    )))
}

pub(super) async fn s15(side: &mut Side) -> Result<Outcome> {
    side.mkdir(0, "/s15/before").await?;
    let followers: Vec<Follower> = (0..MANY)
        .map(|n| Follower::new(side, "/s15", 1_500 + n))
        .collect();
    let (followers, n_behind) = all_hear(followers, "before").await?;
    if n_behind > 0 {
        return Ok(Outcome::fail(format!(
            "{n_behind} of {MANY} heard nothing from the beginning"
        )));
    }
    side.filers[0].kill()?;
    side.filers[0].restart()?;
    let began = Instant::now();
    let following = tokio::spawn(all_hear(followers, "after"));
    side.wait_serving(0).await?;
    side.mkdir(0, "/s15/after").await?;
    let (_, n_behind) = following.await??;
    if n_behind > 0 {
        return Ok(Outcome::fail(format!("{n_behind} of {MANY} were not told")));
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Outcome::pass(format!("all were told after {seconds:.1} s")))
}

/// Has them follow side by side until each was told of a name; counts those that were not.
async fn all_hear(followers: Vec<Follower>, name: &'static str) -> Result<(Vec<Follower>, usize)> {
    let hearing = followers.into_iter().map(|mut follower| {
        tokio::spawn(async move {
            let missing = follower.hear(BTreeSet::from([name.to_owned()])).await?;
            Ok::<_, anyhow::Error>((follower, missing.len()))
        })
    });
    let (mut back, mut n_behind) = (Vec::new(), 0);
    for one in join_all(hearing).await {
        let (follower, n) = one??;
        back.push(follower);
        n_behind += n;
    }
    Ok((back, n_behind))
}

pub(super) async fn s20(side: &mut Side) -> Result<Outcome> {
    side.mkdir(0, "/s20/dir").await?;
    side.agree("/s20", &[0, 1], &[]).await?;
    let fields = EntryFields {
        attributes: Some(FuseAttributes {
            file_mode: 0o644,
            file_size: LARGE as u64,
            mtime: 1,
            crtime: 1,
            ..FuseAttributes::default()
        }),
        content: Bytes::from(vec![7; LARGE]),
        ..EntryFields::default()
    };
    let entry = fields.to_entry(&UnknownFields::default());
    let request = CreateEntryRequest {
        directory: "/s20".to_owned(),
        entry: Some(entry.with_name("large")),
        ..CreateEntryRequest::default()
    };
    let made = client(side.ports[0]).await.create_entry(request).await;
    let error = made.context("the large entry")?.into_inner().error;
    ensure!(error.is_empty(), "the large entry: {error}");
    let mut wanted = fill(side, 0, "/s20/behind", 20).await?;
    wanted.push("/s20/large".to_owned());
    let outcome = side.agree("/s20", &[0, 1], &wanted).await?;
    for filer in 0..2 {
        let n = side.get(filer, "/s20/large").await?.map_or(0, |c| c.len());
        if outcome.passes && n != LARGE {
            return Ok(Outcome::fail(format!(
                "filer {filer} gives {n} bytes of it"
            )));
        }
    }
    Ok(outcome)
}
