// SPDX-License-Identifier: Apache-2.0
//! The filer's metrics: declared here, counted where things happen, gauges set when asked.

use std::collections::BTreeSet;

use dulse_replication::ClockJudgement;

use crate::shared::OnShared;
use crate::state::{Embedded, FilerState, Kept};

dulse_telemetry::declare! {
    REQUESTS: counter "SeaweedFS_filer_request_total", Count, ["type", "code"], Upstream,
        "HTTP requests by method and status.";
    REQUEST_SECONDS: histogram [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
        "SeaweedFS_filer_request_seconds", Seconds, ["type"], Upstream,
        "Time until the head of the answer of HTTP requests, by method.";
    READY: gauge "dulse_filer_ready", Flag, [], Stable,
        "Whether namespace calls are served.";
    ENTRIES: gauge "dulse_filer_entries", Count, [], Stable,
        "Live names, contents of hard-linked files and keys.";
    DIGEST: gauge "dulse_filer_digest", Opaque, [], Stable,
        "Low 48 bits of the digest: filers that agree show the same number.";
    CHANGES: counter "dulse_filer_changes_total", Count, [], Stable,
        "Changes applied since start, own and other filers'.";
    JOURNAL: gauge "dulse_journal_bytes", Bytes, [], Stable,
        "What the log takes on disk.";
    GARBAGE_WAITING: gauge "dulse_chunks_waiting", Count, [], Stable,
        "Dropped chunks that are not known to be freed, as of the last look, every 30 s.";
    GARBAGE_FREED: counter "dulse_chunks_freed_total", Count, [], Stable,
        "Dropped chunks that this filer freed.";
    GARBAGE_FAILED: counter "dulse_chunks_free_failed_total", Count, [], Stable,
        "Attempts to free a chunk that failed; they are repeated for ever.";
    GARBAGE_TOLD: counter "dulse_chunks_told_freed_total", Count, [], Stable,
        "Dropped chunks that this filer waits for no more, because the filer that frees them did.";
    MANIFESTS_UNREADABLE: gauge "dulse_chunk_manifests_unreadable", Count, [], Stable,
        "Files whose dropped chunks wait because a manifest could not be read in the last look.";
    MANIFESTS_GONE: counter "dulse_chunk_manifests_gone_total", Count, [], Stable,
        "Dropped manifests that were gone when they were to be read: what they listed may stay.";
    ENTRIES_EXPIRED: counter "dulse_entries_expired_total", Count, [], Stable,
        "Entries that this filer removed because their time to live was over.";
    VOLUMES_FAILING: gauge "dulse_chunks_failing_volumes", Count, [], Stable,
        "Volumes whose dropped chunks cannot be freed at present.";
    CONFLICTS: gauge "dulse_conflicts", Count, ["kind"], Stable,
        "Conflicts that are listed, by kind: data, shadow, and pending ones of either.";
    CONFLICTS_PINNED: gauge "dulse_conflicts_pinned_bytes", Bytes, [], Stable,
        "Bytes of content that lost and is kept for as long as its conflict is listed.";
    PEERS: gauge "dulse_peers", Count, ["state"], Stable,
        "Other filers by state: connecting, streaming, foreign, refused, stuck; on a shared store connecting, streaming, left, foreign, misfit.";
    MEMBERS: gauge "dulse_members", Count, ["state"], Stable,
        "Members of the filers' cluster by state: live (this one included), silent; and former \
         ones: left, fenced, removed.";
    FEEDS: gauge "dulse_replication_feeds", Count, [], Stable,
        "Streams of changes that other filers pull from here.";
    LAG_CHANGES: gauge "dulse_peer_lag_changes", Count, ["peer"], Stable,
        "Changes of another filer that are known to be missing here.";
    LAG_BYTES: gauge "dulse_peer_lag_bytes", Bytes, ["peer"], Stable,
        "About how many bytes of another filer's changes are missing here.";
    STUCK: gauge "dulse_stuck_filers", Count, [], Stable,
        "Filers of which a change cannot be applied here; `dulse status` says which and why.";
    LOG_HELD: gauge "dulse_log_held_seconds", Seconds, [], Stable,
        "Between the newest change and what the member that lags most has on disk: logs are kept from there.";
    SAFE_TO_STOP: gauge "dulse_filer_safe_to_stop", Flag, [], Stable,
        "Whether this filer may be stopped: another member that answers has everything on disk, and nobody waits for this one.";
    LAG_SECONDS: gauge "dulse_peer_lag_seconds", Seconds, ["peer"], Stable,
        "Time between the last applied change of another filer and its last one.";
    CLOCK_LEAD: gauge "dulse_clock_lead_seconds", Seconds, [], Stable,
        "How far the wall clock leads most of the other filers' and the master's; negative when it is behind, 0 when nobody can tell.";
    CLOCK_REFUSES: gauge "dulse_clock_refuses", Flag, [], Stable,
        "Whether local writes are refused because of the wall clock.";
    JOURNAL_FAILED: gauge "dulse_journal_failed", Flag, [], Stable,
        "Whether the log could not be written or synced: this filer takes no changes until it is restarted.";
    ENGINE_FAILED: gauge "dulse_engine_failed", Flag, [], Stable,
        "Whether the engine did not take in what the log has: writes are refused until it does; after a failed sync that takes a restart.";
    MISFITS: gauge "dulse_misfit_filers", Count, [], Stable,
        "Filers of this group that cannot be in it with this one: a shared store beside embedded ones, another shared store, or another table of directories with stores of their own.";
    SHARED_ANSWERS: gauge "dulse_shared_store_answers", Flag, [], Stable,
        "Whether the databases of shared stores, those of directories too, answered in the last 5 s.";
    UNSETTLED: gauge "dulse_unsettled_changes", Count, [], Stable,
        "Changes that were begun on shared stores and of which the database has not said yet what became of them. They are ended and told when it does; until then the log keeps what is behind them.";
    HEARD: counter "dulse_announcements_heard_total", Count, [], Stable,
        "Changes that other filers on the shared store announced and this one took in.";
    GATHERED: gauge "dulse_announcements_heard_bytes", Bytes, [], Stable,
        "What other filers' announcements take on disk here.";
    SUBSCRIBERS: gauge "dulse_subscribers", Count, [], Stable,
        "Open metadata subscriptions.";
    EVENTS_LATE: counter "dulse_events_late_total", Count, [], Stable,
        "Events that came after later ones were sent, and were sent with a raised time.";
    SUBSCRIPTIONS_TOO_OLD: counter "dulse_subscriptions_too_old_total", Count, [], Stable,
        "Subscriptions that asked for more than the log holds.";
    TRANSFER_ROWS: gauge "dulse_transfer_rows", Count, [], Evolving,
        "Rows taken in by a running bootstrap; 0 when none runs.";
    TRANSFER_ROWS_TOTAL: gauge "dulse_transfer_rows_expected", Count, [], Evolving,
        "Rows that a running bootstrap expects in all; 0 when none runs.";
}

/// States of a peer, each with a row of its own also when nobody is in it.
const PEER_STATES: [&str; 5] = ["connecting", "streaming", "foreign", "refused", "stuck"];

/// The same of a filer on the same shared store.
const OTHER_STATES: [&str; 5] = ["connecting", "streaming", "left", "foreign", "misfit"];

/// States of a member, likewise.
const MEMBER_STATES: [&str; 5] = ["live", "silent", "left", "fenced", "removed"];

/// Bits of a digest that a floating-point number holds exactly.
const DIGEST_BITS: u32 = 48;

/// Sets the gauges from the filer's state; `seen` are the peers shown so far. Cost: a few locks.
pub(crate) fn observe(state: &FilerState, seen: &mut BTreeSet<String>) {
    READY.set(f64::from(u8::from(state.not_ready().is_none())));
    SUBSCRIBERS.set(state.subscribers.list(&[]).len() as f64);
    match &state.kept {
        Kept::Embedded(own) => observe_embedded(own, seen),
        Kept::Shared(on) => observe_shared(on),
    }
    observe_journals(state);
}

/// Journals of every kind, and whether one could not be written.
fn observe_journals(state: &FilerState) {
    let (mut n_bytes, mut has_failed, mut n_gathered, mut n_unsettled) = (0, false, 0, 0);
    if let Kept::Embedded(own) = &state.kept {
        let journal = own.store.shared().journal();
        n_bytes += journal.size_bytes();
        has_failed |= journal.is_poisoned();
    }
    for on in state.all_shared() {
        n_bytes += on.store.journal_bytes();
        has_failed |= on.store.journal_failed();
        n_gathered += on.gathered_bytes();
        n_unsettled += on.store.n_unsettled();
    }
    JOURNAL.set(n_bytes as f64);
    JOURNAL_FAILED.set(f64::from(u8::from(has_failed)));
    if state.all_shared().next().is_some() {
        GATHERED.set(n_gathered as f64);
        UNSETTLED.set(n_unsettled as f64);
        let answers = state.all_shared().all(|on| on.answers());
        SHARED_ANSWERS.set(f64::from(u8::from(answers)));
    }
}

fn observe_shared(on: &OnShared) {
    let others = on.others.all();
    for named in OTHER_STATES {
        let count = others.iter().filter(|o| o.state.as_str() == named).count();
        PEERS.gauge(&[("state", named)]).set(count as f64);
    }
}

fn observe_embedded(own: &Embedded, seen: &mut BTreeSet<String>) {
    let shared = own.store.shared();
    let (_, sum) = shared.digest();
    ENTRIES.set(sum.count as f64);
    DIGEST.set((sum.sum & ((1 << DIGEST_BITS) - 1)) as f64);
    CHANGES.total(own.store.progress().borrow().n_changes);
    ENGINE_FAILED.set(f64::from(u8::from(shared.is_behind())));
    dulse_replica::metrics::WAITING.set(own.store.n_waiting() as f64);
    dulse_replica::metrics::PEERS_WAITING.set(own.store.n_awaited() as f64);
    let clock = own.replicator.clock();
    CLOCK_LEAD.set(lead_seconds(clock));
    CLOCK_REFUSES.set(f64::from(u8::from(clock.refuses())));
    let conflicts = shared.conflict_counts();
    for (kind, count) in [
        ("data", conflicts.n_data),
        ("shadow", conflicts.n_shadows),
        ("pending", conflicts.n_pending),
    ] {
        CONFLICTS.gauge(&[("kind", kind)]).set(count as f64);
    }
    CONFLICTS_PINNED.set(conflicts.pinned_bytes as f64);
    let peers = own.replicator.peers();
    for named in PEER_STATES {
        let count = peers.iter().filter(|p| p.state.as_str() == named).count();
        PEERS.gauge(&[("state", named)]).set(count as f64);
    }
    let met = peers.iter().filter(|p| p.origin.0 != 0);
    seen.extend(met.map(|peer| peer.address.http()));
    for address in seen.iter() {
        // A peer that is gone or moved keeps its row, without a lag.
        let peer = peers.iter().find(|p| p.address.http() == *address);
        let labels = [("peer", address.clone())];
        let (changes, seconds) = peer.map_or((0, 0.0), |p| (p.lag_changes, p.lag_seconds));
        LAG_CHANGES.gauge(&labels).set(changes as f64);
        LAG_SECONDS.gauge(&labels).set(seconds);
        LAG_BYTES
            .gauge(&labels)
            .set(peer.map_or(0, |p| p.lag_bytes) as f64);
    }
    let members = own.replicator.members();
    for named in MEMBER_STATES {
        let count = members.iter().filter(|m| m.state.as_str() == named).count();
        MEMBERS.gauge(&[("state", named)]).set(count as f64);
    }
    STUCK.set(own.replicator.stuck().len() as f64);
    LOG_HELD.set(crate::status::log_holder(own).map_or(0.0, |holder| holder.seconds));
    SAFE_TO_STOP.set(f64::from(u8::from(
        own.replicator.why_not_stop().is_empty(),
    )));
    FEEDS.set(own.replicator.n_feeds() as f64);
    let transfer = own.replicator.transfer().unwrap_or_default();
    TRANSFER_ROWS.set(transfer.rows as f64);
    TRANSFER_ROWS_TOTAL.set(transfer.rows_total as f64);
}

/// How far the wall clock leads, in seconds; 0 where nobody can tell.
pub(crate) fn lead_seconds(clock: ClockJudgement) -> f64 {
    match clock {
        ClockJudgement::Known { lead_ns, .. } => lead_ns as f64 / 1e9,
        ClockJudgement::Free | ClockJudgement::Held => 0.0,
    }
}
