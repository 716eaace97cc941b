// SPDX-License-Identifier: Apache-2.0
//! Connections: how many, how old, how long they may take, whom they trust.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts,
};
use dulse_store::{Error, ErrorKind, Operation};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Config, SslMode};

/// Longest wait for a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The server gives up a statement after this long, in milliseconds: less than we wait for it.
const STATEMENT_TIME_MAX_MS: u32 = 25_000;

/// And a wait for a lock after this long.
const LOCK_TIME_MAX_MS: u32 = 10_000;

/// And a transaction whose filer says nothing.
const IDLE_TIME_MAX_MS: u32 = 30_000;

/// A pool; connects at first use.
///
/// # Errors
///
/// `Invalid` when certificates cannot be read.
pub(crate) fn pool(config: &Config) -> Result<Pool, Error> {
    let mut options = format!(
        "-c statement_timeout={STATEMENT_TIME_MAX_MS} -c lock_timeout={LOCK_TIME_MAX_MS} \
         -c idle_in_transaction_session_timeout={IDLE_TIME_MAX_MS}"
    );
    if !config.schema.is_empty() {
        options.push_str(&format!(" -c search_path={}", escaped(&config.schema)));
    }
    let mut postgres = tokio_postgres::Config::new();
    postgres
        .host(&config.hostname)
        .port(config.port)
        .user(&config.username)
        .dbname(&config.database)
        .application_name("dulse")
        .options(&options)
        .connect_timeout(CONNECT_TIME_MAX)
        .tcp_user_timeout(Duration::from_millis(u64::from(IDLE_TIME_MAX_MS)))
        .keepalives_idle(Duration::from_secs(15));
    if !config.password.is_empty() {
        postgres.password(&config.password);
    }
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match &config.ssl {
        SslMode::Disable => {
            postgres.ssl_mode(tokio_postgres::config::SslMode::Disable);
            Manager::from_config(postgres, NoTls, recycling)
        }
        SslMode::VerifyFull { authorities } => {
            postgres.ssl_mode(tokio_postgres::config::SslMode::Require);
            let tls = MakeRustlsConnect::new(tls(authorities.as_deref())?);
            Manager::from_config(postgres, tls, recycling)
        }
    };
    let lifetime = config.connection_lifetime;
    let young = Hook::sync_fn(move |_, metrics| {
        if metrics.age() < lifetime {
            Ok(())
        } else {
            Err(HookError::message("older than its lifetime"))
        }
    });
    Pool::builder(manager)
        .max_size(config.connections_max.max(1))
        .timeouts(Timeouts {
            wait: Some(CONNECT_TIME_MAX),
            create: Some(CONNECT_TIME_MAX),
            recycle: Some(CONNECT_TIME_MAX),
        })
        .pre_recycle(young)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| Error::new(Operation::Open, ErrorKind::Invalid).source(e))
}

/// In a connection's options, spaces and backslashes are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(' ', "\\ ")
}

fn tls(authorities: Option<&Path>) -> Result<rustls::ClientConfig, Error> {
    let invalid =
        |why: String| Error::new(Operation::Open, ErrorKind::Invalid).with("because", why);
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        Some(file) => {
            let wrong = |e: &dyn std::fmt::Display| {
                invalid(format!(
                    "{}: {e}; expected PEM certificates",
                    file.display()
                ))
            };
            let all = CertificateDer::pem_file_iter(file).map_err(|e| wrong(&e))?;
            for certificate in all {
                roots
                    .add(certificate.map_err(|e| wrong(&e))?)
                    .map_err(|e| wrong(&e))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err(invalid(
            "no certificate authority is trusted; set sslrootcert".to_owned(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid(e.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
