// SPDX-License-Identifier: Apache-2.0
//! Filers on HBase, as real processes: the cases of `dulse_tests::shared` that depend on the
//! database.

#[path = "databases/hbase.rs"]
mod hbase;

fn main() -> std::process::ExitCode {
    dulse_tests::shared::run_briefly::<hbase::Hbase>()
}
