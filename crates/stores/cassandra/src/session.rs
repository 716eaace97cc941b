// SPDX-License-Identifier: Apache-2.0
//! The connections, and what is prepared on them.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dulse_store::{Error, Operation};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};

use crate::config::{Config, Tls};
use crate::error::{invalid, of, opening, preparing};
use crate::layout::TABLE;

/// Longest wait for an answer.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(12);

/// Connections to each server: one carries thousands of requests at once.
const N_CONNECTIONS: NonZeroUsize = NonZeroUsize::MIN;

/// Columns of the table, their types and what they are.
const COLUMNS: [(&str, &str, &str); 4] = [
    ("directory", "text", "partition_key"),
    ("dirhash", "bigint", "partition_key"),
    ("meta", "blob", "regular"),
    ("name", "text", "clustering"),
];

/// What is asked.
pub(crate) struct Statements {
    /// The value of a row.
    pub(crate) find: PreparedStatement,
    /// Names and values of some rows of a partition.
    pub(crate) find_all: PreparedStatement,
    /// The value of a row, behind all that was asked of the partition before.
    pub(crate) settle: PreparedStatement,
    /// Rows from a name on.
    pub(crate) list: PreparedStatement,
    /// Rows between two names.
    pub(crate) list_before: PreparedStatement,
    /// A value, where another one or none is.
    pub(crate) put: PreparedStatement,
    /// The row beside its value, for as long as that.
    pub(crate) mark: PreparedStatement,
    /// No row, where a value is.
    pub(crate) remove: PreparedStatement,
    /// A value, unless a later one is there.
    pub(crate) raise: PreparedStatement,
}

/// Connects, makes the table where it is missing, and prepares what is asked.
///
/// # Errors
///
/// `Unavailable` when no server answers, `Invalid` for settings that cannot be, a keyspace that
/// is not there, and a table that is another.
pub(crate) async fn connect(config: &Config) -> Result<(Session, Statements), Error> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if !config.local_dc.is_empty() {
        policy = policy
            .prefer_datacenter(config.local_dc.clone())
            .permit_dc_failover(true);
    }
    // Nothing is sent twice: what a first attempt may have made is found out, not guessed.
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::Quorum)
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(REQUEST_TIME_MAX))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .load_balancing_policy(policy.build())
        .build();
    let tls = config.tls.as_ref().map(tls).transpose()?;
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.hosts)
        .connection_timeout(config.connect_time_max)
        .pool_size(PoolSize::PerHost(N_CONNECTIONS))
        .default_execution_profile_handle(profile.into_handle())
        .keyspaces_to_fetch([config.keyspace.clone()])
        .fetch_full_schema_metadata(false)
        .tls_context(tls.map(Arc::new));
    if !config.username.is_empty() {
        builder = builder.user(&config.username, &config.password);
    }
    let opened = builder.build().await;
    let session = opened.map_err(|e| opening(e, config.tls.as_ref()))?;
    make_table(&session, config).await?;
    let statements = Statements::prepare(&session, &config.keyspace).await?;
    Ok((session, statements))
}

async fn make_table(session: &Session, config: &Config) -> Result<(), Error> {
    if columns(session, &config.keyspace).await?.is_empty() {
        let keyspaces = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
        if texts(session, keyspaces, (&config.keyspace,))
            .await?
            .is_empty()
        {
            let text = format!(
                "there is no keyspace `{0}`; make it, such as with CREATE KEYSPACE \"{0}\" WITH \
                 replication = {{'class': 'NetworkTopologyStrategy', 'DATACENTER': 3}}",
                config.keyspace
            );
            return Err(invalid(Operation::Open, text));
        }
        tracing::info!(keyspace = config.keyspace, "making the table in Cassandra");
        let table = format!(
            "CREATE TABLE IF NOT EXISTS \"{}\".{TABLE} (dirhash bigint, directory varchar, \
             name varchar, meta blob, PRIMARY KEY ((dirhash, directory), name)) \
             WITH CLUSTERING ORDER BY (name ASC)",
            config.keyspace
        );
        let made = session.query_unpaged(table, ()).await;
        made.map_err(|e| of(Operation::Open, e))?;
    }
    let mut found = columns(session, &config.keyspace).await?;
    found.sort_unstable();
    let expected = COLUMNS.map(|(name, of, kind)| format!("{name} {of} {kind}"));
    if found != expected {
        let text = format!(
            "table `{TABLE}` of keyspace `{}` has columns `{}`; expected `{}`, as `[cassandra2]` \
             has it",
            config.keyspace,
            found.join("`, `"),
            expected.join("`, `")
        );
        return Err(invalid(Operation::Open, text));
    }
    Ok(())
}

/// How the server that is asked brings what it acknowledges to its disk (`commitlog_sync`); none
/// where it does not say, as a database that only speaks the same protocol.
pub(crate) async fn log_sync(session: &Session) -> Option<String> {
    let setting = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'";
    match texts(session, setting, ()).await {
        Ok(said) => said.into_iter().next(),
        Err(error) => {
            tracing::debug!(%error, "the server does not tell its settings");
            None
        }
    }
}

async fn columns(session: &Session, keyspace: &str) -> Result<Vec<String>, Error> {
    let columns = "SELECT column_name, type, kind FROM system_schema.columns \
                   WHERE keyspace_name = ? AND table_name = ?";
    texts(session, columns, (keyspace, TABLE)).await
}

/// The texts of every row, with spaces between.
async fn texts(
    session: &Session,
    query: &str,
    values: impl scylla::serialize::row::SerializeRow,
) -> Result<Vec<String>, Error> {
    let asked = session.query_unpaged(query, values).await;
    let rows = asked
        .map_err(|e| of(Operation::Open, e))?
        .into_rows_result();
    let rows = rows.map_err(|e| crate::error::answer(Operation::Open, e))?;
    let rows = rows.rows::<scylla::value::Row>();
    let rows = rows.map_err(|e| crate::error::answer(Operation::Open, e))?;
    rows.map(|row| {
        let row = row.map_err(|e| crate::error::answer(Operation::Open, e))?;
        let texts = row.columns.into_iter().flatten();
        let texts: Vec<String> = texts.filter_map(|value| value.into_string()).collect();
        Ok(texts.join(" "))
    })
    .collect()
}

impl Statements {
    async fn prepare(session: &Session, keyspace: &str) -> Result<Self, Error> {
        let of_table = |text: &str| text.replace("TABLE", &format!("\"{keyspace}\".{TABLE}"));
        let row = "dirhash = ? AND directory = ? AND name = ?";
        let prepare = async |text: String| {
            let prepared = session.prepare(of_table(&text)).await;
            prepared.map_err(preparing)
        };
        let read = async |text: String| -> Result<PreparedStatement, Error> {
            let mut prepared = prepare(text).await?;
            prepared.set_is_idempotent(true);
            prepared.set_retry_policy(Some(Arc::new(DefaultRetryPolicy::new())));
            Ok(prepared)
        };
        let find = format!("SELECT meta FROM TABLE WHERE {row}");
        let list = "SELECT name, meta FROM TABLE WHERE dirhash = ? AND directory = ? AND name >= ?";
        let mut settle = read(find.clone()).await?;
        settle.set_consistency(Consistency::Serial);
        Ok(Self {
            settle,
            find: read(find).await?,
            find_all: read(
                "SELECT name, meta FROM TABLE WHERE dirhash = ? AND directory = ? AND name IN ?"
                    .to_owned(),
            )
            .await?,
            list: read(list.to_owned()).await?,
            list_before: read(format!("{list} AND name < ?")).await?,
            put: prepare(format!(
                "UPDATE TABLE USING TTL ? SET meta = ? WHERE {row} IF meta = ?"
            ))
            .await?,
            mark: prepare(
                "INSERT INTO TABLE (dirhash, directory, name) VALUES (?, ?, ?) USING TTL ?"
                    .to_owned(),
            )
            .await?,
            remove: prepare(format!("DELETE FROM TABLE WHERE {row} IF meta = ?")).await?,
            raise: prepare(
                "INSERT INTO TABLE (dirhash, directory, name, meta) VALUES (?, ?, ?, ?) \
                 USING TIMESTAMP ?"
                    .to_owned(),
            )
            .await?,
        })
    }
}

fn tls(tls: &Tls) -> Result<rustls::ClientConfig, Error> {
    let wrong = |file: &Path, e: &dyn std::fmt::Display| {
        let text = format!("{}: {e}; expected PEM", file.display());
        invalid(Operation::Open, text)
    };
    let certificates = |file: &Path| {
        let all = CertificateDer::pem_file_iter(file).map_err(|e| wrong(file, &e))?;
        all.collect::<Result<Vec<_>, _>>()
            .map_err(|e| wrong(file, &e))
    };
    let mut roots = rustls::RootCertStore::empty();
    match &tls.authorities {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|e| wrong(file, &e))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        let text = "no certificate authority is trusted; set ssl_ca_path";
        return Err(invalid(Operation::Open, text));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid(Operation::Open, e))?
        .with_root_certificates(roots);
    match &tls.identity {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
            config
                .with_client_auth_cert(chain, secret)
                .map_err(|e| wrong(certificate, &e))
        }
    }
}
