// SPDX-License-Identifier: Apache-2.0
//! Metrics of the sequencer: its queue, trees that it changes in parts, conflicts.

dulse_telemetry::declare! {
    GROUP: histogram [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]
        "dulse_commit_group_size", Count, [], Stable,
        "Transactions that share one append, one sync and one batch; the sum is all of them.";
    WAITING: gauge "dulse_commit_queue", Count, [], Stable,
        "Requests that wait for the sequencer.";
    REFUSED: counter "dulse_commit_refused_total", Count, [], Stable,
        "Requests refused because too many were waiting.";
    CLOCK_REFUSED: counter "dulse_clock_refused_total", Count, [], Stable,
        "Local writes refused because this filer's clock leads most of the others, or is not judged yet.";
    PEERS_WAITING: gauge "dulse_peers_wait", Count, [], Stable,
        "Writes in the log whose answer waits until other filers have them on disk.";
    PEERS_SECONDS: histogram [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
        "dulse_peers_wait_seconds", Seconds, [], Stable,
        "Time between a write's being in the log here and on disk at as many other filers as asked.";
    PEERS_REFUSED: counter "dulse_peers_refused_total", Count, [], Stable,
        "Writes refused because fewer filers were connected than their durability asks for.";
    PEERS_UNKNOWN: counter "dulse_peers_unknown_total", Count, [], Stable,
        "Writes in the log that too few other filers acknowledged in time; their outcome was told as unknown.";
    TREES_OPEN: gauge "dulse_tree_changes_open", Count, [], Stable,
        "Trees that are being moved or removed in parts.";
    TREES_WAITING: gauge "dulse_tree_waiting", Count, [], Stable,
        "Local writes that wait until a tree change is done.";
    TREES_REFUSED: counter "dulse_tree_refused_total", Count, [], Stable,
        "Local writes refused because a tree change took too long, or too many waited.";
    TREE_PARTS: counter "dulse_tree_parts_total", Count, [], Stable,
        "Parts of tree changes done since start.";
    TREE_NAMES: counter "dulse_tree_names_total", Count, [], Stable,
        "Names that those parts moved or removed.";
    CONFLICTS_RECORDED: counter "dulse_conflicts_recorded_total", Count, ["kind"], Stable,
        "Conflicts that this filer recorded: data that lost, or a name that another one shadows.";
    CONFLICTS_WITHDRAWN: counter "dulse_conflicts_withdrawn_total", Count, [], Stable,
        "Conflicts that this filer withdrew because what had lost is part of what is current.";
    CONFLICTS_EXPIRED: counter "dulse_conflicts_expired_total", Count, [], Stable,
        "Conflicts that this filer let go because they were too old or too many.";
}
