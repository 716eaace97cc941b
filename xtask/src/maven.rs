// SPDX-License-Identifier: Apache-2.0
//! Servers written in Java that tests run: archives of Maven Central, which Maven lays into the
//! cache.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{output, run};

/// A server, by the archive that it is in.
pub(crate) struct Server {
    /// As people call it.
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    pub(crate) artifact: &'static str,
    pub(crate) release: &'static str,
}

/// What Maven is told to fetch: the server with all it depends on.
const PROJECT: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>dulse</groupId><artifactId>server-for-tests</artifactId><version>1</version>
<packaging>pom</packaging>
<dependencies><dependency>
<groupId>GROUP</groupId><artifactId>ARTIFACT</artifactId><version>RELEASE</version>
</dependency></dependencies>
</project>
"#;

/// Why what needs it cannot run, when it is not in the cache.
pub(crate) fn lacks(server: &Server, dir: &Path) -> Option<String> {
    let is_there = dir.join("complete").is_file();
    (!is_there).then(|| {
        format!(
            "{} is not in `{}`; with Java 17 and Maven here, `cargo xtask setup` fetches it",
            server.name,
            dir.display()
        )
    })
}

/// Fetches it where it is not in the cache, and says so.
///
/// - `dir`: where its archives are to lie.
///
/// # Errors
///
/// When CI is set and the server cannot be had; else that is said.
pub(crate) fn setup(server: &Server, dir: &Path) -> Result<()> {
    if dir.join("complete").is_file() {
        println!("{} is there: {}", server.name, dir.display());
        return Ok(());
    }
    match fetch(server, dir) {
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("not fetched, its tests will be ignored: {error:#}");
            Ok(())
        }
        result => result,
    }
}

fn fetch(server: &Server, dir: &Path) -> Result<()> {
    let name = server.name;
    for (program, package) in [("java", "openjdk-17-jre-headless"), ("mvn", "maven")] {
        let there = output(Command::new(program).arg("-version"));
        there.with_context(|| {
            format!("{name} takes `{program}`, which is not here (Debian's package `{package}`)")
        })?;
    }
    let Server {
        group,
        artifact,
        release,
        ..
    } = server;
    println!(
        "fetching {name} {release} from Maven Central into {}",
        dir.display()
    );
    std::fs::create_dir_all(dir)?;
    let project = dir.join("pom.xml");
    let text = PROJECT
        .replace("GROUP", group)
        .replace("ARTIFACT", artifact)
        .replace("RELEASE", release);
    std::fs::write(&project, text)?;
    run(Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&project)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", dir.display())))?;
    let archive = dir.join(format!("{artifact}-{release}.jar"));
    ensure!(archive.is_file(), "Maven brought no {}", archive.display());
    std::fs::write(dir.join("complete"), release)?;
    Ok(())
}
