// SPDX-License-Identifier: Apache-2.0
//! Upstream's sections, their keys, types and defaults.

use super::section::Value;

/// Type and default of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text(&'static str),
    Integer(i64),
    Boolean(bool),
    /// Without a default.
    List,
}

use Kind::{Boolean, Integer, List, Text};

type Keys = &'static [(&'static str, Kind)];

/// Keys of stores that are files.
const DIR2: Keys = &[("dir", Text("./filerldb2"))];
const DIR3: Keys = &[("dir", Text("./filerldb3"))];
const ROCKS: Keys = &[("dir", Text("./filerrdb"))];
const SQLITE: Keys = &[("dbFile", Text("./filer.db"))];

const MYSQL: Keys = &[
    ("dsn", Text("")),
    ("hostname", Text("")),
    ("port", Integer(3306)),
    ("username", Text("")),
    ("password", Text("")),
    ("database", Text("")),
    ("connection_max_idle", Integer(2)),
    ("connection_max_open", Integer(50)),
    ("connection_max_lifetime_seconds", Integer(300)),
    ("interpolateParams", Boolean(false)),
    ("enableUpsert", Boolean(true)),
    ("upsertQuery", Text("")),
    ("enable_tls", Boolean(false)),
    ("ca_crt", Text("")),
    ("client_crt", Text("")),
    ("client_key", Text("")),
    ("tls_insecure_skip_verify", Boolean(false)),
    ("tls_server_name", Text("")),
];

const POSTGRES: Keys = &[
    ("hostname", Text("")),
    ("port", Integer(5432)),
    ("username", Text("")),
    ("password", Text("")),
    ("database", Text("")),
    ("schema", Text("")),
    ("sslmode", Text("disable")),
    ("sslcert", Text("")),
    ("sslkey", Text("")),
    ("sslrootcert", Text("")),
    ("sslcrl", Text("")),
    ("connection_max_idle", Integer(2)),
    ("connection_max_open", Integer(50)),
    ("connection_max_lifetime_seconds", Integer(300)),
    ("pgbouncer_compatible", Boolean(false)),
    ("enableUpsert", Boolean(true)),
    ("upsertQuery", Text("")),
];

/// Of `mysql2` and `postgres2`, beside those of the first.
const TABLES: Keys = &[("createTable", Text(""))];

const CASSANDRA: Keys = &[
    ("keyspace", Text("")),
    ("hosts", List),
    ("username", Text("")),
    ("password", Text("")),
    ("superLargeDirectories", List),
    ("localDC", Text("")),
    ("connection_timeout_millisecond", Integer(600)),
];

const CASSANDRA2: Keys = &[
    ("ssl_ca_path", Text("")),
    ("ssl_cert_path", Text("")),
    ("ssl_key_path", Text("")),
    ("ssl_enable_host_verification", Boolean(true)),
];

const HBASE: Keys = &[("zkquorum", Text("")), ("table", Text("seaweedfs"))];

/// Of every Redis; 0 leaves it to the client.
const REDIS: Keys = &[
    ("username", Text("")),
    ("password", Text("")),
    ("enable_tls", Boolean(false)),
    ("enable_mtls", Boolean(false)),
    ("ca_cert_path", Text("")),
    ("client_cert_path", Text("")),
    ("client_key_path", Text("")),
    ("max_retries", Integer(0)),
    ("min_retry_backoff_millisecond", Integer(0)),
    ("max_retry_backoff_millisecond", Integer(0)),
    ("dial_timeout_millisecond", Integer(0)),
    ("read_timeout_millisecond", Integer(0)),
    ("write_timeout_millisecond", Integer(0)),
    ("pool_size", Integer(0)),
    ("pool_timeout_millisecond", Integer(0)),
    ("min_idle_conns", Integer(0)),
    ("max_idle_conns", Integer(0)),
    ("conn_max_idle_time_seconds", Integer(0)),
    ("conn_max_lifetime_seconds", Integer(0)),
    ("keyPrefix", Text("")),
];

const REDIS_ONE: Keys = &[
    ("address", Text("localhost:6379")),
    ("database", Integer(0)),
    ("superLargeDirectories", List),
];

const REDIS_SENTINEL: Keys = &[
    ("addresses", List),
    ("masterName", Text("")),
    ("sentinel_username", Text("")),
    ("sentinel_password", Text("")),
    ("database", Integer(0)),
    ("superLargeDirectories", List),
];

const REDIS_CLUSTER: Keys = &[
    ("addresses", List),
    ("useReadOnly", Boolean(false)),
    ("readOnly", Boolean(false)),
    ("routeByLatency", Boolean(false)),
    ("superLargeDirectories", List),
];

/// The first Redis stores.
const REDIS_OLD: Keys = &[
    ("address", Text("localhost:6379")),
    ("password", Text("")),
    ("database", Integer(0)),
];
const REDIS_CLUSTER_OLD: Keys = &[
    ("addresses", List),
    ("password", Text("")),
    ("useReadOnly", Boolean(false)),
    ("routeByLatency", Boolean(false)),
];

const ETCD: Keys = &[
    ("servers", Text("localhost:2379")),
    ("username", Text("")),
    ("password", Text("")),
    // Only upstream's template names `seaweedfs.`: without the key its filer has no prefix.
    ("key_prefix", Text("")),
    ("timeout", Text("3s")),
    ("tls_ca_file", Text("")),
    ("tls_client_crt_file", Text("")),
    ("tls_client_key_file", Text("")),
];

const MONGODB: Keys = &[
    ("uri", Text("")),
    ("username", Text("")),
    ("password", Text("")),
    ("ssl", Boolean(false)),
    ("ssl_ca_file", Text("")),
    ("ssl_cert_file", Text("")),
    ("ssl_key_file", Text("")),
    ("insecure_skip_verify", Boolean(false)),
    ("option_pool_size", Integer(0)),
    ("database", Text("seaweedfs")),
];

const ELASTIC: Keys = &[
    ("servers", List),
    ("username", Text("")),
    ("password", Text("")),
    ("sniff_enabled", Boolean(false)),
    ("healthcheck_enabled", Boolean(false)),
    ("index.max_result_window", Integer(10_000)),
];

const ARANGODB: Keys = &[
    ("db_name", Text("")),
    ("servers", List),
    ("username", Text("")),
    ("password", Text("")),
    ("insecure_skip_verify", Boolean(false)),
];

const YDB: Keys = &[
    ("dsn", Text("")),
    ("prefix", Text("seaweedfs")),
    ("useBucketPrefix", Boolean(true)),
    ("poolSizeLimit", Integer(50)),
    ("dialTimeOut", Integer(10)),
    ("partitionBySizeEnabled", Boolean(true)),
    ("partitionSizeMb", Integer(200)),
    ("partitionByLoadEnabled", Boolean(true)),
    ("minPartitionsCount", Integer(5)),
    ("maxPartitionsCount", Integer(1000)),
    ("maxListChunk", Integer(2000)),
];

const TIKV: Keys = &[
    ("pdaddrs", Text("localhost:2379")),
    ("keyPrefix", Text("")),
    ("enable_1pc", Boolean(false)),
    ("batchdelete_count", Integer(10_000)),
    ("ca_path", Text("")),
    ("cert_path", Text("")),
    ("key_path", Text("")),
    ("verify_cn", Text("")),
];

const FOUNDATIONDB: Keys = &[
    ("cluster_file", Text("")),
    ("api_version", Integer(740)),
    ("timeout", Text("5s")),
    ("max_retry_delay", Text("1s")),
    ("directory_prefix", Text("seaweedfs")),
    ("batch_enabled", Boolean(false)),
    ("batch_size", Integer(100)),
    ("batch_interval", Text("1ms")),
];

const TARANTOOL: Keys = &[
    ("address", Text("localhost:3301")),
    ("user", Text("guest")),
    ("password", Text("")),
    ("timeout", Text("5s")),
    ("maxReconnects", Integer(1000)),
];

/// `[filer.options]`.
pub(super) const OPTIONS: Keys = &[
    ("recursive_delete", Boolean(false)),
    ("max_file_name_length", Integer(255)),
    ("buckets_folder", Text("/buckets")),
    ("s3.empty_folder_cleanup_delay", Text("2m")),
];

/// Of every store.
const ENABLED: Keys = &[("enabled", Boolean(false))];

/// Of a store of one directory.
const LOCATION: Keys = &[("location", Text(""))];

/// The stores by the names of their sections.
const STORES: &[(&str, &[Keys])] = &[
    ("leveldb", &[&[("dir", Text("./filerldb"))]]),
    ("leveldb2", &[DIR2]),
    ("leveldb3", &[DIR3]),
    ("rocksdb", &[ROCKS]),
    ("sqlite", &[SQLITE]),
    ("mysql", &[MYSQL]),
    ("mysql2", &[MYSQL, TABLES]),
    ("postgres", &[POSTGRES]),
    ("postgres2", &[POSTGRES, TABLES]),
    ("cassandra", &[CASSANDRA]),
    ("cassandra2", &[CASSANDRA, CASSANDRA2]),
    ("hbase", &[HBASE]),
    ("redis", &[REDIS_OLD]),
    ("redis_cluster", &[REDIS_CLUSTER_OLD]),
    ("redis2", &[REDIS, REDIS_ONE]),
    ("redis2_sentinel", &[REDIS, REDIS_SENTINEL]),
    ("redis_cluster2", &[REDIS, REDIS_CLUSTER]),
    ("redis3", &[REDIS, REDIS_ONE]),
    ("redis3_sentinel", &[REDIS, REDIS_SENTINEL]),
    ("redis_cluster3", &[REDIS, REDIS_CLUSTER]),
    ("redis_lua", &[REDIS, REDIS_ONE]),
    ("redis_lua_sentinel", &[REDIS, REDIS_SENTINEL]),
    ("redis_lua_cluster", &[REDIS, REDIS_CLUSTER]),
    ("etcd", &[ETCD]),
    ("mongodb", &[MONGODB]),
    ("elastic7", &[ELASTIC]),
    ("elastic8", &[ELASTIC]),
    ("arangodb", &[ARANGODB]),
    ("ydb", &[YDB]),
    ("tikv", &[TIKV]),
    ("foundationdb", &[FOUNDATIONDB]),
    ("tarantool", &[TARANTOOL]),
];

/// Sections of upstream's other files: its files share one key space, ours do not.
pub(super) const ELSEWHERE: &[(&str, &str)] = &[
    ("jwt", "security.toml"),
    ("grpc", "security.toml"),
    ("https", "security.toml"),
    ("guard", "security.toml"),
    ("cors", "security.toml"),
    ("access", "security.toml"),
    ("filer.expose_directory_metadata", "security.toml"),
    ("notification", "notification.toml"),
    ("source", "replication.toml"),
    ("sink", "replication.toml"),
    ("master", "master.toml"),
    ("storage", "master.toml"),
    ("credential", "credential.toml"),
];

/// The names of all stores.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    STORES.iter().map(|(name, _)| *name)
}

/// The keys of a store.
pub(super) fn keys(store: &str, is_of_path: bool) -> Vec<(&'static str, Kind)> {
    let own = STORES.iter().filter(|(name, _)| *name == store);
    let own = own.flat_map(|(_, lists)| lists.iter().copied());
    let location = is_of_path.then_some(LOCATION);
    let lists = [ENABLED].into_iter().chain(location).chain(own);
    lists.flatten().copied().collect()
}

impl Kind {
    pub(super) fn default(self) -> Value {
        match self {
            Self::Text(text) => Value::Text(text.to_owned()),
            Self::Integer(number) => Value::Integer(number),
            Self::Boolean(value) => Value::Boolean(value),
            Self::List => Value::List(Vec::new()),
        }
    }

    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Text(_) => "a text in quotes",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::List => "a list of texts such as [\"a\", \"b\"]",
        }
    }
}
