// SPDX-License-Identifier: Apache-2.0
//! The scenarios. Each gets a fresh cluster and a seed, and judges by what was acknowledged.

mod events;
mod returning;
mod trees;

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::{LocalBoxFuture, join_all};
use futures::{FutureExt, StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;

use super::{Outcome, Side};

/// How long hot paths are written to.
const HOT_FOR: Duration = Duration::from_secs(20);

/// Paths that everyone writes to.
const HOT_PATHS: usize = 20;

/// Requests under way at once.
const AT_ONCE: usize = 64;

/// Until then a request has reached the queue of a frozen filer.
const UNDER_WAY: Duration = Duration::from_millis(500);

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
            |s, _| returning::s01(s).boxed_local(),
        ),
        row(
            "S02",
            "the master is gone while a filer restarts: each sees what the other writes",
            2,
            |s, _| returning::s02(s).boxed_local(),
        ),
        row(
            "S04",
            "a subscriber that reads 500 events a second while two filers write: it gets every event",
            2,
            |s, _| events::s04(s).boxed_local(),
        ),
        row(
            "S05",
            "a subscriber that connected before any peer was there sees a later peer's events",
            1,
            |s, _| events::s05(s).boxed_local(),
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
            |s, _| returning::s07(s).boxed_local(),
        ),
        row(
            "S08",
            "one filer's store is wiped while the other writes: everything is there again",
            2,
            |s, _| returning::s08(s).boxed_local(),
        ),
        row(
            "S10",
            "a filer's store is put back as it was some time ago: what it wrote since is there again",
            2,
            |s, _| returning::s10(s).boxed_local(),
        ),
        row(
            "S11",
            "a directory of 10,000 is renamed, kill -9 in the middle, restart: each entry at one place, all listed",
            2,
            |s, seed| trees::s11(s, seed).boxed_local(),
        ),
        row(
            "S12",
            "a directory is deleted at one filer while another, which does not know of it, creates in it: the new entry survives",
            2,
            |s, _| trees::s12(s).boxed_local(),
        ),
        row(
            "S13",
            "one directory is renamed to two names at two filers at once: each file once",
            2,
            |s, _| trees::s13(s).boxed_local(),
        ),
        row(
            "S15",
            "300 subscribers lose their filer and come back at once: all see the next event",
            1,
            |s, _| events::s15(s).boxed_local(),
        ),
        row(
            "S18",
            "a filer gets a new address, another one takes its old one: both complete",
            3,
            |s, _| returning::s18(s).boxed_local(),
        ),
        row(
            "S19",
            "each of three filers is stopped and started again under load: all that was acknowledged is there",
            3,
            |s, _| returning::s19(s).boxed_local(),
        ),
        row(
            "S20",
            "one entry of 12 MiB, and small ones behind it: all of them arrive",
            2,
            |s, _| events::s20(s).boxed_local(),
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
            |s, _| returning::s23(s).boxed_local(),
        ),
        row(
            "S24",
            "20 hot paths created, deleted and renamed at three filers for 20 s: equal",
            3,
            |s, seed| s24(s, seed).boxed_local(),
        ),
        row(
            "S25",
            "a file is written at one filer and renamed at another at once: what was written is at the new name",
            2,
            |s, _| trees::s25(s).boxed_local(),
        ),
        row(
            "S26",
            "a filer's changes reached one of two peers, then its machine is gone: the other peer gets them",
            3,
            |s, _| returning::s26(s).boxed_local(),
        ),
        row(
            "S27",
            "one directory made at three filers at once with a child each: one directory, all children",
            3,
            |s, _| trees::s27(s).boxed_local(),
        ),
        row(
            "S28",
            "a file at /a/b here and /a/b/c there at once: equal, what was acknowledged below is there",
            2,
            |s, _| trees::s28(s).boxed_local(),
        ),
        row(
            "S29",
            "two of three hard links are removed at two filers at once: the third has the content and counts one",
            2,
            |s, _| trees::s29(s).boxed_local(),
        ),
    ]
}

/// Makes directories, all acknowledged; gives their paths.
async fn fill(side: &Side, filer: usize, dir: &str, n: usize) -> Result<Vec<String>> {
    let paths: Vec<String> = (0..n).map(|i| format!("{dir}/{i}")).collect();
    make(side, filer, &paths).await?;
    Ok(paths)
}

/// Makes these directories, many at once, all acknowledged.
async fn make(side: &Side, filer: usize, paths: &[String]) -> Result<()> {
    futures::stream::iter(paths)
        .map(|path| side.mkdir(filer, path))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
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
