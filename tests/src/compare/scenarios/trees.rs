// SPDX-License-Identifier: Apache-2.0
//! Changes of directories, names and links that race.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;

use super::{Outcome, Side, UNDER_WAY, at_once, fill};
use crate::links::{count, link, unlink};

/// Entries of a directory that is renamed.
const MOVED: usize = 10_000;

pub(super) async fn s11(side: &mut Side, seed: u64) -> Result<Outcome> {
    let names: Vec<String> = (0..MOVED).map(|n| n.to_string()).collect();
    fill(side, 0, "/s11/old", MOVED).await?;
    side.agree("/s11", &[0, 1], &[]).await?;
    let client = side.client();
    let moving = tokio::spawn(async move { client.rename(0, "/s11/old", "/s11/new").await });
    let middle = StdRng::seed_from_u64(seed).random_range(50..400);
    tokio::time::sleep(Duration::from_millis(middle)).await;
    side.filers[0].kill()?;
    let is_answered = moving.await?.is_ok();
    side.filers[0].restart()?;
    side.wait_serving(0).await?;
    // What goes on after the restart goes on for a moment.
    tokio::time::sleep(UNDER_WAY * 10).await;
    let mut outcome = side.agree("/s11", &[0, 1], &[]).await?;
    let tree = side.tree(0, "/s11").await?;
    let is_at = |dir: &str, name: &String| tree.contains_key(&format!("/s11/{dir}/{name}"));
    let places = |name| usize::from(is_at("old", name)) + usize::from(is_at("new", name));
    let n_lost = names.iter().filter(|name| places(name) == 0).count();
    let n_doubled = names.iter().filter(|name| places(name) == 2).count();
    let n_old = names.iter().filter(|name| is_at("old", name)).count();
    if n_lost + n_doubled > 0 {
        return Ok(Outcome::fail(format!(
            "{n_lost} entries are at neither place, {n_doubled} at both ({})",
            outcome.seen
        )));
    }
    if is_answered && n_old > 0 {
        return Ok(Outcome::fail(format!(
            "acknowledged, and {n_old} not moved"
        )));
    }
    if n_old > 0 && n_old < MOVED {
        return Ok(Outcome::fail(format!(
            "{n_old} of {MOVED} are left at the old place and nobody goes on"
        )));
    }
    outcome.seen = format!("{}, {n_old} at the old place", outcome.seen);
    Ok(outcome)
}

pub(super) async fn s12(side: &mut Side) -> Result<Outcome> {
    fill(side, 0, "/s12/dir", 50).await?;
    side.agree("/s12", &[0, 1], &[]).await?;
    let first = side.delete(0, "/s12/dir");
    let second = side.put(1, "/s12/dir/late", b"what the delete had not seen");
    // Who deletes may be told that something is left.
    let (_, second) = at_once(side, first, second).await?;
    second?;
    side.agree("/s12", &[0, 1], &["/s12/dir/late".to_owned()])
        .await
}

pub(super) async fn s13(side: &mut Side) -> Result<Outcome> {
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

pub(super) async fn s25(side: &mut Side) -> Result<Outcome> {
    let new = b"what was written while it was renamed".as_slice();
    side.put(0, "/s25/old", b"as it was").await?;
    side.agree("/s25", &[0, 1], &[]).await?;
    let first = side.rename(0, "/s25/old", "/s25/new");
    let second = side.put(1, "/s25/old", new);
    let (first, second) = at_once(side, first, second).await?;
    first.and(second)?;
    let outcome = side
        .agree("/s25", &[0, 1], &["/s25/new".to_owned()])
        .await?;
    for filer in 0..2 {
        let shown = side.get(filer, "/s25/new").await?;
        if outcome.passes && shown.as_deref() != Some(new) {
            let tree = side.tree(filer, "/s25").await?;
            let paths: Vec<&str> = tree.keys().map(String::as_str).collect();
            return Ok(Outcome::fail(format!(
                "equal, but the new name has the old content; there are {}",
                paths.join(" and ")
            )));
        }
    }
    Ok(outcome)
}

pub(super) async fn s27(side: &mut Side) -> Result<Outcome> {
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

pub(super) async fn s28(side: &mut Side) -> Result<Outcome> {
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

pub(super) async fn s29(side: &mut Side) -> Result<Outcome> {
    let content = b"of three names".as_slice();
    side.put(0, "/s29/a", content).await?;
    let mut filer = side.grpc(0).await?;
    link(&mut filer, "/s29", "a", "b").await?;
    link(&mut filer, "/s29", "a", "c").await?;
    let all = ["a", "b", "c"].map(|name| format!("/s29/{name}"));
    let linked = side.agree("/s29", &[0, 1], &all).await?;
    ensure!(linked.passes, "links do not arrive: {}", linked.seen);
    let mut other = side.grpc(1).await?;
    let first = unlink(&mut filer, "/s29", "a", false);
    let second = unlink(&mut other, "/s29", "b", false);
    let (first, second) = at_once(side, first, second).await?;
    first.and(second)?;
    let outcome = side.agree("/s29", &[0, 1], &all[2..]).await?;
    for (at, filer) in [&mut filer, &mut other].into_iter().enumerate() {
        let n_names = count(filer, "/s29", "c").await?;
        let got = side.get(at, "/s29/c").await?;
        if outcome.passes && (n_names != 1 || got.as_deref() != Some(content)) {
            let n_bytes = got.map_or(0, |c| c.len());
            return Ok(Outcome::fail(format!(
                "filer {at} counts {n_names} names and gives {n_bytes} bytes"
            )));
        }
    }
    Ok(outcome)
}
