// SPDX-License-Identifier: Apache-2.0
//! What operators see of running roles: metrics, logs, one request id through all of them.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use dulse_tests::{free_port, program, wait_for};

/// A role whose log goes to a file; killed when dropped.
struct Logged(Child);

impl Drop for Logged {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(log: &Path, arguments: &[String]) -> Result<Logged> {
    let child = Command::new(program()?)
        .args(arguments)
        .args([
            "--log-format=json",
            "--log-level=debug",
            "--exit-with-stdin",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(File::create(log)?)
        .spawn()?;
    Ok(Logged(child))
}

/// A master, a volume server and a filer that log to files of their names.
struct Observed {
    dir: tempfile::TempDir,
    http: reqwest::Client,
    ports: [u16; 3],
    _roles: Vec<Logged>,
}

const ROLES: [&str; 3] = ["master", "volume", "filer"];

impl Observed {
    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let mut roles = Vec::new();
        for (role, port) in ROLES.iter().zip(ports) {
            let home = dir.path().join(role);
            let mut arguments = vec![
                (*role).to_owned(),
                format!("--port={port}"),
                format!("--dir={}", home.display()),
            ];
            if *role != "master" {
                arguments.push(format!("--master=127.0.0.1:{}", ports[0]));
            }
            roles.push(start(&dir.path().join(format!("{role}.log")), &arguments)?);
        }
        let observed = Self {
            dir,
            http: reqwest::Client::new(),
            ports,
            _roles: roles,
        };
        let ready = || async {
            let asked = observed
                .http
                .get(observed.url("filer", "/readyz"))
                .send()
                .await;
            asked.is_ok_and(|a| a.status().is_success())
        };
        wait_for("a filer that is ready", ready).await?;
        Ok(observed)
    }

    fn url(&self, role: &str, path: &str) -> String {
        let at = ROLES.iter().position(|r| *r == role).unwrap_or(0);
        format!("http://127.0.0.1:{}{path}", self.ports[at])
    }

    /// The JSON lines of a role's log.
    fn log(&self, role: &str) -> Result<Vec<serde_json::Value>> {
        let text = std::fs::read_to_string(self.dir.path().join(format!("{role}.log")))?;
        let line = |line: &str| serde_json::from_str(line).with_context(|| line.to_owned());
        text.lines().map(line).collect()
    }

    async fn metrics(&self, role: &str) -> Result<String> {
        let answer = self.http.get(self.url(role, "/metrics")).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(answer.text().await?)
    }
}

/// Whether a line was logged while a request with this id was served.
fn is_of(line: &serde_json::Value, id: &str) -> bool {
    line["span"]["id"] == id
}

#[tokio::test]
async fn one_id_names_an_upload_in_the_logs_of_filer_master_and_volume_server() -> Result<()> {
    let observed = Observed::start().await?;
    let id = "4A7700000000000000000042";
    let content = vec![7; 9 << 20];
    let put = observed.http.put(observed.url("filer", "/a/photo.jpg"));
    let answer = put
        .header("x-amz-request-id", id)
        .body(content)
        .send()
        .await?;
    ensure!(answer.status() == 201, "{}", answer.status());
    assert_eq!(answer.headers()["x-amz-request-id"], id);
    for role in ROLES {
        let lines = observed.log(role)?;
        assert!(
            lines.iter().any(|l| is_of(l, id)),
            "{role} does not name it"
        );
    }
    // Three chunks, each a request of its own under the one id.
    let volume = observed.log("volume")?;
    assert_eq!(volume.iter().filter(|l| is_of(l, id)).count(), 3);

    let read = observed.http.get(observed.url("filer", "/a/photo.jpg"));
    let answer = read.header("x-request-id", "from-a-proxy").send().await?;
    assert_eq!(answer.headers()["x-amz-request-id"], "from-a-proxy");
    assert_eq!(answer.bytes().await?.len(), 9 << 20);
    let volume = observed.log("volume")?;
    assert!(
        volume.iter().any(|l| is_of(l, "from-a-proxy")),
        "reads carry the id, too"
    );
    Ok(())
}

#[tokio::test]
async fn every_role_answers_metrics_that_are_declared() -> Result<()> {
    let observed = Observed::start().await?;
    let put = observed.http.put(observed.url("filer", "/a.txt"));
    ensure!(put.body("hello").send().await?.status() == 201);
    let reference = include_str!("../../docs/metrics.md");
    for (role, expected) in [
        (
            "filer",
            "SeaweedFS_filer_request_total{type=\"PUT\",code=\"201\"} 1",
        ),
        ("filer", "dulse_filer_ready 1"),
        ("filer", "dulse_filer_entries 1"),
        ("filer", "dulse_commit_queue 0"),
        ("filer", "dulse_disk_free_bytes{role=\"filer\"}"),
        ("filer", "dulse_commit_group_size_count 1"),
        ("master", "SeaweedFS_master_is_leader 1"),
        ("master", "dulse_master_clients{type=\"filer\"} 1"),
        ("volume", "dulse_volume_needles 1"),
        (
            "volume",
            "SeaweedFS_volumeServer_request_total{type=\"PUT\",code=\"201\"} 1",
        ),
        ("volume", "process_open_fds"),
    ] {
        let text = observed.metrics(role).await?;
        assert!(
            text.contains(expected),
            "{role} lacks `{expected}` in\n{text}"
        );
        for name in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
            let name = name.split(' ').next().unwrap_or(name);
            assert!(
                reference.contains(&format!("`{name}`")),
                "{name} is not declared"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_log_level_is_one_sentence_and_exit_code_2() -> Result<()> {
    let output = Command::new(program()?)
        .args(["master", "--log-level=loud"])
        .output()?;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("unknown log level `loud`; expected"),
        "{said}"
    );
    Ok(())
}
