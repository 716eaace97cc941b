// SPDX-License-Identifier: Apache-2.0
//! Promises about the tree that no compiler holds: arrows, module docs, paths in documents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::root;
use crate::scenarios;

/// Who may depend on whom: the picture of ARCHITECTURE.md as data. Left is the crate,
/// right what it may use. `config` and `telemetry` are for whoever needs them.
const ARROWS: &[(&str, &str)] = &[
    ("types", ""),
    ("proto", "types"),
    ("merge", "types"),
    ("journal", "types"),
    ("kv", "types"),
    ("kv-testkit", "types kv"),
    ("leveldb", ""),
    ("engines/leveldb", "types kv kv-testkit leveldb"),
    ("engines/redb", "types kv kv-testkit"),
    ("engines/rocksdb", "types kv kv-testkit leveldb"),
    ("engines/sqlite", "types kv kv-testkit"),
    ("store", "types"),
    ("store-testkit", "types store"),
    ("shared", "types journal store"),
    ("hbase-client", ""),
    ("stores/hbase", "types store shared hbase-client"),
    ("shared-testkit", "types store store-testkit shared"),
    ("stores/cassandra", "types store shared"),
    ("stores/etcd", "types store shared"),
    ("stores/mysql", "types store shared"),
    ("stores/postgres", "types store shared"),
    ("stores/redis", "types store shared"),
    ("replica", "types merge journal kv store"),
    (
        "registry",
        "types store kv journal replica shared engine-redb engine-sqlite engine-leveldb \
         engine-rocksdb store-cassandra store-etcd store-hbase store-mysql store-postgres \
         store-redis",
    ),
    ("cluster", "types"),
    (
        "replication",
        "types merge replica cluster proto transport journal kv store",
    ),
    ("namespace", "types store"),
    ("transport", "types proto"),
    ("client", "types proto transport"),
    ("blobs", "types proto client transport"),
    (
        "filer",
        "types proto merge store namespace blobs replication replica cluster transport client \
         journal kv merge replica shared",
    ),
    ("master", "types proto cluster transport"),
    ("volume", "types proto transport"),
    ("import", "types store leveldb"),
    ("config", "types"),
    ("telemetry", ""),
];

/// What opens sockets: only `crates/transport` may, so that TLS and limits hold everywhere; and
/// [`DRIVERS`], each to the servers of its own protocol.
const SOCKETS: &[&str] = &[
    "TcpListener::bind",
    "TcpStream::connect",
    "Server::builder",
    "Endpoint::",
    "Channel::from_",
    "reqwest::",
    "HttpConnector::new",
];

/// Clients of databases that no crate of others has: they dial those, and listen to nobody.
const DRIVERS: &[&str] = &["crates/hbase-client/", "crates/stores/etcd/"];

/// Directories whose files are sources of this repository.
const SOURCES: &[&str] = &["crates", "sim", "bench", "tests", "fuzz", "xtask"];

/// Checks everything.
///
/// # Errors
///
/// A list of all that is wrong.
pub(crate) fn tidy() -> Result<()> {
    let mut wrong = Vec::new();
    arrows(&mut wrong)?;
    let mut files = Vec::new();
    for dir in SOURCES {
        rust_files(&root().join(dir), &mut files)?;
    }
    crates(&mut wrong)?;
    sources(&files, &mut wrong)?;
    metrics(&files, &mut wrong)?;
    documents(&mut wrong)?;
    suites(&mut wrong)?;
    scenarios::check(&mut wrong)?;
    if !wrong.is_empty() {
        bail!("tidy:\n  {}", wrong.join("\n  "));
    }
    println!(
        "tidy: {} source files, {} crates",
        files.len(),
        ARROWS.len()
    );
    Ok(())
}

/// Every crate of the tree is in the picture.
fn crates(wrong: &mut Vec<String>) -> Result<()> {
    let root = root().join("crates");
    for item in std::fs::read_dir(&root)? {
        let dir = item?.path();
        let inner: Vec<PathBuf> = match dir.join("Cargo.toml").is_file() {
            true => vec![dir],
            false => std::fs::read_dir(&dir)?
                .map(|item| item.map(|item| item.path()))
                .collect::<Result<_, _>>()?,
        };
        for dir in inner.iter().filter(|dir| dir.join("Cargo.toml").is_file()) {
            let shown = dir.strip_prefix(&root).unwrap_or(dir).display().to_string();
            let is_drawn = ARROWS.iter().any(|(name, _)| *name == shown) || shown == "cli";
            if !is_drawn {
                wrong.push(format!("crates/{shown} has no arrows in xtask/src/tidy.rs"));
            }
        }
    }
    Ok(())
}

/// A metric is declared in its crate's `metrics.rs`, and `docs/metrics.md` names each once.
fn metrics(files: &[PathBuf], wrong: &mut Vec<String>) -> Result<()> {
    let page = std::fs::read_to_string(root().join("docs/metrics.md"))?;
    let in_crates = root().join("crates");
    for path in files.iter().filter(|path| path.starts_with(&in_crates)) {
        let shown = path
            .strip_prefix(root())
            .unwrap_or(path)
            .display()
            .to_string();
        let text = std::fs::read_to_string(path)?;
        let is_telemetry = shown.starts_with("crates/telemetry");
        for call in ["counter!(", "gauge!(", "histogram!("] {
            if !is_telemetry && text.contains(call) {
                wrong.push(format!(
                    "{shown}: `{call}` outside a declaration in metrics.rs"
                ));
            }
        }
        if !text.contains("declare! {") || shown.ends_with("declare.rs") {
            continue;
        }
        for name in text.split('"').filter(|word| is_metric(word)) {
            if page.matches(&format!("| `{name}` |")).count() != 1 {
                wrong.push(format!(
                    "docs/metrics.md does not name `{name}` once; cargo xtask fix"
                ));
            }
        }
    }
    Ok(())
}

/// Whether a literal is a metric's name.
fn is_metric(word: &str) -> bool {
    ["dulse_", "SeaweedFS_", "process_"]
        .iter()
        .any(|p| word.starts_with(p))
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn arrows(wrong: &mut Vec<String>) -> Result<()> {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for (dir, _) in ARROWS {
        let path = root().join("crates").join(dir).join("Cargo.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let manifest: toml::Table = toml::from_str(&text)?;
        let Some(dependencies) = manifest.get("dependencies").and_then(|d| d.as_table()) else {
            continue;
        };
        for (name, value) in dependencies {
            if value.get("workspace").is_none() {
                wrong.push(format!(
                    "{dir}: `{name}` does not take its version from the workspace"
                ));
            }
            let Some(own) = name.strip_prefix("dulse-") else {
                continue;
            };
            let free = own == "config" || own == "telemetry";
            if !free && !allowed[dir].split_whitespace().any(|a| a == own) {
                wrong.push(format!("{dir} must not depend on {own}"));
            }
        }
    }
    Ok(())
}

/// Every engine that can be registered runs the engines' suite, crashes and full disks
/// included.
fn suites(wrong: &mut Vec<String>) -> Result<()> {
    for item in std::fs::read_dir(root().join("crates/engines"))? {
        let file = item?.path().join("tests/conformance.rs");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for word in ["conformance! {", "crash:", "full_disk"] {
            if !text.contains(word) {
                wrong.push(format!("{}: `{word}` is missing", file.display()));
            }
        }
    }
    stores(wrong)
}

/// Every suite of entry stores is in their one list, and every store runs that, and tells of the
/// one that is apart: none is left out where nobody looks.
fn stores(wrong: &mut Vec<String>) -> Result<()> {
    let testkit = root().join("crates/store-testkit/src");
    let list = std::fs::read_to_string(testkit.join("lib.rs"))?;
    for item in std::fs::read_dir(testkit)? {
        let path = item?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy());
        let stem = stem.unwrap_or_default();
        let is_suite = path.is_file() && std::fs::read_to_string(&path)?.contains("\nsuite! {");
        if is_suite && stem != "million" && !list.contains(&format!("    {stem}::SUITE,")) {
            wrong.push(format!(
                "crates/store-testkit/src/lib.rs: no suite `{stem}` in its list"
            ));
        }
    }
    let mut files = ["replica", "registry"]
        .map(|name| {
            root()
                .join("crates")
                .join(name)
                .join("tests/conformance.rs")
        })
        .to_vec();
    for item in std::fs::read_dir(root().join("crates/stores"))? {
        files.push(item?.path().join("tests/conformance.rs"));
    }
    for file in files {
        let mut text = std::fs::read_to_string(&file).unwrap_or_default();
        // It may be a program of its own.
        let beside = file.with_file_name("million.rs");
        text += &std::fs::read_to_string(beside).unwrap_or_default();
        for part in ["testkit::trials(", "million::SUITE"] {
            if !text.contains(part) {
                wrong.push(format!("{}: no `{part}`", file.display()));
            }
        }
    }
    Ok(())
}

pub(crate) fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.is_dir() {
            rust_files(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
    Ok(())
}

fn sources(files: &[PathBuf], wrong: &mut Vec<String>) -> Result<()> {
    for path in files {
        let text = std::fs::read_to_string(path)?;
        let shown = path
            .strip_prefix(root())
            .unwrap_or(path)
            .display()
            .to_string();
        let mut lines = text.lines();
        if lines.next() != Some("// SPDX-License-Identifier: Apache-2.0") {
            wrong.push(format!("{shown}: first line must be the licence line"));
        }
        if !text.lines().take(4).any(|line| line.starts_with("//!")) {
            wrong.push(format!("{shown}: no module documentation"));
        }
        if path.file_name().is_some_and(|n| n == "mod.rs") {
            wrong.push(format!("{shown}: use `name.rs` beside `name/`"));
        }
        sockets(&shown, &text, wrong);
        let unfinished = [
            concat!("todo", "!("),
            concat!("unimplemented", "!("),
            "#[ignore",
        ];
        for word in unfinished.iter().filter(|word| text.contains(**word)) {
            if !shown.starts_with("xtask") {
                wrong.push(format!("{shown}: `{word}` is not allowed"));
            }
        }
    }
    Ok(())
}

/// No listener or dialer is made outside the crate for it; tests may.
fn sockets(shown: &str, text: &str, wrong: &mut Vec<String>) {
    let is_bound = shown.starts_with("crates/")
        && shown.contains("/src/")
        && !shown.starts_with("crates/transport/")
        && !shown.starts_with("crates/shared-testkit/")
        && !shown.ends_with("/tests.rs");
    let is_driver = DRIVERS.iter().any(|dir| shown.starts_with(dir));
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    for word in SOCKETS
        .iter()
        .filter(|word| is_bound && code.contains(**word))
        .filter(|word| !(is_driver && ["TcpStream::connect", "Endpoint::"].contains(word)))
    {
        wrong.push(format!("{shown}: `{word}` belongs into crates/transport"));
    }
}

/// Every crate has its paragraph in ARCHITECTURE.md, and every path named there is real.
fn documents(wrong: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md"))?;
    for (dir, _) in ARROWS {
        if !text.contains(&format!("`crates/{dir}`")) {
            wrong.push(format!(
                "ARCHITECTURE.md: no paragraph names `crates/{dir}`"
            ));
        }
    }
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/semantics.md",
    ] {
        let text = std::fs::read_to_string(root().join(file))?;
        let words = text.split(['`', '(', ')', ' ', '\n']);
        let top = [
            "crates/", "docs/", "tests/", "sim/", "bench/", "xtask/", "fuzz/",
        ];
        for word in words.filter(|w| top.iter().any(|t| w.starts_with(t))) {
            let path = word
                .split('#')
                .next()
                .unwrap_or(word)
                .trim_end_matches(['.', ',', ';', ':']);
            let is_plain = path
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_plain && !root().join(path).exists() {
                wrong.push(format!("{file} names `{path}`, which does not exist"));
            }
        }
    }
    Ok(())
}
