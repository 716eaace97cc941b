// SPDX-License-Identifier: Apache-2.0
//! Upstream's real filer and ours on one database, under one master: each serves what the other
//! wrote, and our subscribers are told of both.

#[path = "databases/cassandra.rs"]
mod cassandra;
#[path = "databases/etcd.rs"]
mod etcd;
#[path = "databases/hbase.rs"]
mod hbase;
#[path = "databases/mysql.rs"]
mod mysql;
#[path = "databases/postgres.rs"]
mod postgres;
#[path = "databases/redis.rs"]
mod redis;

use dulse_shared_testkit::Database;
use dulse_tests::shared::{Case, run_trials, trials, upstream};

const NAME: &str = "upstreams_filer_beside_ours";

fn beside<D: Database>() -> Case<D> {
    |server, section| Box::pin(upstream::beside(server, section))
}

fn main() -> std::process::ExitCode {
    let of_postgres = trials(vec![(NAME, "postgres", beside::<postgres::Postgres>())]);
    let of_mysql = trials(vec![(NAME, "mysql", beside::<mysql::MariaDb>())]);
    let of_etcd = trials(vec![(NAME, "etcd", beside::<etcd::Etcd>())]);
    let redis = ["redis2", "redis3", "redis_cluster2"]
        .map(|section| (NAME, section, beside::<redis::Redis>()));
    let of_redis = trials(redis.to_vec());
    let of_hbase = trials(vec![(NAME, "hbase", beside::<hbase::Hbase>())]);
    let of_cassandra = trials(vec![(NAME, "cassandra2", beside::<cassandra::Cassandra>())]);
    run_trials(
        of_postgres
            .into_iter()
            .chain(of_mysql)
            .chain(of_redis)
            .chain(of_hbase)
            .chain(of_etcd)
            .chain(of_cassandra)
            .collect(),
    )
}
