// SPDX-License-Identifier: Apache-2.0
//! Filers on a disk that loses its power, is slow, or fails to sync (S30).
//!
//! The disk is a FUSE file system of the tests: [`dulse_tests::disk`]. All choices follow from
//! a seed, which is printed; `DULSE_POWER_SEED` repeats it as far as processes permit, and
//! `DULSE_POWER_ROUNDS` has more cuts made.

#[path = "power/cuts.rs"]
mod cuts;
#[path = "power/everywhere.rs"]
mod everywhere;
#[path = "power/failing.rs"]
mod failing;
#[path = "power/left.rs"]
mod left;
#[path = "power/load.rs"]
mod load;
#[path = "power/names.rs"]
mod names;
#[path = "power/rig.rs"]
mod rig;
#[path = "power/slow.rs"]
mod slow;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

fn trial<F: Future<Output = Result<()>>>(
    name: &str,
    engine: &'static str,
    test: impl FnOnce(&'static str) -> F + Send + 'static,
) -> Trial {
    Trial::test(format!("{name}::{engine}"), move || {
        let runtime = tokio::runtime::Runtime::new()?;
        let done = runtime.block_on(test(engine));
        done.map_err(|error| Failed::from(format!("{error:?}")))
    })
}

fn main() -> Result<ExitCode> {
    dulse_tests::disk::enter()?;
    let mut arguments = Arguments::from_args();
    // Each runs up to five processes.
    arguments.test_threads = arguments.test_threads.or(Some(3));
    let name = "a_file_whose_name_could_not_be_synced_is_made_anew";
    let mut trials = vec![trial(name, "journal", |_| names::failed_sync())];
    for engine in dulse_registry::ENGINES.iter().copied() {
        trials.extend([
            trial(
                "s30_of_three_filers_one_loses_power",
                engine,
                cuts::of_three,
            ),
            trial("s30_a_filer_alone_loses_power", engine, cuts::alone),
            trial(
                "s30_all_filers_lose_power_at_once",
                engine,
                everywhere::at_once,
            ),
            trial(
                "s30_power_is_lost_while_the_store_is_made",
                engine,
                cuts::made,
            ),
            trial("with_os_power_loss_leaves_a_prefix", engine, cuts::with_os),
            trial(
                "a_slow_disk_stalls_nobody_else",
                engine,
                slow::stalls_nobody,
            ),
            trial("a_failed_sync_of_the_log_is_final", engine, failing::log),
            trial(
                "a_failed_sync_of_the_engine_is_final",
                engine,
                failing::engine,
            ),
        ]);
    }
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}
