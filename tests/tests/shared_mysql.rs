// SPDX-License-Identifier: Apache-2.0
//! Filers on MariaDB, as real processes: the cases of `dulse_tests::shared`.

#[path = "databases/mysql.rs"]
mod mysql;

fn main() -> std::process::ExitCode {
    dulse_tests::shared::run::<mysql::MariaDb>()
}
