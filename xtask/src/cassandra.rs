// SPDX-License-Identifier: Apache-2.0
//! The HBase server that tests run: archives of Maven Central, which Maven lays into the cache.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache;
use crate::run::{output, run};

/// The release; one for Hadoop 3, whose local file system hands on what is flushed.
const RELEASE: &str = "2.6.4-hadoop3";

/// What Maven is told to fetch: the server with all it depends on.
const PROJECT: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>dulse</groupId><artifactId>cassandra-for-tests</artifactId><version>1</version>
<packaging>pom</packaging>
<dependencies><dependency>
<groupId>org.apache.hbase</groupId><artifactId>hbase-server</artifactId><version>RELEASE</version>
</dependency></dependencies>
</project>
"#;

/// Fetches it where it is not in the cache, and says so.
///
/// # Errors
///
/// When CI is set and the server cannot be had; else that is said.
pub(crate) fn setup() -> Result<()> {
    let dir = cache::hbase();
    if dir.join("complete").is_file() {
        println!("HBase is there: {}", dir.display());
        return Ok(());
    }
    match fetch(&dir) {
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("not fetched, its tests will be ignored: {error:#}");
            Ok(())
        }
        result => result,
    }
}

fn fetch(dir: &Path) -> Result<()> {
    for (program, package) in [("java", "openjdk-17-jre-headless"), ("mvn", "maven")] {
        let there = output(Command::new(program).arg("-version"));
        there.with_context(|| {
            format!("HBase takes `{program}`, which is not here (Debian's package `{package}`)")
        })?;
    }
    println!(
        "fetching HBase {RELEASE} from Maven Central into {}",
        dir.display()
    );
    std::fs::create_dir_all(dir)?;
    let project = dir.join("pom.xml");
    std::fs::write(&project, PROJECT.replace("RELEASE", RELEASE))?;
    run(Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&project)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", dir.display())))?;
    let server = dir.join(format!("hbase-server-{RELEASE}.jar"));
    ensure!(server.is_file(), "Maven brought no {}", server.display());
    std::fs::write(dir.join("complete"), RELEASE)?;
    Ok(())
}
