// SPDX-License-Identifier: Apache-2.0
//! `dulse status`: what every filer says of itself, and whether they agree.

pub(crate) mod ask;
pub(crate) mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use dulse_types::ServerAddress;

use report::{Cluster, Filer, Peer, TreeChange};

/// All of a status, the master's answer and the filers' together.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_millis(1_800);

/// Arguments of `dulse status`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit code: 0 when the state could be shown, whatever it is (see `converged`); 2 \
                  when the call cannot work as typed; 3 when no master answers."
)]
pub(crate) struct StatusArgs {
    /// Masters, `host:port`, a comma list
    #[arg(long, default_value = "127.0.0.1:9333", value_delimiter = ',')]
    pub(crate) master: Vec<ServerAddress>,
    /// The filers' group
    #[arg(long, default_value = "")]
    pub(crate) filer_group: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Prints the state of the cluster.
///
/// # Errors
///
/// When no master answers.
pub(crate) async fn status(args: StatusArgs) -> Result<()> {
    let until = Instant::now() + ANSWER_TIME_MAX;
    let cluster = ask::cluster(&args.master, &args.filer_group, until).await?;
    let text = match args.format {
        Format::Json => serde_json::to_string_pretty(&cluster).context("write JSON")?,
        Format::Text => text(&cluster),
    };
    println!("{}", text.trim_end());
    Ok(())
}

fn text(cluster: &Cluster) -> String {
    let filers = cluster.filers.iter().map(filer_text);
    let missing = cluster
        .unreachable
        .iter()
        .map(|missing| format!("{}  DOWN: {}\n", missing.address, missing.error));
    let gone = cluster.gone.iter().map(|gone| match gone.address.as_str() {
        "" => format!("{}  gone: {}\n", gone.origin, gone.state),
        address => format!(
            "{address}  gone: {}\n  origin {}\n",
            gone.state, gone.origin
        ),
    });
    let foreign = cluster.foreign.iter().map(|foreign| {
        let store = match cluster.is_on_our_store(foreign) {
            true => "on the same store",
            false => "on a store of its own",
        };
        format!(
            "{}  upstream's filer {}, {store} (store id {})\n",
            foreign.address, foreign.version, foreign.store_id
        )
    });
    let all = filers.chain(foreign).chain(missing).chain(gone);
    let mut text: String = all.collect();
    match cluster.why_not_converged() {
        None => text.push_str("converged: true"),
        Some(why) => text.push_str(&format!("converged: false ({why})")),
    }
    text
}

fn filer_text(filer: &Filer) -> String {
    let ready = match filer.ready {
        true => "ready".to_owned(),
        false => format!("not ready: {}", filer.not_ready_reason),
    };
    if filer.is_shared() {
        let own = filer.vector.get(&filer.origin).map_or("0", String::as_str);
        let text = format!(
            "{}  {} (shared, {})  {ready}\n  origin {}  dropped chunks {}  announced {own}\n",
            filer.address, filer.engine, filer.store_place, filer.origin, filer.garbage_chunks,
        );
        let peers = filer.peers.iter().map(peer_text);
        return peers.fold(text + &notes(filer), |text, peer| text + &peer);
    }
    let vector: Vec<_> = filer
        .vector
        .iter()
        .map(|(o, s)| format!("{o}:{s}"))
        .collect();
    let mut text = format!(
        "{}  {}  {ready}\n  origin {}  entries {}  dropped chunks {}  conflicts {}\n  digest {}\n  vector {}\n",
        filer.address,
        filer.engine,
        filer.origin,
        filer.entries,
        filer.garbage_chunks,
        filer.conflicts.total(),
        filer.digest,
        vector.join(" "),
    );
    if !filer.store_place.is_empty() {
        text.push_str(&format!("  directories: {}\n", filer.store_place));
    }
    if let Some(transfer) = &filer.transfer {
        text.push_str(&format!(
            "  transfer {} of about {} rows, {} bytes, {:.0} s left\n",
            transfer.rows, transfer.rows_total, transfer.bytes, transfer.eta_seconds
        ));
    }
    text.extend(filer.tree_changes.iter().map(tree_text));
    if filer.divergent_peers > 0 {
        text.push_str(&format!(
            "  repair: {} filers have the same changes and another digest\n",
            filer.divergent_peers
        ));
    }
    let scrub = &filer.scrub;
    if scrub.running || scrub.found > 0 {
        let state = if scrub.running { "running" } else { "done" };
        text.push_str(&format!(
            "  scrub {state}: {} rows, {} places damaged, {} not repaired\n",
            scrub.rows, scrub.found, scrub.unrepaired
        ));
    }
    text.push_str(&notes(filer));
    filer
        .peers
        .iter()
        .map(peer_text)
        .fold(text, |text, peer| text + &peer)
}

fn tree_text(tree: &TreeChange) -> String {
    let what = match tree.to.as_str() {
        "" => format!("removing {}", tree.path),
        to => format!("moving {} to {to}", tree.path),
    };
    let left = match tree.left {
        0 => String::new(),
        left => format!(", {left} stay"),
    };
    let state = match tree.reason.as_str() {
        "" => tree.state.clone(),
        reason => format!("{}: {reason}", tree.state),
    };
    format!("  {what}: {} names so far{left}, {state}\n", tree.names)
}

/// What an operator should know of a filer beside its figures.
fn notes(filer: &Filer) -> String {
    let mut notes = Vec::new();
    for stuck in &filer.stuck {
        notes.push(format!(
            "waits: changes of {}: {}",
            stuck.origin, stuck.reason
        ));
    }
    if let Some(holder) = filer
        .log_holder
        .as_ref()
        .filter(|holder| holder.seconds >= 1.0)
    {
        notes.push(format!(
            "the log is kept for {} ({}), {:.0} s back",
            holder.address, holder.state, holder.seconds
        ));
    }
    if filer.log_failed {
        let said = "writes are refused: its log could not be written or synced; restart it";
        notes.push(said.to_owned());
    }
    if filer.engine_failed {
        let said = "writes are refused: its engine does not take in what the log has; when that \
            lasts, look at its disk and restart it";
        notes.push(said.to_owned());
    }
    if filer.clock_refuses {
        notes.push(format!(
            "writes are refused: its clock leads by {:.3} s",
            filer.clock_lead_seconds
        ));
    }
    if filer.writes_awaited > 0 {
        notes.push(format!(
            "{} writes wait for other filers",
            filer.writes_awaited
        ));
    }
    notes.push(match filer.safe_to_stop {
        true => "safe to stop: yes".to_owned(),
        false => format!("safe to stop: no ({})", filer.not_safe_to_stop.join("; ")),
    });
    notes
        .into_iter()
        .map(|note| format!("  {note}\n"))
        .collect()
}

fn peer_text(peer: &Peer) -> String {
    let error = match peer.last_error.as_str() {
        "" => String::new(),
        error => format!(", {error}"),
    };
    format!(
        "  peer {}  {}  {}, {} changes, about {} bytes and {:.3} s behind it{error}\n",
        peer.address, peer.origin, peer.state, peer.lag_changes, peer.lag_bytes, peer.lag_seconds
    )
}
