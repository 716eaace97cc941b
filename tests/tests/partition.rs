// SPDX-License-Identifier: Apache-2.0
//! S01 on machines of their own: network namespaces on one bridge, so that a filer is cut off
//! as by a cable that is pulled. It needs `unshare`, `nsenter`, `ip` and `curl`, and no root.

use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use dulse_tests::{Role, free_port, program, wait_for};
use serde_json::Value;

/// Says that this process is in a network of its own.
const INSIDE: &str = "DULSE_TEST_INSIDE";

/// The test, by which it runs itself again in a network of its own.
const NAME: &str = "s01_a_delete_at_a_filer_that_is_cut_off_and_dies_is_a_delete_everywhere";

/// Where master, volume server and the test are; filers follow from .1 on.
const HOME: &str = "10.99.0.254";

const ENGINES: [&str; 3] = ["redb", "sqlite", "redb"];

fn run(command: &[&str]) -> Result<Output> {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.with_context(|| format!("run `{}`", command.join(" ")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}`: {}", command.join(" "), said.trim());
    }
    Ok(output)
}

fn run_words(command: &str) -> Result<Output> {
    run(&command.split(' ').collect::<Vec<_>>())
}

/// A network namespace that lives as long as this does, on the bridge.
struct Machine {
    number: usize,
    holder: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Machine {
    async fn start(number: usize) -> Result<Self> {
        let mut command = Command::new("unshare");
        let holder = command.args(["--net", "cat"]).stdin(Stdio::piped());
        let holder = holder.spawn()?;
        let machine = Self { number, holder };
        let pid = machine.holder.id();
        let net = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net"));
        let is_apart = || async {
            net(&pid.to_string()).is_ok_and(|there| net("self").is_ok_and(|here| here != there))
        };
        wait_for("a network namespace", is_apart).await?;
        run_words(&format!(
            "ip link add v{number} type veth peer name eth0 netns {pid}"
        ))?;
        run_words(&format!("ip link set v{number} master br0"))?;
        machine.set_cable("up")?;
        for setup in [
            "ip link set lo up".to_owned(),
            format!("ip addr add {}/24 dev eth0", machine.address()),
            "ip link set eth0 up".to_owned(),
        ] {
            run_words(&format!("nsenter --net --target {pid} {setup}"))?;
        }
        Ok(machine)
    }

    fn address(&self) -> String {
        format!("10.99.0.{}", self.number + 1)
    }

    /// Pulls the cable, `down`, or plugs it in, `up`.
    fn set_cable(&self, state: &str) -> Result<()> {
        run_words(&format!("ip link set v{} {state}", self.number)).map(drop)
    }

    /// Starts a program there.
    fn start_role(&self, program: String, arguments: Vec<String>) -> Result<Role> {
        let mut all = vec!["--net".to_owned(), "--target".to_owned()];
        all.extend([self.holder.id().to_string(), program]);
        all.extend(arguments);
        Role::start_program("nsenter".into(), all)
    }

    /// Status and body of a request that is made there.
    fn ask(&self, method: &str, url: &str) -> Result<(u16, String)> {
        let pid = self.holder.id().to_string();
        let command = ["nsenter", "--net", "--target", &pid, "curl", "--silent"];
        let more = ["--max-time", "30", "--write-out", "\n%{http_code}"];
        let accept = ["--header", "Accept: application/json"];
        let asked = ["--request", method, url];
        let output = run(&[&command[..], &more, &accept, &asked].concat())?;
        let text = String::from_utf8(output.stdout)?;
        let (body, status) = text.rsplit_once('\n').context("a status")?;
        Ok((status.parse()?, body.to_owned()))
    }
}

/// Names in a listing.
fn names(listing: &str) -> Result<Vec<String>> {
    let listing: Value = serde_json::from_str(listing)?;
    let rows = listing["Entries"].as_array().cloned().unwrap_or_default();
    let paths = rows.iter().filter_map(|row| row["FullPath"].as_str());
    Ok(paths
        .filter_map(|path| path.rsplit('/').next().map(str::to_owned))
        .collect())
}

struct World {
    _dir: tempfile::TempDir,
    machines: Vec<Machine>,
    filers: Vec<Role>,
    _home: [Role; 2],
    master: String,
    port: u16,
    http: reqwest::Client,
}

impl World {
    async fn start() -> Result<Self> {
        for setup in [
            "ip link set lo up",
            "ip link add br0 type bridge",
            "ip link set br0 up",
        ] {
            run_words(setup)?;
        }
        run_words(&format!("ip addr add {HOME}/24 dev br0"))?;
        let dir = tempfile::tempdir()?;
        let (port, master_port) = (free_port()?, free_port()?);
        let master = format!("{HOME}:{master_port}");
        let program = program()?.display().to_string();
        let role = |words: &[&str], ip: &str, port: u16, name: &str| {
            let mut arguments: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            arguments.push(format!("--ip={ip}"));
            arguments.push(format!("--port={port}"));
            arguments.push(format!("--dir={}", dir.path().join(name).display()));
            arguments.push("--exit-with-stdin".to_owned());
            arguments
        };
        let at_master = format!("--master={master}");
        let home = [
            role(&["master"], HOME, master_port, "master"),
            role(&["volume", &at_master], HOME, free_port()?, "volume"),
        ];
        let [of_master, of_volume] = home;
        let home = [
            Role::start_program(program.clone().into(), of_master)?,
            Role::start_program(program.clone().into(), of_volume)?,
        ];
        let (mut machines, mut filers) = (Vec::new(), Vec::new());
        for (number, engine) in ENGINES.iter().enumerate() {
            let machine = Machine::start(number).await?;
            let engine = format!("--engine={engine}");
            let words = ["filer", &at_master, &engine];
            let arguments = role(&words, &machine.address(), port, &format!("filer-{number}"));
            filers.push(machine.start_role(program.clone(), arguments)?);
            machines.push(machine);
        }
        let http = reqwest::Client::builder();
        let world = Self {
            _dir: dir,
            machines,
            filers,
            _home: home,
            master,
            port,
            http: http.timeout(dulse_tests::PATIENCE).build()?,
        };
        for filer in 0..ENGINES.len() {
            world.wait_ready(filer).await?;
        }
        Ok(world)
    }

    fn url(&self, filer: usize, path: &str) -> String {
        let address = self.machines[filer].address();
        format!("http://{address}:{}{path}", self.port)
    }

    async fn wait_ready(&self, filer: usize) -> Result<()> {
        let url = self.url(filer, "/readyz");
        let machine = &self.machines[filer];
        let ready = || async {
            machine
                .ask("GET", &url)
                .is_ok_and(|(status, _)| status == 200)
        };
        wait_for("a filer that is ready", ready).await
    }

    async fn put(&self, filer: usize, path: &str) -> Result<()> {
        let request = self.http.put(self.url(filer, path)).body("content");
        let status = request.send().await?.status();
        ensure!(status == 201, "{path}: {status}");
        Ok(())
    }

    /// Names below `/s01`, asked for on the filer's own machine.
    fn listed(&self, filer: usize) -> Result<Vec<String>> {
        let (status, body) = self.machines[filer].ask("GET", &self.url(filer, "/s01/"))?;
        ensure!(status == 200, "listing at filer {filer}: {status} {body}");
        names(&body)
    }

    async fn wait_converged(&self) -> Result<()> {
        let program = program()?;
        let converged = || async {
            let mut command = Command::new(&program);
            let command = command.args(["status", "--format=json", "--master", &self.master]);
            let output = command.output();
            output.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("\"converged\": true"))
        };
        wait_for("filers that agree", converged).await
    }
}

#[tokio::test]
async fn s01_a_delete_at_a_filer_that_is_cut_off_and_dies_is_a_delete_everywhere() -> Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        let itself = std::env::current_exe()?;
        let mut again = Command::new("unshare");
        again.args(["--user", "--map-root-user", "--net"]);
        again.arg(itself).args(["--exact", NAME, "--nocapture"]);
        let status = again.env(INSIDE, "1").status()?;
        ensure!(status.success(), "in a network of its own: {status}");
        return Ok(());
    }
    let mut world = World::start().await?;
    for (filer, path) in [(1, "/s01/a"), (2, "/s01/b")] {
        world.put(filer, path).await?;
    }
    world.wait_converged().await?;
    world.machines[0].set_cable("down")?;
    let (status, said) = world.machines[0].ask("DELETE", &world.url(0, "/s01/a"))?;
    ensure!(status == 204, "{status} {said}");
    world.filers[0].kill()?;
    // The others go on, and nobody can have told them.
    world.put(1, "/s01/c").await?;
    for filer in 1..3 {
        let has_c = || async {
            world
                .listed(filer)
                .is_ok_and(|n| n.contains(&"c".to_owned()))
        };
        wait_for("what the others wrote", has_c).await?;
        ensure!(world.listed(filer)? == ["a", "b", "c"], "filer {filer}");
    }
    // It comes up alone and knows what it did.
    world.filers[0].restart()?;
    world.wait_ready(0).await?;
    ensure!(world.listed(0)? == ["b"], "still cut off");
    world.machines[0].set_cable("up")?;
    world.wait_converged().await?;
    for filer in 0..3 {
        ensure!(world.listed(filer)? == ["b", "c"], "filer {filer}");
    }
    let mut verify = Command::new(program()?);
    let verified = verify
        .args(["verify", "--master", &world.master])
        .output()?;
    ensure!(verified.status.code() == Some(0), "{verified:?}");
    Ok(())
}
