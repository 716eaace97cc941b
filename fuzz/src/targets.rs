// SPDX-License-Identifier: Apache-2.0
//! The targets, by the crate whose decoders they call.

mod blobs;
mod config;
mod hbase;
mod http;
mod import;
mod journal;
mod leveldb;
mod master;
mod merge;
mod messages;
mod repair;
mod replica;
mod shared;
pub(crate) mod texts;
mod types;
mod volume;

use crate::{Target, seeds};

pub(crate) use journal::OPTIONS;
pub(crate) use repair::Own;
pub(crate) use replica::{filled, filled_on, reopened};

/// All of them.
pub const TARGETS: &[Target] = &[
    of("entry", types::entry, seeds::entries, 20_000),
    of(
        "entry_parts",
        types::entry_parts,
        seeds::entry_parts,
        20_000,
    ),
    of("wire", types::wire, seeds::none, 20_000),
    of("positions", types::positions, seeds::positions, 20_000),
    of("names", types::names, seeds::names, 20_000),
    of("change", merge::change, seeds::changes, 20_000),
    of("row", merge::row, seeds::rows, 20_000),
    of("intent", merge::intent, seeds::intents, 20_000),
    of("key", merge::key, seeds::keys, 20_000),
    of("apply", merge::apply_changes, seeds::change_lists, 10_000),
    of("journal", journal::journal, seeds::journals, 3_000),
    of("leveldb", leveldb::files, seeds::leveldb_files, 3_000),
    of("shared_journal", shared::payload, seeds::payloads, 20_000),
    of("shared_notes", shared::notes, seeds::notes, 20_000),
    of("skip_list", shared::skip_list, seeds::skip_lists, 10_000),
    of("stored_entry", shared::stored, seeds::stored, 10_000),
    of("hbase_frame", hbase::frame, seeds::hbase_frames, 20_000),
    of("hbase_rows", hbase::rows, seeds::hbase_rows, 20_000),
    of("hbase_nodes", hbase::nodes, seeds::hbase_nodes, 20_000),
    of("recovery", replica::recovery, seeds::recoveries, 1_500),
    of("transfer", replica::transfer, seeds::transfers, 1_500),
    of("store", replica::store, seeds::stores, 600),
    of("reissue", replica::reissue, seeds::items, 2_000),
    of(
        "repair_requests",
        repair::requests,
        seeds::repair_requests,
        5_000,
    ),
    of(
        "repair_answers",
        repair::answers,
        seeds::repair_answers,
        1_000,
    ),
    of("repair_rows", repair::rows, seeds::repair_rows, 600),
    of("messages", messages::messages, seeds::messages, 10_000),
    of("http_range", http::range, seeds::http_ranges, 20_000),
    of("http_request", http::request, seeds::http_requests, 20_000),
    of(
        "http_condition",
        http::condition,
        seeds::http_conditions,
        10_000,
    ),
    of("http_form", http::form, seeds::http_forms, 3_000),
    of("session", texts::session, seeds::sessions, 20_000),
    of("settings", texts::settings, seeds::settings, 20_000),
    of("rules", texts::rules, seeds::rules, 10_000),
    of("leave", texts::leave, seeds::leaves, 5_000),
    of("chunks", blobs::chunks, seeds::manifests, 10_000),
    of("sealed", blobs::sealed, seeds::sealed, 5_000),
    of("needle", volume::needle, seeds::needles, 20_000),
    of("volume_files", volume::files, seeds::volume_files, 600),
    of(
        "volume_request",
        volume::request,
        seeds::volume_requests,
        20_000,
    ),
    of("master_state", master::state, seeds::master_states, 10_000),
    of("config", config::file, seeds::config_files, 3_000),
    of("security", config::security, seeds::security_files, 2_000),
    of(
        "upstream_value",
        import::value,
        seeds::upstream_values,
        10_000,
    ),
    of("upstream_row", import::row, seeds::upstream_values, 10_000),
    of("upstream_meta", import::meta, seeds::upstream_metas, 10_000),
    of("filer_toml", config::stores, seeds::store_files, 1_000),
    of("dsn", config::dsn, seeds::dsns, 20_000),
];

const fn of(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    n_quick: u32,
) -> Target {
    Target {
        name,
        run,
        seeds,
        n_quick,
    }
}
