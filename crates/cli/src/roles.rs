// SPDX-License-Identifier: Apache-2.0
//! The roles: master, volume, filer, each a process, or all in one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use dulse_filer::{Filer, FilerOptions};
use dulse_master::{Master, MasterOptions};
use dulse_replica::Durability;
use dulse_types::ServerAddress;
use dulse_volume::{VolumeOptions, VolumeServer};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Usage;

/// Volumes above it take no more writes: 30 GiB, as upstream.
const VOLUME_SIZE_LIMIT_BYTES: u64 = 30 << 30;

/// What every role has.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonArgs {
    /// Address to listen on and to be known by
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) ip: String,
    /// gRPC port; 0 is the HTTP port + 10000
    #[arg(long, default_value_t = 0)]
    pub(crate) port_grpc: u16,
    /// End when standard input closes: for whoever starts roles as children
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

/// Arguments of `dulse master`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MasterArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// HTTP port
    #[arg(long, default_value_t = 9333)]
    pub(crate) port: u16,
    /// Where its state is kept
    #[arg(long, default_value = "./dulse-master")]
    pub(crate) dir: PathBuf,
}

/// Arguments of `dulse volume`.
#[derive(Args, Clone, Debug)]
pub(crate) struct VolumeArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// HTTP port
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// Where the volumes are
    #[arg(long, default_value = "./dulse-volumes")]
    pub(crate) dir: PathBuf,
    /// Masters, `host:port`, a comma list
    #[arg(long, default_value = "127.0.0.1:9333", value_delimiter = ',')]
    pub(crate) master: Vec<ServerAddress>,
    /// Most volumes; 0 goes by free disk
    #[arg(long, default_value_t = 0)]
    pub(crate) max: u32,
}

/// Arguments of `dulse filer`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FilerArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// HTTP port
    #[arg(long, default_value_t = 8888)]
    pub(crate) port: u16,
    /// Where its store is
    #[arg(long, default_value = "./dulse-filer")]
    pub(crate) dir: PathBuf,
    /// Masters, `host:port`, a comma list
    #[arg(long, default_value = "127.0.0.1:9333", value_delimiter = ',')]
    pub(crate) master: Vec<ServerAddress>,
    /// Engine of its store: redb or sqlite
    #[arg(long, default_value = "redb")]
    pub(crate) engine: String,
    /// Filers of one group replicate to one another
    #[arg(long, default_value = "")]
    pub(crate) filer_group: String,
    /// When writes are acknowledged: fsync (survives power loss) or os (survives kill -9)
    #[arg(long, default_value = "fsync", value_parser = ["fsync", "os"])]
    pub(crate) durability: String,
    /// Found a cluster without looking for other filers
    #[arg(long)]
    pub(crate) alone: bool,
}

/// Arguments of `dulse server`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) ip: String,
    /// Where everything is kept
    #[arg(long, default_value = "./dulse-server")]
    pub(crate) dir: PathBuf,
    /// Engine of the filer's store: redb or sqlite
    #[arg(long, default_value = "redb")]
    pub(crate) engine: String,
}

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
        volume_size_limit_bytes: VOLUME_SIZE_LIMIT_BYTES,
        default_replication: String::new(),
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
        max_mb: 4,
    };
    let started = Filer::start(options, place.http, place.grpc, Arc::new(store), None).await;
    let filer = started.map_err(usage)?;
    tracing::info!(address = %place.address, "filer is up");
    Ok(filer)
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
        ip: args.ip.clone(),
        port_grpc: 0,
        exit_with_stdin: false,
    };
    let masters = vec![ServerAddress::new(&args.ip, 9333, 0).map_err(|e| Usage(e.to_string()))?];
    let master = start_master(&MasterArgs {
        common: common.clone(),
        port: 9333,
        dir: args.dir.join("master"),
    })
    .await?;
    let volume = start_volume(&VolumeArgs {
        common: common.clone(),
        port: 8080,
        dir: args.dir.join("volume"),
        master: masters.clone(),
        max: 0,
    })
    .await?;
    let filer = start_filer(&FilerArgs {
        common,
        port: 8888,
        dir: args.dir.join("filer"),
        master: masters,
        engine: args.engine,
        filer_group: String::new(),
        durability: "fsync".to_owned(),
        alone: false,
    })
    .await?;
    stopped(false).await?;
    filer.stop().await;
    volume.stop().await;
    master.stop().await;
    Ok(())
}
