// SPDX-License-Identifier: Apache-2.0
//! Three filers under random faults for some minutes, judged by what was acknowledged.
//! `cargo xtask chaos --minutes 10 --seed 1` builds and starts it.

use std::time::Duration;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let (mut seed, mut seconds) = (1, 30.0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--seed" => seed = value.parse()?,
            "--minutes" => seconds = value.parse::<f64>()? * 60.0,
            _ => bail!("unknown `{word}`; expected --minutes N, --seed S"),
        }
    }
    let runtime = tokio::runtime::Runtime::new()?;
    println!("seed {seed}, {seconds} s of faults");
    let run = dulse_tests::chaos::run(seed, Duration::from_secs_f64(seconds));
    let report = runtime
        .block_on(run)
        .with_context(|| format!("seed {seed}: again with `cargo xtask chaos --seed {seed}`"))?;
    println!("{report:#?}");
    Ok(())
}
