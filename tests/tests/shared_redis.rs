// SPDX-License-Identifier: Apache-2.0
//! Filers on Redis, as real processes: the cases of `dulse_tests::shared`, and masters that are
//! replaced under running filers, behind a sentinel and in a cluster.

#[path = "databases/redis.rs"]
mod redis;
#[path = "databases/redis_replicated.rs"]
mod replicated;

use dulse_tests::shared::{all, replacements, run_trials};

fn main() -> std::process::ExitCode {
    let mut trials = all::<redis::Redis>();
    trials.extend(replacements::<replicated::Watched>());
    trials.extend(replacements::<replicated::Cluster>());
    run_trials(trials)
}
