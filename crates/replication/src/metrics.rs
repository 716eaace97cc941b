// SPDX-License-Identifier: Apache-2.0
//! Metrics of keeping in step.

dulse_telemetry::declare! {
    RECEIVED: counter "dulse_replication_changes_total", Count, [], Stable,
        "Changes of other filers that arrived here, those known already included.";
    STUCK: counter "dulse_replication_stuck_total", Count, [], Stable,
        "Batches with a change that could not be applied; its filer's stream waits.";
    DIVERGENCE: counter "dulse_divergence_total", Count, [], Stable,
        "Heartbeats with the same vector and another digest. Anything above 0 is a defect.";
    FENCED: counter "dulse_members_fenced_total", Count, [], Stable,
        "Members that this filer shut out because they were silent for too long.";
    SENT: counter "dulse_replication_sent_total", Count, [], Stable,
        "Changes sent to other filers.";
}
