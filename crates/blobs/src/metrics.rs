// SPDX-License-Identifier: Apache-2.0
//! Metrics of contents on their way to and from volume servers.

dulse_telemetry::declare! {
    STRAYS_WAITING: gauge "dulse_stray_chunks_waiting", Count, [], Stable,
        "Written chunks that no entry names, waiting to be deleted.";
    STRAYS_FREED: counter "dulse_stray_chunks_freed_total", Count, [], Stable,
        "Chunks that no entry named and that were deleted.";
    STRAYS_FAILED: counter "dulse_stray_chunks_failed_total", Count, [], Stable,
        "Attempts to delete a chunk that no entry names that failed; they are repeated.";
    STRAYS_LEFT: counter "dulse_stray_chunks_left_total", Count, [], Stable,
        "Chunks that no entry names, left where they are because too many were waiting.";
    UPLOADS_FAILED: counter "dulse_chunk_upload_attempts_failed_total", Count, [], Stable,
        "Writes of a chunk to a volume server that failed; another server is tried.";
}
