// SPDX-License-Identifier: Apache-2.0
//! Filers on etcd, as real processes: the cases of `dulse_tests::shared` that depend on the
//! database.

#[path = "databases/etcd.rs"]
mod etcd;

fn main() -> std::process::ExitCode {
    dulse_tests::shared::run_briefly::<etcd::Etcd>()
}
