// SPDX-License-Identifier: Apache-2.0
//! The target that `DULSE_FUZZ_TARGET` names, under libFuzzer. `cargo xtask fuzz` sets it.

#![no_main]

use std::sync::LazyLock;

use dulse_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("DULSE_FUZZ_TARGET").expect("DULSE_FUZZ_TARGET names a target");
    dulse_fuzz::target(&name).expect("DULSE_FUZZ_TARGET names a target that there is")
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
