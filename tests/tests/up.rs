// SPDX-License-Identifier: Apache-2.0
//! `dulse up` as a stranger meets it: the table, the lines, a role that dies, Ctrl-C, a second
//! start, and calls that cannot work.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dulse_tests::{PATIENCE, free_port, free_ports, program, wait_for};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// How long a stop may take, as promised.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// Ports of one cluster.
#[derive(Clone, Copy)]
struct Ports {
    master: u16,
    volume: u16,
    filer: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self {
            master: free_port()?,
            volume: free_port()?,
            // The other filers take the ports behind it.
            filer: free_ports(4)?,
        })
    }

    fn command(self, dir: &Path, more: &[&str]) -> Result<Command> {
        let mut command = Command::new(program()?);
        command.arg("up").arg("--dir").arg(dir).args([
            format!("--master-port={}", self.master),
            format!("--volume-port={}", self.volume),
            format!("--filer-port={}", self.filer),
        ]);
        command.args(more).stdin(Stdio::null());
        Ok(command)
    }

    fn url(self, filer: u16, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.filer + filer)
    }
}

/// A running `up` whose lines are read as they come.
struct Up {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Up {
    fn start(ports: Ports, dir: &Path, more: &[&str]) -> Result<Self> {
        let mut child = ports.command(dir, more)?.stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("piped")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            lines,
            seen: Vec::new(),
        })
    }

    /// Reads on until a line holds all of the texts.
    fn wait(&mut self, texts: &[&str]) -> Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                bail!("no line with {texts:?} behind\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if texts.iter().all(|text| line.contains(text)) {
                return Ok(line);
            }
        }
    }

    /// The process id of a role, from the table.
    fn pid(&self, role: &str) -> Result<Pid> {
        let mut rows = self.seen.iter();
        let row = rows.find(|line| line.starts_with(role) && line.contains(".log"));
        let row = row.with_context(|| format!("no row of {role}"))?;
        let rest = row.strip_prefix(role).unwrap_or(row);
        let pid = rest.split_whitespace().nth(2).context("a process id")?;
        Pid::from_raw(pid.parse()?).context("a process id")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Signals it and waits for its end.
    fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        ended(&mut self.child)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Its children end with it: their standard input closes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Killed when dropped; its children end with it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ended(child: &mut Child) -> Result<ExitStatus> {
    let until = Instant::now() + STOP_TIME_MAX;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        ensure!(
            Instant::now() < until,
            "it did not stop in {STOP_TIME_MAX:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn has(http: &reqwest::Client, url: &str, content: &str) -> bool {
    let Ok(answer) = http.get(url).send().await else {
        return false;
    };
    if !answer.status().is_success() {
        return false;
    }
    answer.text().await.is_ok_and(|text| text == content)
}

#[tokio::test]
async fn a_session_from_start_to_a_second_start() -> Result<()> {
    let (dir, ports) = (tempfile::tempdir()?, Ports::free()?);
    let more = ["--filers=2", "--engine=redb,sqlite"];
    let mut up = Up::start(ports, dir.path(), &more)?;
    up.wait(&["role", "http", "grpc", "process", "engine", "log"])?;
    up.wait(&["filer 1", "redb", &format!("127.0.0.1:{}", ports.filer)])?;
    up.wait(&[
        "filer 2",
        "sqlite",
        &format!("127.0.0.1:{}", ports.filer + 10_001),
    ])?;
    up.wait(&["try", "curl -T", &ports.url(0, "/pics/")])?;
    up.wait(&["digests: equal"])?;
    ensure!(
        up.seen.contains(&"filer 1: ready".to_owned()),
        "{:?}",
        up.seen
    );
    ensure!(dir.path().join("logs/filer-2.log").exists());

    let http = reqwest::Client::new();
    let put = http.put(ports.url(0, "/pics/photo.jpg")).body("a photo");
    ensure!(put.send().await?.status() == 201);
    let second = ports.url(1, "/pics/photo.jpg");
    wait_for("the photo at the second filer", || {
        has(&http, &second, "a photo")
    })
    .await?;

    // A role that dies is started again, and both are said.
    let pids = ["master", "volume", "filer 1", "filer 2"].map(|role| up.pid(role));
    kill_process(up.pid("filer 2")?, Signal::KILL)?;
    up.wait(&["filer 2 ended (signal 9)", "starting it again in 3 s"])?;
    up.wait(&["filer 2 started again, process"])?;
    up.wait(&["filer 2: ready"])?;

    let status = up.stop(Signal::INT)?;
    assert_eq!(status.code(), Some(0));
    up.wait(&["stopped; start again with the same --dir to resume"])?;
    for pid in pids {
        assert!(test_kill_process(pid?).is_err(), "a role is left");
    }

    let mut up = Up::start(ports, dir.path(), &more)?;
    up.wait(&["filer 2: ready"])?;
    wait_for("the photo", || has(&http, &second, "a photo")).await?;
    assert_eq!(up.stop(Signal::TERM)?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_stops_everything() -> Result<()> {
    let (dir, ports) = (tempfile::tempdir()?, Ports::free()?);
    let mut command = ports.command(dir.path(), &["--filers=1"])?;
    let mut up = Killed(command.stdout(Stdio::piped()).spawn()?);
    drop(up.0.stdout.take());
    let until = Instant::now() + PATIENCE;
    while up.0.try_wait()?.is_none() {
        ensure!(Instant::now() < until, "it goes on though nobody reads");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The ports are free again: nothing is left.
    wait_for("free ports", || async move {
        std::net::TcpListener::bind(("127.0.0.1", ports.filer)).is_ok()
    })
    .await
}

/// A terminal of 60 columns: its outer and its inner side.
fn terminal() -> Result<(OwnedFd, OwnedFd)> {
    // The program must not hold the outer side itself.
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&terminal)?;
    rustix::pty::unlockpt(&terminal)?;
    let name = rustix::pty::ptsname(&terminal, Vec::new())?;
    let size = rustix::termios::Winsize {
        ws_row: 24,
        ws_col: 60,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&terminal, size)?;
    let inner = std::fs::File::options()
        .read(true)
        .write(true)
        .open(name.to_str()?)?;
    Ok((terminal, inner.into()))
}

/// Regression: the last line that fitted was waited for with the signals unheard, so that a
/// terminal stopped with Ctrl-S kept Ctrl-C and SIGTERM from stopping the cluster.
#[tokio::test]
async fn a_terminal_that_stands_still_does_not_hold_back_a_stop() -> Result<()> {
    let (dir, ports) = (tempfile::tempdir()?, Ports::free()?);
    let (_terminal, inner) = terminal()?;
    let flags = rustix::fs::fcntl_getfl(&inner)?;
    rustix::fs::fcntl_setfl(&inner, flags | rustix::fs::OFlags::NONBLOCK)?;
    while rustix::io::write(&inner, &[b'.'; 256]).is_ok() {}
    rustix::fs::fcntl_setfl(&inner, flags)?;
    let mut command = ports.command(dir.path(), &["--filers=1"])?;
    let mut up = Killed(command.stdout(inner).spawn()?);
    let (http, ready) = (reqwest::Client::new(), ports.url(0, "/readyz"));
    wait_for("a filer that is ready", || has(&http, &ready, "")).await?;
    let pid = Pid::from_raw(up.0.id().cast_signed()).context("a process id")?;
    kill_process(pid, Signal::TERM)?;
    assert_eq!(ended(&mut up.0)?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn on_a_terminal_each_filer_has_a_live_line_that_fits() -> Result<()> {
    let (dir, ports) = (tempfile::tempdir()?, Ports::free()?);
    let (terminal, inner) = terminal()?;
    let mut command = ports.command(dir.path(), &["--filers=2"])?;
    let mut up = Killed(command.stdout(inner).spawn()?);
    drop(command);
    let (send, pieces) = channel();
    std::thread::spawn(move || {
        let mut terminal = std::fs::File::from(terminal);
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = terminal.read(&mut buffer) {
            if send.send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut screen = String::new();
    let until = Instant::now() + PATIENCE;
    // Redrawn over the two lines before, with both filers ready.
    let is_live = |screen: &str| {
        let last = screen.rsplit("\x1b[2A\x1b[J").next().unwrap_or_default();
        screen.contains("\x1b[2A\x1b[J") && last.matches(" ready ").count() == 2
    };
    while !is_live(&screen) {
        let left = until.saturating_duration_since(Instant::now());
        let piece = pieces.recv_timeout(left);
        let piece = piece.with_context(|| format!("no live lines in\n{screen}"))?;
        screen.push_str(&String::from_utf8_lossy(&piece));
    }
    let last = screen.rsplit("\x1b[2A\x1b[J").next().unwrap_or_default();
    for line in last.lines() {
        assert!(line.chars().count() < 60, "`{line}` wraps");
    }
    assert!(last.contains("changes/s  lag 0 changes"), "{last}");
    let pid = Pid::from_raw(up.0.id().cast_signed()).context("a process id")?;
    kill_process(pid, Signal::TERM)?;
    assert_eq!(ended(&mut up.0)?.code(), Some(0));
    Ok(())
}

/// Runs a call that cannot work: its one sentence.
fn refused(mut command: Command) -> Result<String> {
    let Output { status, stderr, .. } = command.output()?;
    let said = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(status.code() == Some(2), "{status}: {said}");
    ensure!(said.lines().count() == 1, "not one sentence: {said}");
    Ok(said)
}

#[tokio::test]
async fn what_cannot_work_is_one_sentence_and_exit_code_2() -> Result<()> {
    let (dir, ports) = (tempfile::tempdir()?, Ports::free()?);
    let said = refused(ports.command(dir.path(), &["--engine=redb,papyrus"])?)?;
    assert!(
        said.contains("unknown engine `papyrus`; expected one of redb"),
        "{said}"
    );

    let said = refused(ports.command(Path::new("/proc/dulse"), &[])?)?;
    assert!(
        said.contains("cannot write to directory `/proc/dulse`"),
        "{said}"
    );
    assert!(said.contains("--dir"), "{said}");

    let taken = std::net::TcpListener::bind(("127.0.0.1", ports.filer + 10_001))?;
    let said = refused(ports.command(dir.path(), &["--filers=2"])?)?;
    let at = format!(
        "cannot listen on 127.0.0.1:{} for filer 2",
        ports.filer + 10_001
    );
    assert!(
        said.contains(&at) && said.contains("--filer-port"),
        "{said}"
    );
    drop(taken);

    let said = refused(ports.command(dir.path(), &["--filers=0"])?)?;
    assert!(said.contains("--filers must be 1 to"), "{said}");

    let mut up = Up::start(ports, dir.path(), &["--filers=1"])?;
    up.wait(&["filer 1: ready"])?;
    let said = refused(Ports::free()?.command(dir.path(), &["--filers=1"])?)?;
    assert!(said.contains("another `dulse up` runs on"), "{said}");
    up.stop(Signal::TERM)?;
    Ok(())
}
