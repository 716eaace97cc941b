// SPDX-License-Identifier: Apache-2.0
//! The master's metrics: declared here, gauges set when asked.

use std::sync::Arc;

use crate::service::State;

dulse_telemetry::declare! {
    IS_LEADER: gauge "SeaweedFS_master_is_leader", Flag, [], Upstream,
        "Whether this master leads; alone it does.";
    HEARTBEATS: counter "SeaweedFS_master_received_heartbeats", Count, ["type"], Upstream,
        "Heartbeats of volume servers; the type is total.";
    PICK_ERRORS: counter "SeaweedFS_master_pick_for_write_error", Count, [], Upstream,
        "Assignments that failed.";
    GROWN: counter "SeaweedFS_master_volume_creation_total", Count, ["result"], Upstream,
        "Volumes made, by success or failure.";
    REQUESTS: counter "dulse_master_http_requests_total", Count, ["type", "code"], Stable,
        "HTTP requests by method and status.";
    REQUEST_SECONDS: histogram [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
        "dulse_master_http_request_seconds", Seconds, ["type"], Stable,
        "Time until the head of the answer of HTTP requests, by method.";
    ASSIGNED: counter "dulse_master_assigned_ids_total", Count, [], Stable,
        "File ids given out.";
    CLIENTS: gauge "dulse_master_clients", Count, ["type"], Stable,
        "Connected filers and other clients.";
    MEMBERS: gauge "dulse_master_known_members", Count, [], Stable,
        "Filers remembered as members of a cluster, all groups together.";
    SERVERS: gauge "dulse_master_volume_servers", Count, [], Stable,
        "Connected volume servers.";
    VOLUMES: gauge "dulse_master_volumes", Count, [], Stable,
        "Copies of volumes at connected servers.";
    VOLUMES_MAX: gauge "dulse_master_volumes_max", Count, [], Stable,
        "Copies of volumes that connected servers take.";
    VOLUME_BYTES: gauge "dulse_master_volume_bytes", Bytes, [], Stable,
        "What these copies take.";
}

/// Sets the gauges. Cost: one look at every volume.
pub(crate) fn observe(state: &Arc<State>) {
    IS_LEADER.set(1.0);
    {
        let topology = state.topology.lock();
        let nodes = || topology.nodes.values();
        let volumes = || nodes().flat_map(|node| node.volumes.values());
        let max = nodes().flat_map(|node| node.max_volumes.values());
        SERVERS.set(nodes().count() as f64);
        VOLUMES.set(volumes().count() as f64);
        VOLUMES_MAX.set(max.map(|max| f64::from(*max)).sum());
        VOLUME_BYTES.set(volumes().map(|volume| volume.size as f64).sum());
    }
    let members = state.members.lock();
    for kind in ["filer", "broker", "master"] {
        let count = members.count(kind) as f64;
        CLIENTS.gauge(&[("type", kind)]).set(count);
    }
    drop(members);
    MEMBERS.set(state.stored.lock().n_members() as f64);
    dulse_telemetry::process::observe_disk("master", &state.options.dir);
}
