// SPDX-License-Identifier: Apache-2.0
//! The targets, by the crate whose decoders they call.

mod config;
mod http;
mod journal;
mod master;
mod merge;
mod messages;
mod replica;
mod types;
mod volume;

use crate::{Target, seeds};

pub(crate) use journal::OPTIONS;

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
    of("recovery", replica::recovery, seeds::recoveries, 1_500),
    of("transfer", replica::transfer, seeds::transfers, 1_500),
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
