// SPDX-License-Identifier: Apache-2.0
//! The scenarios. Each gets a fresh cluster and a seed, and judges by what was acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::{LocalBoxFuture, join_all};
use futures::{FutureExt, StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;

use super::{Outcome, Side};
use crate::free_port;

/// How long hot paths are written to.
const HOT_FOR: Duration = Duration::from_secs(20);

/// Paths that everyone writes to.
const HOT_PATHS: usize = 20;

/// Changes made while a filer is frozen.
const MISSED: usize = 5_000;

/// Requests under way at once.
const AT_ONCE: usize = 64;

/// Until then a request has reached the queue of a frozen filer.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// A stream that brings nothing for this long is opened anew.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Files of S22.
const FILES: usize = 1_500;

/// One scenario.
pub struct Scenario {
    /// Its number in the catalogue.
    pub id: &'static str,
    /// What happens and what must hold.
    pub what: &'static str,
    /// How many filers there are.
    pub n_filers: usize,
    /// Runs it.
    pub run: for<'a> fn(&'a mut Side, u64) -> LocalBoxFuture<'a, Result<Outcome>>,
}

/// Every scenario that can be driven alike at both systems.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let row = |id, what, n_filers, run| Scenario {
        id,
        what,
        n_filers,
        run,
    };
    vec![
        row(
            "S01",
            "a filer deletes while the two others are frozen, is killed with -9 and restarted: deleted everywhere",
            3,
            |s, _| s01(s).boxed_local(),
        ),
        row(
            "S05",
            "a subscriber that connected before any peer was there sees a later peer's events",
            1,
            |s, _| s05(s).boxed_local(),
        ),
        row(
            "S06",
            "five files written over and over at two filers at once: one content everywhere",
            2,
            |s, seed| s06(s, seed).boxed_local(),
        ),
        row(
            "S07",
            "a newer write stays when a restarted filer takes older events again",
            2,
            |s, _| s07(s).boxed_local(),
        ),
        row(
            "S08",
            "one filer's store is wiped while the other writes: everything is there again",
            2,
            |s, _| s08(s).boxed_local(),
        ),
        row(
            "S13",
            "one directory is renamed to two names at two filers at once: each file once",
            2,
            |s, _| s13(s).boxed_local(),
        ),
        row(
            "S18",
            "a filer gets a new address, another one takes its old one: both complete",
            3,
            |s, _| s18(s).boxed_local(),
        ),
        row(
            "S22",
            "1,500 small files by hundreds of writers at three filers: none missing or empty anywhere",
            3,
            |s, _| s22(s).boxed_local(),
        ),
        row(
            "S23",
            "5,000 creates acknowledged while the other filer is frozen, kill -9, restart: all there",
            2,
            |s, _| s23(s).boxed_local(),
        ),
        row(
            "S24",
            "20 hot paths created, deleted and renamed at three filers for 20 s: equal",
            3,
            |s, seed| s24(s, seed).boxed_local(),
        ),
        row(
            "S26",
            "a filer's changes reached one of two peers, then its machine is gone: the other peer gets them",
            3,
            |s, _| s26(s).boxed_local(),
        ),
        row(
            "S27",
            "one directory made at three filers at once with a child each: one directory, all children",
            3,
            |s, _| s27(s).boxed_local(),
        ),
        row(
            "S28",
            "a file at /a/b here and /a/b/c there at once: equal, what was acknowledged below is there",
            2,
            |s, _| s28(s).boxed_local(),
        ),
    ]
}

/// Makes directories, all acknowledged; gives their paths.
async fn fill(side: &Side, filer: usize, dir: &str, n: usize) -> Result<Vec<String>> {
    let paths: Vec<String> = (0..n).map(|i| format!("{dir}/{i}")).collect();
    let made = futures::stream::iter(&paths)
        .map(|path| side.mkdir(filer, path))
        .buffer_unordered(AT_ONCE);
    made.try_collect::<()>().await?;
    Ok(paths)
}

/// Sends a request to each of two filers while both are frozen, and lets them go together:
/// each takes its own before it hears of the other's, as a rule. Gives the answers.
async fn at_once<A, B>(side: &Side, first: A, second: B) -> Result<(Result<()>, Result<()>)>
where
    A: Future<Output = Result<()>>,
    B: Future<Output = Result<()>>,
{
    side.filers[0].freeze()?;
    side.filers[1].freeze()?;
    let released = async {
        tokio::time::sleep(UNDER_WAY).await;
        side.filers[0].thaw().and(side.filers[1].thaw())
    };
    let (first, second, released) = futures::join!(first, second, released);
    released?;
    Ok((first, second))
}

async fn s01(side: &mut Side) -> Result<Outcome> {
    side.put(0, "/s01/gone", b"x").await?;
    side.put(0, "/s01/kept", b"x").await?;
    side.agree("/s01", &[0, 1, 2], &[]).await?;
    side.filers[0].freeze()?;
    side.filers[1].freeze()?;
    side.delete(2, "/s01/gone").await?;
    side.filers[2].kill()?;
    side.filers[0].thaw()?;
    side.filers[1].thaw()?;
    side.filers[2].restart()?;
    side.wait_serving(2).await?;
    let kept = ["/s01/kept".to_owned()];
    let mut outcome = side.agree("/s01", &[0, 1, 2], &kept).await?;
    if outcome.passes && side.get(0, "/s01/gone").await?.is_some() {
        outcome = Outcome::fail("equal, but the deleted file is back");
    }
    Ok(outcome)
}

async fn s05(side: &mut Side) -> Result<Outcome> {
    use dulse_proto::filer::SubscribeMetadataRequest;
    let client = side.grpc(0).await?;
    let subscribe = move |since_ns, epoch| {
        let mut client = client.clone();
        let request = SubscribeMetadataRequest {
            client_name: "compare".to_owned(),
            path_prefix: "/s05".to_owned(),
            since_ns,
            client_id: 7,
            client_epoch: epoch,
            ..SubscribeMetadataRequest::default()
        };
        // The answer's head may come with the first event only.
        tokio::spawn(async move { client.subscribe_metadata(request).await })
    };
    let mut subscribed = subscribe(1, 1);
    side.mkdir(0, "/s05/before").await?;
    let peer = side.add_filer()?;
    side.wait_serving(peer).await?;
    side.mkdir(peer, "/s05/at-the-peer").await?;
    let began = Instant::now();
    let (mut since_ns, mut n_streams) = (1, 1);
    while began.elapsed() < super::SETTLE_TIME_MAX {
        let next = match tokio::time::timeout(SILENCE_MAX, &mut subscribed).await {
            Ok(opened) => s05_events(opened??.into_inner(), &mut since_ns).await,
            Err(_) => Ok(false),
        };
        if next.is_ok_and(|is_seen| is_seen) {
            let seconds = began.elapsed().as_secs_f64();
            return Ok(Outcome::pass(format!(
                "the event came after {seconds:.1} s, over {n_streams} streams"
            )));
        }
        // Broken or silent: a subscriber goes on from the last event.
        n_streams += 1;
        subscribed.abort();
        subscribed = subscribe(since_ns, n_streams);
    }
    Ok(Outcome::fail("the event never came"))
}

/// Reads events until the wanted one; false when the stream is silent.
async fn s05_events(
    mut events: tonic::Streaming<dulse_proto::filer::SubscribeMetadataResponse>,
    since_ns: &mut i64,
) -> Result<bool> {
    while let Ok(next) = tokio::time::timeout(SILENCE_MAX, events.message()).await {
        let event = next?.context("the stream ended")?;
        *since_ns = (*since_ns).max(event.ts_ns);
        let entry = event.event_notification.and_then(|n| n.new_entry);
        let name = entry
            .map(|e| e.take_name().map(|(_, name)| name))
            .transpose()?;
        if name.as_deref() == Some("at-the-peer") {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn s06(side: &mut Side, seed: u64) -> Result<Outcome> {
    let side = &*side;
    let writers = (0..2_usize).map(|filer| async move {
        let mut rng = StdRng::seed_from_u64(seed + filer as u64);
        for n in 0..300 {
            let path = format!("/s06/{}", rng.random_range(0..5));
            let content = format!("{n} of filer {filer}");
            side.put(filer, &path, content.as_bytes()).await?;
        }
        Ok::<(), anyhow::Error>(())
    });
    for written in join_all(writers).await {
        written?;
    }
    let wanted: Vec<String> = (0..5).map(|n| format!("/s06/{n}")).collect();
    side.agree("/s06", &[0, 1], &wanted).await
}

async fn s07(side: &mut Side) -> Result<Outcome> {
    side.put(0, "/s07/f", b"old").await?;
    side.agree("/s07", &[0, 1], &[]).await?;
    let (older, newer) = (b"older than it looks".as_slice(), b"newer".as_slice());
    side.filers[1].freeze()?;
    side.put(0, "/s07/f", older).await?;
    side.filers[0].freeze()?;
    side.filers[1].thaw()?;
    side.put(1, "/s07/f", newer).await?;
    side.filers[1].kill()?;
    side.filers[0].thaw()?;
    side.filers[1].restart()?;
    side.wait_serving(1).await?;
    let outcome = side.agree("/s07", &[0, 1], &[]).await?;
    for filer in 0..2 {
        let got = side.get(filer, "/s07/f").await?;
        if outcome.passes && got.as_deref() != Some(newer) {
            return Ok(Outcome::fail("equal, but the newer write is gone"));
        }
    }
    Ok(outcome)
}

async fn s08(side: &mut Side) -> Result<Outcome> {
    let mut wanted = fill(side, 0, "/s08/a", 100).await?;
    wanted.extend(fill(side, 1, "/s08/b", 100).await?);
    side.agree("/s08", &[0, 1], &wanted).await?;
    side.filers[0].kill()?;
    side.wipe(0)?;
    wanted.extend(fill(side, 1, "/s08/c", 100).await?);
    side.filers[0].restart()?;
    side.wait_serving(0).await?;
    side.agree("/s08", &[0, 1], &wanted).await
}

async fn s13(side: &mut Side) -> Result<Outcome> {
    for n in 0..20 {
        side.put(0, &format!("/s13/dir/{n}"), b"x").await?;
    }
    side.agree("/s13", &[0, 1], &[]).await?;
    let first = side.rename(0, "/s13/dir", "/s13/one");
    let second = side.rename(1, "/s13/dir", "/s13/two");
    let (first, second) = at_once(side, first, second).await?;
    // Who heard of the other's first is told that there is nothing to rename.
    if let (Err(error), Err(_)) = (first, second) {
        return Err(error.context("both were refused"));
    }
    let outcome = side.agree("/s13", &[0, 1], &[]).await?;
    let tree = side.tree(0, "/s13").await?;
    let n_files = tree.values().filter(|shown| *shown != "directory").count();
    if outcome.passes && n_files != 20 {
        return Ok(Outcome::fail(format!(
            "equal, but {n_files} files instead of 20"
        )));
    }
    Ok(outcome)
}

async fn s18(side: &mut Side) -> Result<Outcome> {
    let mut wanted = Vec::new();
    for filer in 0..3 {
        wanted.extend(fill(side, filer, &format!("/s18/before-{filer}"), 20).await?);
    }
    side.agree("/s18", &[0, 1, 2], &wanted).await?;
    side.filers[1].kill()?;
    side.filers[2].kill()?;
    let (old, new) = (side.ports[1], free_port()?);
    side.restart_at(1, new)?;
    side.restart_at(2, old)?;
    for filer in 1..3 {
        side.wait_serving(filer).await?;
    }
    for filer in 0..3 {
        wanted.extend(fill(side, filer, &format!("/s18/after-{filer}"), 20).await?);
    }
    side.agree("/s18", &[0, 1, 2], &wanted).await
}

async fn s22(side: &mut Side) -> Result<Outcome> {
    let paths: Vec<String> = (0..FILES).map(|n| format!("/s22/{}/{n}", n % 7)).collect();
    let written = futures::stream::iter(paths.iter().enumerate())
        .map(|(n, path)| side.put(n % 3, path, path.as_bytes()))
        .buffer_unordered(300);
    written.try_collect::<()>().await?;
    let outcome = side.agree("/s22", &[0, 1, 2], &paths).await?;
    if !outcome.passes {
        return Ok(outcome);
    }
    let wrong = futures::stream::iter(0..FILES * 3)
        .map(|n| {
            let (side, path) = (&*side, &paths[n / 3]);
            async move {
                let got = side.get(n % 3, path).await?;
                Ok::<bool, anyhow::Error>(got.as_deref() != Some(path.as_bytes()))
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_filter(|is_wrong| std::future::ready(*is_wrong));
    let n_wrong = wrong.try_collect::<Vec<bool>>().await?.len();
    if n_wrong > 0 {
        return Ok(Outcome::fail(format!(
            "{n_wrong} reads gave another content"
        )));
    }
    Ok(outcome)
}

async fn s23(side: &mut Side) -> Result<Outcome> {
    side.filers[1].freeze()?;
    let wanted = fill(side, 0, "/s23", MISSED).await?;
    side.filers[0].kill()?;
    side.filers[0].restart()?;
    side.filers[1].thaw()?;
    side.wait_serving(0).await?;
    side.agree("/s23", &[0, 1], &wanted).await
}

async fn s24(side: &mut Side, seed: u64) -> Result<Outcome> {
    let side = &*side;
    let until = Instant::now() + HOT_FOR;
    let writers = (0..3_usize).map(|filer| async move {
        let mut rng = StdRng::seed_from_u64(seed + filer as u64);
        let mut n_changes = 0_u64;
        while Instant::now() < until {
            let path = format!("/s24/{}", rng.random_range(0..HOT_PATHS));
            let other = format!("/s24/{}", rng.random_range(0..HOT_PATHS));
            // Losing a race is an answer, too: what counts is what all show in the end.
            let (method, path) = match rng.random_range(0..3) {
                0 => (Method::PUT, path),
                1 => (Method::DELETE, format!("{path}?recursive=true")),
                _ => (Method::POST, format!("{other}?mv.from={path}")),
            };
            let content = format!("{n_changes} of filer {filer}");
            side.ask(filer, method, &path, content.as_bytes()).await?;
            n_changes += 1;
        }
        Ok::<u64, anyhow::Error>(n_changes)
    });
    let mut n_changes = 0;
    for written in join_all(writers).await {
        n_changes += written?;
    }
    let mut outcome = side.agree("/s24", &[0, 1, 2], &[]).await?;
    outcome.seen = format!("{} ({n_changes} requests)", outcome.seen);
    Ok(outcome)
}

async fn s26(side: &mut Side) -> Result<Outcome> {
    side.filers[2].freeze()?;
    let wanted = fill(side, 0, "/s26", 200).await?;
    let arrived = side.agree("/s26", &[0, 1], &wanted).await?;
    anyhow::ensure!(arrived.passes, "they did not reach the first peer");
    side.filers[0].kill()?;
    side.wipe(0)?;
    side.filers[2].thaw()?;
    side.agree("/s26", &[1, 2], &wanted).await
}

async fn s27(side: &mut Side) -> Result<Outcome> {
    let mut wanted = Vec::new();
    for round in 0..20 {
        let made = (0..3_usize).map(|filer| {
            let side = &*side;
            async move {
                let path = format!("/s27/{round}");
                // Who comes late is told that it is there.
                side.ask(filer, Method::POST, &format!("{path}/"), b"")
                    .await?;
                let child = format!("{path}/child-{filer}");
                side.mkdir(filer, &child).await?;
                Ok::<String, anyhow::Error>(child)
            }
        });
        for made in join_all(made).await {
            wanted.push(made?);
        }
    }
    side.agree("/s27", &[0, 1, 2], &wanted).await
}

async fn s28(side: &mut Side) -> Result<Outcome> {
    side.mkdir(0, "/s28/a").await?;
    side.agree("/s28", &[0, 1], &[]).await?;
    let first = side.put(0, "/s28/a/b", b"a file");
    let second = side.put(1, "/s28/a/b/c", b"below it");
    let (_, second) = at_once(side, first, second).await?;
    // Who heard of the file first may refuse what is below it.
    let wanted: Vec<String> = second
        .is_ok()
        .then(|| "/s28/a/b/c".to_owned())
        .into_iter()
        .collect();
    side.agree("/s28", &[0, 1], &wanted).await
}
