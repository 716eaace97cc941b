// SPDX-License-Identifier: Apache-2.0
//! The volume server's metrics: declared here, gauges set when asked.

use std::collections::BTreeMap;

use crate::store::Store;

dulse_telemetry::declare! {
    REQUESTS: counter "SeaweedFS_volumeServer_request_total", Count, ["type", "code"], Upstream,
        "HTTP requests by method and status.";
    REQUEST_SECONDS: histogram [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
        "SeaweedFS_volumeServer_request_seconds", Seconds, ["type"], Upstream,
        "Time until the head of the answer of HTTP requests, by method.";
    VOLUMES: gauge "SeaweedFS_volumeServer_volumes", Count, ["collection", "type"], Upstream,
        "Volumes by collection; the type is volume.";
    MAX_VOLUMES: gauge "SeaweedFS_volumeServer_max_volumes", Count, [], Upstream,
        "Volumes that this server takes.";
    INVALID_NEEDLES: counter "SeaweedFS_volumeServer_file_read_invalid_needles", Count, [], Upstream,
        "Reads of needles whose bytes did not check out; nothing of them was served.";
    READ_FAILURES: counter "SeaweedFS_volumeServer_file_read_failures", Count, [], Upstream,
        "Reads that the disk failed.";
    WRITE_FAILURES: counter "SeaweedFS_volumeServer_file_write_failures", Count, [], Upstream,
        "Writes that failed.";
    NEEDLES: gauge "dulse_volume_needles", Count, [], Stable,
        "Needles that are there.";
    NEEDLES_DELETED: gauge "dulse_volume_needles_deleted", Count, [], Stable,
        "Deleted needles whose bytes are still in their volumes.";
    BYTES: gauge "dulse_volume_bytes", Bytes, [], Stable,
        "What the volumes take on disk, deleted needles included.";
    BYTES_DELETED: gauge "dulse_volume_bytes_deleted", Bytes, [], Stable,
        "What of that deleted needles take.";
    READ_ONLY: gauge "dulse_volume_read_only", Count, [], Stable,
        "Volumes that take no writes.";
}

/// Sets the gauges. Cost: one look at every volume.
pub(crate) fn observe(store: &Store, max_volumes: u32) {
    let mut by_collection: BTreeMap<String, u32> = BTreeMap::new();
    let (mut needles, mut deleted, mut bytes, mut deleted_bytes, mut read_only) = (0, 0, 0, 0, 0);
    for volume in store.all() {
        let figures = volume.figures();
        *by_collection
            .entry(volume.kind.collection.clone())
            .or_default() += 1;
        needles += figures.n_files;
        deleted += figures.n_deleted;
        bytes += figures.size;
        deleted_bytes += figures.deleted_bytes;
        read_only += u32::from(figures.is_read_only);
    }
    for (collection, count) in by_collection {
        let labels = [("collection", collection), ("type", "volume".to_owned())];
        VOLUMES.gauge(&labels).set(f64::from(count));
    }
    MAX_VOLUMES.set(f64::from(max_volumes));
    NEEDLES.set(needles as f64);
    NEEDLES_DELETED.set(deleted as f64);
    BYTES.set(bytes as f64);
    BYTES_DELETED.set(deleted_bytes as f64);
    READ_ONLY.set(f64::from(read_only));
    dulse_telemetry::process::observe_disk("volume", store.dir());
}
