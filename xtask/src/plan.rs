// SPDX-License-Identifier: Apache-2.0
//! The steps of a test run: what, in which ring, and about how long.

use crate::run::{cargo, run};
use crate::{cassandra, check, debian, fetch, hbase, rocksdb};

/// A ring of tests, from cheap to dear.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub(crate) enum Ring {
    /// No filers as processes; databases where a store is tested.
    Quick,
    /// Black-box tests with our own processes.
    Servers,
    /// Beside upstream's real programs.
    Upstream,
    /// With the engine RocksDB, which nothing else builds.
    Rocksdb,
}

/// One step of a run.
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) ring: Ring,
    /// Estimate in seconds on two cores with a warm cache.
    pub(crate) estimate_s: u64,
    pub(crate) action: Box<dyn Fn() -> anyhow::Result<()>>,
    /// Says what is missing for it, asked when its turn comes.
    pub(crate) lacks: Option<fn() -> Option<String>>,
    /// Says what this machine cannot do and no set-up can mend: then the step is not run, and
    /// that is said, in CI too.
    pub(crate) cannot: Option<fn() -> Option<String>>,
}

/// The black-box file that mounts file systems for everybody to see.
const MOUNTS: &str = "tests/upstream_mount";

/// The one that mounts disks for itself, and cuts their power.
const POWER: &str = "tests/power";

/// The black-box file whose filers are in networks of their own.
const PARTITION: &str = "tests/partition";

/// The same on the engine RocksDB.
const ROCKSDB_POWER: &str = "RocksDB: tests/power";

/// The import of a store on RocksDB, whose entries upstream's program wrote.
const ROCKSDB_IMPORT: &str = "RocksDB: tests/upstream_import";

/// Estimate of one black-box test file, in seconds.
const BLACK_BOX_ESTIMATE_S: u64 = 45;

/// The black-box file that compares 20,000 entries in HBase, where upstream's program deletes some
/// fifty in a second.
const CROSS_HBASE: &str = "tests/upstream_hbase";

/// The same for Cassandra.
const CROSS_CASSANDRA: &str = "tests/upstream_cassandra";

/// Filers on Cassandra.
const ON_CASSANDRA: &str = "tests/shared_cassandra";

/// Estimate of [`CROSS_HBASE`].
const CROSS_HBASE_ESTIMATE_S: u64 = 450;

/// Estimate of [`POWER`]: some forty cuts, each with a restart and two comparisons.
const POWER_ESTIMATE_S: u64 = 60;

/// Every step, in order.
pub(crate) fn steps() -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut push = |name: &str, ring, estimate_s, action: Box<dyn Fn() -> anyhow::Result<()>>| {
        steps.push(Step {
            name: name.to_owned(),
            ring,
            estimate_s,
            action,
            lacks: match ring {
                _ if name == CROSS_HBASE => Some(|| fetch::lacks_weed().or_else(hbase::lacks)),
                _ if name == CROSS_CASSANDRA => {
                    Some(|| fetch::lacks_weed().or_else(cassandra::lacks))
                }
                _ if name == ON_CASSANDRA => Some(cassandra::lacks),
                Ring::Upstream => Some(fetch::lacks_weed as fn() -> Option<String>),
                Ring::Rocksdb if name == ROCKSDB_IMPORT => Some(fetch::lacks_weed),
                Ring::Rocksdb => Some(rocksdb::lacks),
                _ => None,
            },
            cannot: match name {
                MOUNTS => Some(debian::lacks_fuse),
                POWER | ROCKSDB_POWER => Some(debian::lacks_fuse_inside),
                PARTITION => Some(debian::lacks_networks),
                _ => None,
            },
        });
    };
    push(
        "format, layering, dependencies",
        Ring::Quick,
        10,
        Box::new(check::static_checks),
    );
    push("clippy", Ring::Quick, 90, Box::new(check::clippy));
    push("docs", Ring::Quick, 40, Box::new(check::docs));
    push(
        "generated documents",
        Ring::Quick,
        30,
        Box::new(check::generated),
    );
    push(
        "fetch the libraries that engines load",
        Ring::Quick,
        5,
        Box::new(crate::debian::libraries),
    );
    push(
        "unit, property, conformance, crash",
        Ring::Quick,
        1_500,
        Box::new(|| {
            // The stores' suites run against them.
            crate::postgres::setup()?;
            crate::mysql::setup()?;
            crate::redis::setup()?;
            crate::etcd::setup()?;
            crate::hbase::setup()?;
            crate::cassandra::setup()?;
            crate::crates::test()
        }),
    );
    push(
        "simulation, 200 new seeds",
        Ring::Quick,
        20,
        Box::new(|| crate::test::sim(&["--seeds=200".to_owned(), "--new".to_owned()])),
    );
    push(
        "fetch upstream's program",
        Ring::Servers,
        10,
        Box::new(fetch::setup),
    );
    push(
        "build the program",
        Ring::Servers,
        60,
        Box::new(|| run(&mut cargo(&["build", "--profile", "ci", "-p", "dulse-cli"]))),
    );
    for file in black_box_files()? {
        let ring = if file.starts_with("upstream_") {
            Ring::Upstream
        } else {
            Ring::Servers
        };
        let name = format!("tests/{file}");
        push(
            &name,
            ring,
            match name.as_str() {
                POWER => POWER_ESTIMATE_S,
                CROSS_HBASE => CROSS_HBASE_ESTIMATE_S,
                _ => BLACK_BOX_ESTIMATE_S,
            },
            Box::new(move || {
                run(&mut cargo(&[
                    "test",
                    "--profile",
                    "ci",
                    "-p",
                    "dulse-tests",
                    "--test",
                    &file,
                ]))
            }),
        );
    }
    push(
        "tests, the process helpers",
        Ring::Servers,
        10,
        Box::new(|| {
            run(&mut cargo(&[
                "test",
                "--profile",
                "ci",
                "-p",
                "dulse-tests",
                "--lib",
            ]))
        }),
    );
    push(
        "RocksDB: lints",
        Ring::Rocksdb,
        60,
        Box::new(rocksdb::clippy),
    );
    push(
        "RocksDB: the engine, the registry, imports",
        Ring::Rocksdb,
        180,
        Box::new(|| {
            let packages = ["-p", "dulse-engine-rocksdb", "-p", "dulse-registry"];
            rocksdb::test(&[&packages[..], &["-p", "dulse-import"]].concat())
        }),
    );
    push(
        "RocksDB: build the program",
        Ring::Rocksdb,
        60,
        Box::new(rocksdb::build_program),
    );
    for (name, file, only) in [
        ("RocksDB: tests/engines", "engines", "rocksdb"),
        (ROCKSDB_POWER, "power", "rocksdb"),
        (ROCKSDB_IMPORT, "upstream_import", "rocksdb"),
    ] {
        let estimate_s = BLACK_BOX_ESTIMATE_S;
        let test = move || rocksdb::test(&["-p", "dulse-tests", "--test", file, "--", only]);
        push(name, Ring::Rocksdb, estimate_s, Box::new(test));
    }
    steps.sort_by_key(|step| step.ring);
    Ok(steps)
}

/// The steps of one ring, with what they need from earlier rings; all when none is named.
pub(crate) fn steps_of(ring: Option<Ring>) -> anyhow::Result<Vec<Step>> {
    let mut steps = steps()?;
    if let Some(ring) = ring {
        let is_setup = |s: &Step| s.name.starts_with("fetch") || s.name.starts_with("build");
        steps.retain(|s| s.ring == ring || (ring >= Ring::Upstream && is_setup(s)));
    }
    Ok(steps)
}

fn black_box_files() -> anyhow::Result<Vec<String>> {
    let dir = crate::cache::root().join("tests/tests");
    let mut files = Vec::new();
    if dir.is_dir() {
        for item in std::fs::read_dir(dir)? {
            let path = item?.path();
            if path.extension().is_some_and(|e| e == "rs")
                && let Some(stem) = path.file_stem()
            {
                files.push(stem.to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}
