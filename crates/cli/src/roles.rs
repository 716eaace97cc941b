// SPDX-License-Identifier: Apache-2.0
//! The roles: master, volume, filer, each a process, or all in one.

mod args;
mod healing;
mod place;
mod rescue;
mod sharing;
mod test_clock;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dulse_config::{Security, Size};
use dulse_filer::{Entries, Filer, FilerOptions};
use dulse_master::{Master, MasterOptions};
use dulse_merge::row::MemberRow;
use dulse_registry::Writes;
use dulse_replica::{Clock, Levels, Limits, ReplicaStore, SystemClock};
use dulse_telemetry::Exporter;
use dulse_telemetry::process::observe_disk;
use dulse_transport::{Service, Transport, Wire};
use dulse_types::ServerAddress;
use dulse_volume::{VolumeOptions, VolumeServer};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::edges;
use crate::exit::Usage;
use args::{CHUNK_SIZE, ContentsArgs, DurableArgs, SCRUB_RATE, VOLUME_SIZE_LIMIT, WireArgs};
pub(crate) use args::{CommonArgs, FilerArgs, MasterArgs, ServerArgs, VolumeArgs};
use place::Within;
use test_clock::WrongClock;

/// Smallest HTTP/2 window: the protocol's own.
const WINDOW_MIN: u32 = 64 << 10;

/// Largest HTTP/2 window that is set; the protocol's is a byte short of the double.
const WINDOW_MAX: u32 = 1 << 30;

/// Probes at shorter intervals make upstream's servers close the connection.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(20);

/// Where a role listens and who it is to others.
struct Place {
    address: ServerAddress,
    http: SocketAddr,
    grpc: SocketAddr,
}

fn place(common: &CommonArgs, port: u16) -> Result<Place> {
    let address =
        ServerAddress::new(&common.ip, port, common.port_grpc).map_err(|e| Usage(e.to_string()))?;
    let socket = |port: u16| -> Result<SocketAddr> {
        let text = format!("{}:{port}", common.ip);
        text.parse()
            .map_err(|_| Usage(format!("`{}` is no IP address", common.ip)).into())
    };
    Ok(Place {
        http: socket(address.port())?,
        grpc: socket(address.grpc_port())?,
        address,
    })
}

/// The transport of a role.
fn transport(service: Service, args: &WireArgs, security: &Security) -> Result<Transport> {
    edges::transport(service, security, wire(args)?)
}

/// Settings of connections, within what HTTP/2 and upstream's servers allow.
fn wire(args: &WireArgs) -> Result<Wire> {
    let window = u32::try_from(args.grpc_window.0).ok();
    let window = window.filter(|bytes| (WINDOW_MIN..=WINDOW_MAX).contains(bytes));
    let window_bytes = window.ok_or_else(|| {
        Usage(format!(
            "--grpc-window is `{}`; expected 64KiB to 1GiB",
            args.grpc_window
        ))
    })?;
    if args.grpc_keep_alive.0 < KEEP_ALIVE_MIN {
        let text = format!(
            "--grpc-keep-alive is `{}`; expected at least 20s",
            args.grpc_keep_alive
        );
        return Err(Usage(text).into());
    }
    Ok(Wire {
        window_bytes,
        keep_alive: args.grpc_keep_alive.0,
    })
}

async fn start_master(args: &MasterArgs, transport: Transport) -> Result<Master> {
    let place = place(&args.common, args.port)?;
    let options = MasterOptions {
        address: place.address.clone(),
        dir: args.dir.clone(),
        volume_size_limit_bytes: args.volume_size_limit.0,
        default_replication: args.default_replication.clone(),
        transport,
    };
    let master = Master::start(options, place.http, place.grpc)
        .await
        .map_err(usage)?;
    tracing::info!(address = %place.address, "master is up");
    Ok(master)
}

async fn start_volume(args: &VolumeArgs, transport: Transport) -> Result<VolumeServer> {
    let place = place(&args.common, args.port)?;
    let options = VolumeOptions {
        address: place.address.clone(),
        dir: args.dir.clone(),
        masters: args.master.clone(),
        max_volumes: args.max,
        transport,
    };
    let server = VolumeServer::start(options, place.http, place.grpc)
        .await
        .map_err(usage)?;
    tracing::info!(address = %place.address, "volume server is up");
    Ok(server)
}

async fn start_filer(
    mut args: FilerArgs,
    within: Within<'_>,
    transport: Transport,
    security: &Security,
) -> Result<Filer> {
    let settled = place::settle(&mut args, within)?;
    let args = &args;
    let place = place(&args.common, args.port)?;
    let entries = match settled.shared {
        Some(shared) => sharing::open(args, shared).await?,
        None => Entries::Embedded(open_embedded(args, &place.address).await?),
    };
    let located = sharing::open_located(args, &entries, settled.located).await?;
    let is_embedded = matches!(entries, Entries::Embedded(_));
    let mut http = dulse_filer::http::Options::upstream();
    http.lists_directories = security.lists_directories;
    if let Some(origins) = &security.allowed_origins {
        http.allowed_origins.clone_from(origins);
    }
    place::apply(&settled.options, &mut http);
    place_contents(&mut http, &args.contents)?;
    let options = FilerOptions {
        address: place.address.clone(),
        masters: args.master.clone(),
        group: args.filer_group.clone(),
        is_alone: args.alone,
        offline_max: args.max_offline.0,
        protocol: args.test_protocol,
        leaves_within: args.leave_on_shutdown.then_some(args.leave_wait.0),
        chunk_grace: args.chunk_grace.0,
        max_mb: mebibytes(args.chunk_size)?,
        scrub_rate: args.scrub_rate,
        transport,
        http,
    };
    if let Some(exporter) = Exporter::installed() {
        let dir = args.dir.clone();
        exporter.observe(move || observe_disk("filer", &dir));
    }
    let started = Filer::start(options, place.http, place.grpc, entries, located).await;
    let filer = started.map_err(usage)?;
    if is_embedded {
        rescue::begin(&filer, &args.dir);
    }
    tracing::info!(address = %place.address, "filer is up");
    Ok(filer)
}

/// Opens a store of this filer's own.
async fn open_embedded(args: &FilerArgs, own: &ServerAddress) -> Result<Arc<ReplicaStore>> {
    let mut writes = writes(&args.durable)?;
    writes.limits.log_retention = args.log_retention.0;
    writes.limits.log_budget_bytes = args.log_budget.0;
    let clock: Arc<dyn Clock> = match &args.test_clock_offset_file {
        None => Arc::new(SystemClock),
        Some(file) => {
            tracing::warn!(file = %file.display(), "this filer's clock is set wrong for a test");
            Arc::new(WrongClock(file.clone()))
        }
    };
    let store = healing::open(args, own, &writes, &clock).await?;
    tell_store(args, &store)?;
    Ok(Arc::new(store))
}

/// Says what this filer is: its store, who it is by it, and with whom it keeps in step.
fn tell_store(args: &FilerArgs, store: &ReplicaStore) -> Result<()> {
    let shared = store.shared();
    let origin = shared.origin();
    let members = shared.members().map_err(usage)?;
    let peers = members
        .iter()
        .filter(|(member, row)| *member != origin && row.state == MemberRow::MEMBER);
    let peers: Vec<_> = peers.map(|(_, member)| member.address.clone()).collect();
    let peers = match peers.is_empty() {
        true => "none known yet".to_owned(),
        false => peers.join(", "),
    };
    tracing::info!(
        kind = "embedded",
        engine = args.engine,
        dir = %args.dir.display(),
        store_id = origin.signature(),
        %origin,
        group = args.filer_group,
        replicates_with = peers,
        "embedded store is open"
    );
    Ok(())
}

/// Most that an entry may hold of its file: every filer keeps it, and a change has 4 MiB.
const INLINE_BELOW_MAX: Size = Size(1 << 20);

fn place_contents(http: &mut dulse_filer::http::Options, args: &ContentsArgs) -> Result<()> {
    if args.inline_below.0 > INLINE_BELOW_MAX.0 {
        let given = args.inline_below;
        let text = format!("--inline-below is `{given}`; expected at most `{INLINE_BELOW_MAX}`");
        return Err(Usage(text).into());
    }
    http.inline_below = args.inline_below.0 as usize;
    http.collection.clone_from(&args.collection);
    http.replication.clone_from(&args.replication);
    http.disk_type.clone_from(&args.disk_type);
    http.data_center.clone_from(&args.data_center);
    http.rack.clone_from(&args.rack);
    Ok(())
}

/// When writes are acknowledged, checked once.
fn writes(args: &DurableArgs) -> Result<Writes> {
    let levels = Levels::new(args.durability, &args.durability_below);
    let levels = levels.map_err(|e| Usage(format!("--durability-below: {e}")))?;
    if args.peers_wait.0.is_zero() {
        let text = "--peers-wait is `0s`; expected a time such as `10s`";
        return Err(Usage(text.to_owned()).into());
    }
    Ok(Writes {
        levels,
        peers_wait: args.peers_wait.0,
        limits: Limits::STANDARD,
    })
}

/// A size in whole MiB, as upstream's clients are told.
fn mebibytes(size: Size) -> Result<u32> {
    let is_whole = size.0 > 0 && size.0.is_multiple_of(1 << 20);
    let mebibytes = u32::try_from(size.0 >> 20).ok().filter(|_| is_whole);
    let wrong = || {
        Usage(format!(
            "--chunk-size is `{size}`; expected whole MiB such as `4MiB`"
        ))
    };
    Ok(mebibytes.ok_or_else(wrong)?)
}

/// Eight bytes of the system's randomness, for the origin of a new store.
pub(crate) fn random_bytes() -> Result<[u8; 8]> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("get randomness")?;
    Ok(bytes)
}

/// A start that cannot work as asked, in one sentence with its causes.
fn usage(error: impl std::error::Error) -> anyhow::Error {
    Usage(chain(&error)).into()
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Waits for SIGTERM, Ctrl-C, or the end of standard input where that counts; reads token
/// keys again at SIGHUP.
async fn stopped(with_stdin: bool, transports: &[Transport]) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut ended = std::pin::pin!(input_ended(with_stdin));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut ended => break,
            _ = hang_up.recv() => edges::reload(transports),
        }
    }
    tracing::info!("stopping");
    Ok(())
}

async fn input_ended(counts: bool) {
    if !counts {
        return std::future::pending::<()>().await;
    }
    let mut buffer = [0; 256];
    let mut input = tokio::io::stdin();
    while input.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

/// `dulse master`.
///
/// # Errors
///
/// `Usage` when it cannot start as asked.
pub(crate) async fn master(args: MasterArgs) -> Result<()> {
    let security = edges::security()?;
    let transport = transport(Service::Master, &args.common.wire, &security)?;
    let master = start_master(&args, transport.clone()).await?;
    stopped(args.common.exit_with_stdin, &[transport]).await?;
    master.stop().await;
    Ok(())
}

/// `dulse volume`.
///
/// # Errors
///
/// `Usage` when it cannot start as asked.
pub(crate) async fn volume(args: VolumeArgs) -> Result<()> {
    let security = edges::security()?;
    let transport = transport(Service::Volume, &args.common.wire, &security)?;
    let server = start_volume(&args, transport.clone()).await?;
    stopped(args.common.exit_with_stdin, &[transport]).await?;
    server.stop().await;
    Ok(())
}

/// `dulse filer`.
///
/// # Errors
///
/// `Usage` when it cannot start as asked.
pub(crate) async fn filer(args: FilerArgs) -> Result<()> {
    let security = edges::security()?;
    let transport = transport(Service::Filer, &args.common.wire, &security)?;
    let exit_with_stdin = args.common.exit_with_stdin;
    let filer = start_filer(args, Within::Filer, transport.clone(), &security).await?;
    let transports = [transport];
    let is_renewed = tokio::select! {
        stopped = stopped(exit_with_stdin, &transports) => stopped.map(|()| false)?,
        () = filer.renewed() => true,
    };
    filer.stop().await;
    if is_renewed {
        return start_again();
    }
    Ok(())
}

/// Replaces this process by a new one with the same arguments: everything that holds on to the
/// store's old origin is gone with it. Returns only where that fails.
fn start_again() -> Result<()> {
    use std::os::unix::process::CommandExt;
    tracing::info!("starting again, to open the store under its new origin");
    let program = std::env::current_exe().context("find the own program")?;
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(error).context("start again")
}

/// `dulse server`: one of each in one process.
///
/// # Errors
///
/// `Usage` when it cannot start as asked.
pub(crate) async fn server(args: ServerArgs) -> Result<()> {
    let common = CommonArgs {
        config: None,
        ip: args.ip.clone(),
        port_grpc: 0,
        wire: args.wire.clone(),
        exit_with_stdin: false,
    };
    let address = ServerAddress::new(&args.ip, args.master_port, 0);
    let masters = vec![address.map_err(|e| Usage(e.to_string()))?];
    let security = edges::security()?;
    let services = [Service::Master, Service::Volume, Service::Filer];
    let mut transports = Vec::new();
    for service in services {
        transports.push(transport(service, &args.wire, &security)?);
    }
    let [of_master, of_volume, of_filer] = [0, 1, 2].map(|i: usize| transports[i].clone());
    let master = MasterArgs {
        common: common.clone(),
        port: args.master_port,
        dir: args.dir.join("master"),
        volume_size_limit: VOLUME_SIZE_LIMIT,
        default_replication: String::new(),
    };
    let master = start_master(&master, of_master).await?;
    let volume = VolumeArgs {
        common: common.clone(),
        port: args.volume_port,
        dir: args.dir.join("volume"),
        master: masters.clone(),
        max: 0,
    };
    let volume = start_volume(&volume, of_volume).await?;
    let filer = FilerArgs {
        common,
        port: args.filer_port,
        dir: args.dir.join("filer"),
        master: masters,
        engine: args.engine,
        filer_group: String::new(),
        durable: args.durable,
        test_clock_offset_file: None,
        test_protocol: dulse_replication::PROTOCOL,
        chunk_size: CHUNK_SIZE,
        chunk_grace: args::CHUNK_GRACE,
        contents: args.contents,
        scrub_rate: SCRUB_RATE,
        alone: false,
        max_offline: args::OFFLINE_MAX,
        log_retention: args::LOG_RETENTION,
        log_budget: args::LOG_BUDGET,
        leave_on_shutdown: false,
        leave_wait: args::LEAVE_WAIT,
    };
    let filer = start_filer(filer, Within::Server(&args.dir), of_filer, &security).await?;
    let is_renewed = tokio::select! {
        stopped = stopped(false, &transports) => stopped.map(|()| false)?,
        () = filer.renewed() => true,
    };
    filer.stop().await;
    volume.stop().await;
    master.stop().await;
    if is_renewed {
        return start_again();
    }
    Ok(())
}
