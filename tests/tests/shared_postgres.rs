// SPDX-License-Identifier: Apache-2.0
//! Filers on PostgreSQL, as real processes: the cases of `dulse_tests::shared`.

#[path = "databases/postgres.rs"]
mod postgres;

fn main() -> std::process::ExitCode {
    dulse_tests::shared::run::<postgres::Postgres>()
}
