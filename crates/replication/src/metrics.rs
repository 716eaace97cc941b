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
    RENEWED: counter "dulse_origins_renewed_total", Count, [], Stable,
        "New origins that this store was prepared for: after it was fenced, removed, set back or copied.";
    REISSUED: counter "dulse_reissued_total", Count, ["outcome"], Stable,
        "Names and keys that only this store had when it took a new origin: made anew, there already, or recorded as a conflict.";
    SENT: counter "dulse_replication_sent_total", Count, [], Stable,
        "Changes sent to other filers.";
    DIVERGED: gauge "dulse_divergent_peers", Count, [], Stable,
        "Filers with the same vector and another digest now: I1 is violated, repair goes on.";
    ROUNDS: counter "dulse_repair_rounds_total", Count, [], Stable,
        "Rounds of repair against another filer.";
    REPAIRED: counter "dulse_repaired_rows_total", Count, [], Stable,
        "Rows and digest rows that repair made other than they were.";
    REPAIR_BYTES: counter "dulse_repair_received_bytes_total", Bytes, [], Stable,
        "Sums, hashes and rows that repair fetched.";
    SCRUBBED: counter "dulse_scrub_rows_total", Count, [], Stable,
        "Rows that the scrub looked at.";
    SCRUB_FOUND: counter "dulse_scrub_damage_total", Count, [], Stable,
        "Directories and rows that the scrub found damaged. Anything above 0 asks for a look at the disk.";
    SCRUB_UNREPAIRED: gauge "dulse_scrub_unrepaired", Count, [], Stable,
        "Places that the last pass found damaged and could not repair.";
}
