// SPDX-License-Identifier: Apache-2.0
//! Filers on Redis, as real processes: the cases of `dulse_tests::shared`.

#[path = "databases/redis.rs"]
mod redis;

fn main() -> std::process::ExitCode {
    dulse_tests::shared::run::<redis::Redis>()
}
