// SPDX-License-Identifier: Apache-2.0
//! LevelDB itself meets a full disk, as nothing is refused before; once there is room the open
//! store goes on.

use std::path::Path;
use std::process::ExitCode;

use dulse_engine_leveldb::{LeveldbEngine, Options};
use dulse_kv_testkit::{Suite, full_disk, opener, run};

const OPTIONS: Options = Options {
    margin_bytes: 0,
    ..Options::STANDARD
};

/// The case in which others take all room and give it back. The others ask that a store is
/// opened on a full disk, which takes a margin.
const CASE: &str = "a_disk_that_others_fill_loses_nothing";

fn main() -> ExitCode {
    let open = opener(|dir: &Path| LeveldbEngine::open_with(dir, OPTIONS));
    let suite = Suite {
        name: "full_disk",
        cases: full_disk::SUITE.cases,
    };
    let mut trials = suite.trials(&open);
    trials.retain(|trial| trial.name().ends_with(CASE));
    assert_eq!(trials.len(), 1, "the suite has the case");
    run(trials)
}
