// SPDX-License-Identifier: Apache-2.0
//! The roles: master, volume, filer, each a process, or all in one.

mod args;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use dulse_config::Size;
use dulse_filer::{Filer, FilerOptions};
use dulse_master::{Master, MasterOptions};
use dulse_replica::Durability;
use dulse_types::ServerAddress;
use dulse_volume::{VolumeOptions, VolumeServer};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Usage;
use args::{CHUNK_SIZE, VOLUME_SIZE_LIMIT};
pub(crate) use args::{CommonArgs, FilerArgs, MasterArgs, ServerArgs, VolumeArgs};

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

async fn start_master(args: &MasterArgs) -> Result<Master> {
    let place = place(&args.common, args.port)?;
    let options = MasterOptions {
        address: place.address.clone(),
        dir: args.dir.clone(),
        volume_size_limit_bytes: args.volume_size_limit.0,
        default_replication: args.default_replication.clone(),
        signing_key: String::new(),
    };
    let master = Master::start(options, place.http, place.grpc)
        .await
        .map_err(usage)?;
    tracing::info!(address = %place.address, "master is up");
    Ok(master)
}

async fn start_volume(args: &VolumeArgs) -> Result<VolumeServer> {
    let place = place(&args.common, args.port)?;
    let options = VolumeOptions {
        address: place.address.clone(),
        dir: args.dir.clone(),
        masters: args.master.clone(),
        max_volumes: args.max,
        signing_key: String::new(),
    };
    let server = VolumeServer::start(options, place.http, place.grpc)
        .await
        .map_err(usage)?;
    tracing::info!(address = %place.address, "volume server is up");
    Ok(server)
}

async fn start_filer(args: &FilerArgs) -> Result<Filer> {
    let place = place(&args.common, args.port)?;
    let durability = if args.durability == "os" {
        Durability::Os
    } else {
        Durability::Fsync
    };
    let (engine, dir) = (args.engine.clone(), args.dir.clone());
    let random = u64::from_be_bytes(random_bytes()?);
    let open = move || dulse_registry::open_embedded(&engine, &dir, durability, random);
    let store = tokio::task::spawn_blocking(open).await?.map_err(usage)?;
    let origin = store.shared().origin();
    tracing::info!(%origin, engine = args.engine, group = args.filer_group, "embedded store is open");
    let options = FilerOptions {
        address: place.address.clone(),
        masters: args.master.clone(),
        group: args.filer_group.clone(),
        is_alone: args.alone,
        max_mb: mebibytes(args.chunk_size)?,
    };
    let started = Filer::start(options, place.http, place.grpc, Arc::new(store)).await;
    let filer = started.map_err(usage)?;
    tracing::info!(address = %place.address, "filer is up");
    Ok(filer)
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
fn random_bytes() -> Result<[u8; 8]> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context("get randomness")?;
    Ok(bytes)
}

/// A start that cannot work as asked, in one sentence with its causes.
fn usage(error: impl std::error::Error) -> anyhow::Error {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    Usage(text).into()
}

/// Waits for SIGTERM, Ctrl-C, or the end of standard input where that counts.
async fn stopped(with_stdin: bool) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let input_ended = async {
        if !with_stdin {
            return std::future::pending::<()>().await;
        }
        let mut buffer = [0; 256];
        while tokio::io::stdin()
            .read(&mut buffer)
            .await
            .is_ok_and(|n| n > 0)
        {}
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = input_ended => {}
    }
    tracing::info!("stopping");
    Ok(())
}

/// `dulse master`.
///
/// # Errors
///
/// `Usage` when it cannot start as asked.
pub(crate) async fn master(args: MasterArgs) -> Result<()> {
    let master = start_master(&args).await?;
    stopped(args.common.exit_with_stdin).await?;
    master.stop().await;
    Ok(())
}

/// `dulse volume`.
///
/// # Errors
///
/// `Usage` when it cannot start as asked.
pub(crate) async fn volume(args: VolumeArgs) -> Result<()> {
    let server = start_volume(&args).await?;
    stopped(args.common.exit_with_stdin).await?;
    server.stop().await;
    Ok(())
}

/// `dulse filer`.
///
/// # Errors
///
/// `Usage` when it cannot start as asked.
pub(crate) async fn filer(args: FilerArgs) -> Result<()> {
    let filer = start_filer(&args).await?;
    stopped(args.common.exit_with_stdin).await?;
    filer.stop().await;
    Ok(())
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
    let master = start_master(&MasterArgs {
        common: common.clone(),
        port: args.master_port,
        dir: args.dir.join("master"),
        volume_size_limit: VOLUME_SIZE_LIMIT,
        default_replication: String::new(),
    })
    .await?;
    let volume = start_volume(&VolumeArgs {
        common: common.clone(),
        port: args.volume_port,
        dir: args.dir.join("volume"),
        master: masters.clone(),
        max: 0,
    })
    .await?;
    let filer = start_filer(&FilerArgs {
        common,
        port: args.filer_port,
        dir: args.dir.join("filer"),
        master: masters,
        engine: args.engine,
        filer_group: String::new(),
        durability: args.durability,
        chunk_size: CHUNK_SIZE,
        alone: false,
    })
    .await?;
    stopped(false).await?;
    filer.stop().await;
    volume.stop().await;
    master.stop().await;
    Ok(())
}
