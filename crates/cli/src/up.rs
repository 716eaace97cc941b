// SPDX-License-Identifier: Apache-2.0
//! `dulse up`: a whole local cluster, each role a child process.

mod children;
mod display;
mod plan;
mod printer;
mod watch;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;

use children::{Event, RESTART_DELAY, supervise};
use display::Display;

/// Events that may wait; each role makes two per life.
const EVENTS_MAX: usize = 64;

/// Arguments of `dulse up`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit code: 0 when it was stopped with Ctrl-C or SIGTERM; 2 when it cannot start as \
                  typed: a port in use, a directory that cannot be written, an unknown engine."
)]
pub(crate) struct UpArgs {
    /// How many filers, each with its own store
    #[arg(long, default_value_t = 3)]
    pub(crate) filers: u16,
    /// Where everything is kept: stores, volumes, logs
    #[arg(long, default_value = "./dulse-data")]
    pub(crate) dir: PathBuf,
    /// Engine of the filers' stores; a comma list repeats over the filers
    #[arg(long, default_value = "redb")]
    pub(crate) engine: String,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) ip: std::net::IpAddr,
    /// HTTP port of the master; gRPC is 10000 above, as everywhere
    #[arg(long, default_value_t = 9333)]
    pub(crate) master_port: u16,
    /// HTTP port of the volume server
    #[arg(long, default_value_t = 8080)]
    pub(crate) volume_port: u16,
    /// HTTP port of the first filer; the others take the ports behind it
    #[arg(long, default_value_t = 8888)]
    pub(crate) filer_port: u16,
}

/// Starts the cluster, shows it, and stops it on Ctrl-C or SIGTERM.
///
/// # Errors
///
/// `Usage` when it cannot start as asked; else what failed.
pub(crate) async fn up(args: UpArgs) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Held until the end: no other `up` runs on the directory meanwhile.
    let plan = plan::plan(&args)?;
    let (stop, stopped) = channel::channel(false);
    let (events_in, mut events) = mpsc::channel(EVENTS_MAX);
    let mut roles = JoinSet::new();
    for server in &plan.servers {
        let role = server.role.clone();
        roles.spawn(supervise(role, events_in.clone(), stopped.clone()));
    }
    drop(events_in);

    // Asked on a task of its own: a filer that does not answer must not hold back Ctrl-C.
    let (watching, mut seen) = watch::start(&plan.servers);
    let mut display = Display::new(&args, &plan.servers);
    let mut result = Ok(());
    while display.is_open() {
        tokio::select! {
            Some(event) = events.recv() => show(&mut display, event),
            Ok(()) = seen.changed() => display.refresh(&seen.borrow_and_update()),
            Some(ended) = roles.join_next() => {
                result = ended?;
                break;
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => break,
        }
    }
    watching.abort();
    display.say("stopping …");
    stop.send_replace(true);
    drop(events);
    while let Some(ended) = roles.join_next().await {
        result = result.and(ended?);
    }
    display.say("stopped; start again with the same --dir to resume");
    result
}

fn show(display: &mut Display, event: Event) {
    match event {
        Event::Started { name, pid } => display.started(&name, pid),
        Event::Died { name, status, last } => {
            let last = match last {
                Some(line) => format!(": {line}"),
                None => String::new(),
            };
            display.say(&format!(
                "{name} ended ({status}){last}; starting it again in {} s",
                RESTART_DELAY.as_secs()
            ));
        }
    }
}
