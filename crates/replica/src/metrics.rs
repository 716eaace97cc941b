// SPDX-License-Identifier: Apache-2.0
//! Metrics of the sequencer's queue.

dulse_telemetry::declare! {
    GROUP: histogram [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]
        "dulse_commit_group_size", Count, [], Stable,
        "Transactions that share one append, one sync and one batch; the sum is all of them.";
    WAITING: gauge "dulse_commit_queue", Count, [], Stable,
        "Requests that wait for the sequencer.";
    REFUSED: counter "dulse_commit_refused_total", Count, [], Stable,
        "Requests refused because too many were waiting.";
}
