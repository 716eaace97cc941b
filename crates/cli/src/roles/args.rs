// SPDX-License-Identifier: Apache-2.0
//! Flags of the roles. Each is a key of the configuration file, too, and a variable
//! `DULSE_ROLE_FLAG`; see `settings`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dulse_config::{Size, Span};
use dulse_replica::{Durability, LevelBelow, PEERS_WAIT};
use dulse_types::ServerAddress;

/// Size of chunks, as upstream.
pub(crate) const CHUNK_SIZE: Size = Size(4 << 20);

/// How long a dropped chunk stays.
pub(crate) const CHUNK_GRACE: Span = Span(dulse_filer::CHUNK_GRACE);

/// Rows that the scrub looks at in a second: a hundredth of a core, a hundred million in three
/// hours.
pub(crate) const SCRUB_RATE: u64 = 10_000;

/// Volumes above it take no more writes, as upstream.
pub(crate) const VOLUME_SIZE_LIMIT: Size = Size(30 << 30);

/// A member that is silent for this long is shut out.
pub(crate) const OFFLINE_MAX: Span = Span(dulse_replication::OFFLINE_MAX);

/// How long the log is kept.
pub(crate) const LOG_RETENTION: Span = Span(dulse_replica::LOG_RETENTION);

/// Bytes of log above which it goes before its time.
pub(crate) const LOG_BUDGET: Size = Size(dulse_replica::LOG_BUDGET_BYTES);

/// How long a leaving filer waits for the others.
pub(crate) const LEAVE_WAIT: Span = Span(dulse_replication::LEAVE_WAIT);

/// What every role has.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonArgs {
    /// Configuration file; `dulse config template` prints one
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address to listen on and to be known by
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) ip: String,
    /// gRPC port; 0 is the HTTP port + 10000
    #[arg(long, default_value_t = 0)]
    pub(crate) port_grpc: u16,
    #[command(flatten)]
    pub(crate) wire: WireArgs,
    /// End when standard input closes: for whoever starts roles as children
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

/// How connections behave.
#[derive(Args, Clone, Debug)]
pub(crate) struct WireArgs {
    /// Bytes a gRPC connection sends ahead of their being read; between sites at least
    /// bandwidth times round trip
    #[arg(long, default_value_t = Size(16 << 20))]
    pub(crate) grpc_window: Size,
    /// A silent gRPC connection is probed after this; upstream's servers close connections that
    /// are probed more often than each 20s
    #[arg(long, default_value_t = Span(Duration::from_secs(60)))]
    pub(crate) grpc_keep_alive: Span,
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
    /// Volumes above it take no more writes
    #[arg(long, default_value_t = VOLUME_SIZE_LIMIT)]
    pub(crate) volume_size_limit: Size,
    /// Replica placement where none is asked for: copies in other data centers, on other
    /// racks, on other servers of the rack
    #[arg(long, default_value = "000")]
    pub(crate) default_replication: String,
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

/// When writes are acknowledged.
#[derive(Args, Clone, Debug)]
pub(crate) struct DurableArgs {
    /// When writes are acknowledged: fsync (survives power loss), os (survives kill -9), or
    /// peers(n) (on disk at n other filers, too: survives the loss of n machines)
    #[arg(long, default_value = "fsync")]
    pub(crate) durability: Durability,
    /// Other levels for some directories and all below them, such as
    /// `/bank=peers(1),/tmp=os`; the longest directory counts
    #[arg(long, value_delimiter = ',', value_name = "DIRECTORY=LEVEL")]
    pub(crate) durability_below: Vec<LevelBelow>,
    /// How long an answer waits for other filers under peers(n); then the outcome is told as
    /// unknown
    #[arg(long, default_value_t = Span(PEERS_WAIT))]
    pub(crate) peers_wait: Span,
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
    /// Engine of its store: redb, leveldb or sqlite
    #[arg(long, default_value = "redb")]
    pub(crate) engine: String,
    /// Filers of one group replicate to one another
    #[arg(long, default_value = "")]
    pub(crate) filer_group: String,
    #[command(flatten)]
    pub(crate) durable: DurableArgs,
    /// For tests alone: adds to its clock the milliseconds that the file says
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) test_clock_offset_file: Option<PathBuf>,
    /// For tests alone: the latest protocol that it speaks with other filers
    #[arg(long, hide = true, default_value_t = dulse_replication::PROTOCOL)]
    pub(crate) test_protocol: u32,
    /// Files are cut into chunks of this size; whole MiB
    #[arg(long, default_value_t = CHUNK_SIZE)]
    pub(crate) chunk_size: Size,
    /// How long contents stay on the volume servers after they were replaced or deleted and
    /// every filer has that on disk: for clients that still read them
    #[arg(long, default_value_t = CHUNK_GRACE)]
    pub(crate) chunk_grace: Span,
    #[command(flatten)]
    pub(crate) contents: ContentsArgs,
    /// Stored rows that are counted anew in a second, once a day, to find damage; 0 for none
    #[arg(long, default_value_t = SCRUB_RATE)]
    pub(crate) scrub_rate: u64,
    /// Found a cluster without looking for other filers
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) alone: bool,
    /// A filer that is silent for this long, or for which more log is kept than the budget, is
    /// shut out of the cluster; it joins anew when it comes back
    #[arg(long, default_value_t = OFFLINE_MAX)]
    pub(crate) max_offline: Span,
    /// How long the log is kept for subscribers that come back; in any case until every member
    /// has it
    #[arg(long, default_value_t = LOG_RETENTION)]
    pub(crate) log_retention: Span,
    /// Log above which what every member has goes before its time; a tenth of the disk where
    /// that is less
    #[arg(long, default_value_t = LOG_BUDGET)]
    pub(crate) log_budget: Size,
    /// Leave the cluster for good when stopped by SIGTERM or Ctrl-C, once the other filers have
    /// everything: for pods whose disk goes with them. Started again it joins anew
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) leave_on_shutdown: bool,
    /// How long a leaving filer waits for the others; then it leaves only if one of them has
    /// everything
    #[arg(long, default_value_t = LEAVE_WAIT)]
    pub(crate) leave_wait: Span,
}

/// Where contents go when neither the request nor `filer.conf` says so.
#[derive(Args, Clone, Debug)]
pub(crate) struct ContentsArgs {
    /// Uploads over HTTP of fewer bytes are kept in the entry, and so in every filer's store;
    /// 0 keeps none
    #[arg(long, default_value_t = Size(0))]
    pub(crate) inline_below: Size,
    /// Collection of contents outside of buckets
    #[arg(long, default_value = "")]
    pub(crate) collection: String,
    /// Replica placement of contents, such as 001; empty leaves it to the master
    #[arg(long, default_value = "")]
    pub(crate) replication: String,
    /// Disk type of contents
    #[arg(long, default_value = "")]
    pub(crate) disk_type: String,
    /// Data center that contents are wished in
    #[arg(long, default_value = "")]
    pub(crate) data_center: String,
    /// Rack that contents are wished in
    #[arg(long, default_value = "")]
    pub(crate) rack: String,
}

/// Arguments of `dulse server`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    /// Configuration file; `dulse config template` prints one
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) ip: String,
    /// HTTP port of the master; gRPC is 10000 above, as everywhere
    #[arg(long, default_value_t = 9333)]
    pub(crate) master_port: u16,
    /// HTTP port of the volume server
    #[arg(long, default_value_t = 8080)]
    pub(crate) volume_port: u16,
    /// HTTP port of the filer
    #[arg(long, default_value_t = 8888)]
    pub(crate) filer_port: u16,
    /// Where everything is kept
    #[arg(long, default_value = "./dulse-server")]
    pub(crate) dir: PathBuf,
    /// Engine of the filer's store: redb, leveldb or sqlite
    #[arg(long, default_value = "redb")]
    pub(crate) engine: String,
    #[command(flatten)]
    pub(crate) durable: DurableArgs,
    #[command(flatten)]
    pub(crate) contents: ContentsArgs,
    #[command(flatten)]
    pub(crate) wire: WireArgs,
}
