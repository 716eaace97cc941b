// SPDX-License-Identifier: Apache-2.0
//! `dulse up`: a whole local cluster, each role a child process.

mod children;
mod display;
mod plan;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::status;
use children::{Event, RESTART_DELAY, supervise};
use display::Display;
use plan::Server;

/// How often the live lines are made anew.
const REFRESH: Duration = Duration::from_secs(1);

/// Events that may wait; each role makes one per life.
const EVENTS_MAX: usize = 64;

/// Arguments of `dulse up`.
#[derive(Args, Clone, Debug)]
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
    pub(crate) ip: String,
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
    let servers = plan::plan(&args)?;
    let (stop, stopped) = watch::channel(false);
    let (events_in, mut events) = mpsc::channel(EVENTS_MAX);
    let mut roles = JoinSet::new();
    for server in &servers {
        roles.spawn(supervise(
            server.role.clone(),
            events_in.clone(),
            stopped.clone(),
        ));
    }
    drop(events_in);

    let mut display = Display::new(&args, &servers);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => show(&mut display, event),
                None => break,
            },
            _ = refresh.tick() => display.refresh(&observe(&args, &servers).await),
            Some(ended) = roles.join_next() => ended??,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    display.say("stopping …");
    stop.send_replace(true);
    drop(events);
    while let Some(ended) = roles.join_next().await {
        ended??;
    }
    display.say("stopped; start again with the same --dir to resume");
    Ok(())
}

fn show(display: &mut Display, event: Event) {
    match event {
        Event::Started { name, pid } => display.started(&name, pid),
        Event::Died { name, status } => display.say(&format!(
            "{name} ended ({status}); starting it again in {} s",
            RESTART_DELAY.as_secs()
        )),
    }
}

async fn observe(args: &UpArgs, servers: &[Server]) -> Vec<(String, Option<status::Filer>)> {
    let filers = servers.iter().filter(|s| s.engine.is_some());
    let asked = filers.map(|server| async {
        let address = format!("{}:{}", args.ip, server.port);
        (server.name.clone(), status::ask(&address).await.ok())
    });
    futures::future::join_all(asked).await
}
