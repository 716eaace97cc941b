// SPDX-License-Identifier: Apache-2.0
//! A filer in memory that is alone, has founded its cluster and is ready.

use std::sync::Arc;

use dulse_cluster::Listing;
use dulse_journal::MemDisk;
use dulse_kv::MemoryEngine;
use dulse_replica::{Durability, Limits, Replica, ReplicaOptions, ReplicaStore, SystemClock};
use dulse_replication::{OFFLINE_MAX, Options, PROTOCOL, Replicator};
use dulse_transport::Transport;
use dulse_types::ServerAddress;
use tokio::sync::watch;

pub(crate) fn replica(n: u64) -> Replica {
    Replica::open(ReplicaOptions {
        disk: Arc::new(MemDisk::new()),
        engine: Arc::new(MemoryEngine::new()),
        clock: Arc::new(SystemClock),
        random: n << 32 | n,
        durability: Durability::Fsync,
        limits: Limits::STANDARD,
    })
    .unwrap()
}

pub(crate) fn address(port: u16) -> ServerAddress {
    ServerAddress::new("127.0.0.1", port, 0).unwrap()
}

pub(crate) fn options(at: &ServerAddress, is_alone: bool, listing: Option<Listing>) -> Options {
    Options {
        address: at.clone(),
        group: String::new(),
        is_alone,
        offline_max: OFFLINE_MAX,
        protocol: PROTOCOL,
        listed: watch::channel(listing).1,
        master_time: watch::channel(None).1,
        report: Arc::new(|_, _, _| Box::pin(async { Ok(()) })),
        transport: Transport::plain(),
        scrub_rate: 0,
    }
}

pub(crate) async fn ready(replicator: &Replicator) {
    let mut why = replicator.ready();
    why.wait_for(Option::is_none).await.unwrap();
}

pub(crate) async fn founder(n: u64, at: &ServerAddress) -> (Arc<ReplicaStore>, Replicator) {
    let store = Arc::new(ReplicaStore::start(replica(n)).unwrap());
    let replicator = Replicator::start(Arc::clone(&store), options(at, true, None));
    ready(&replicator).await;
    (store, replicator)
}
