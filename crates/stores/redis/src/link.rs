// SPDX-License-Identifier: Apache-2.0
//! Connections: made, kept for the next one, and thrown away when they may be broken.
//!
//! `WATCH` belongs to a connection, so each attempt has one for itself. Behind sentinels, every
//! connection is one to the master that they named last: when they name another one, those to the
//! one before are not used any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dulse_store::{Error, ErrorKind, Operation};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, TlsCertificates, Value,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Config, Servers, Tls};
use crate::error;

/// How long the sentinels' last word is taken for granted.
const MASTER_AGE_MAX: Duration = Duration::from_secs(5);

/// A server, `host` and port.
pub(crate) type Address = (String, u16);

/// All connections to the servers.
pub(crate) struct Link {
    config: Config,
    certificates: Option<TlsCertificates>,
    permits: Arc<Semaphore>,
    /// Written by whoever gives a connection back or learns of another master; short sections.
    state: Mutex<State>,
    is_asking: AtomicBool,
}

#[derive(Default)]
struct State {
    idle: Vec<Idle>,
    /// The master that the sentinels named last, and when.
    master: Option<(Address, Instant)>,
}

struct Idle {
    connection: MultiplexedConnection,
    to: Address,
    made: Instant,
    used: Instant,
}

/// A connection that nobody else uses.
pub(crate) struct Connection {
    inner: MultiplexedConnection,
    to: Address,
    made: Instant,
    /// Whether it was used before.
    is_old: bool,
    _permit: OwnedSemaphorePermit,
}

impl Link {
    /// # Errors
    ///
    /// `Invalid` for certificates that cannot be read and addresses that are none.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let certificates = certificates(&config.tls)?;
        match &config.servers {
            Servers::One(address) => drop(address_of(address)?),
            Servers::Sentinel {
                sentinels, master, ..
            } => {
                if sentinels.is_empty() || master.is_empty() {
                    return Err(error::invalid(
                        "expected `addresses` of sentinels and the `masterName` they know",
                    ));
                }
                for sentinel in sentinels {
                    address_of(sentinel)?;
                }
            }
            Servers::Cluster(_) => {
                return Err(error::invalid(
                    "a cluster is not one server; expected one, or sentinels",
                ));
            }
        }
        // Whoever made this process may have chosen one already: then that one is used.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Ok(Self {
            permits: Arc::new(Semaphore::new(config.connections_max.max(1))),
            certificates,
            config,
            state: Mutex::default(),
            is_asking: AtomicBool::new(false),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A connection: one that was given back, or a new one.
    pub(crate) async fn take(self: &Arc<Self>, operation: Operation) -> Result<Connection, Error> {
        let limit = self.config.pool_time;
        let waiting = Arc::clone(&self.permits).acquire_owned();
        let permit = tokio::time::timeout(limit, waiting).await;
        let permit = permit.map_err(|_| {
            let n = self.config.connections_max;
            let text = format!("all {n} connections are in use (`pool_size`)");
            error::late(operation, limit).with("pool", text)
        })?;
        let permit = permit.map_err(|e| Error::new(operation, ErrorKind::Unavailable).source(e))?;
        self.ask_again_sometimes();
        if let Some(idle) = self.idle() {
            return Ok(Connection {
                inner: idle.connection,
                to: idle.to,
                made: idle.made,
                is_old: true,
                _permit: permit,
            });
        }
        let to = self.master(operation).await?;
        let inner = self.connect(operation, &to).await?;
        if matches!(self.config.servers, Servers::Sentinel { .. }) {
            self.expect_master(operation, &to, &inner).await?;
        }
        Ok(Connection {
            inner,
            to,
            made: Instant::now(),
            is_old: false,
            _permit: permit,
        })
    }

    /// Keeps a connection for the next one; nothing is under way on it.
    pub(crate) fn give_back(&self, connection: Connection) {
        let mut state = self.state.lock();
        if state.is_to_other(&connection.to) || state.idle.len() >= self.config.idle_max {
            return;
        }
        state.idle.push(Idle {
            connection: connection.inner,
            to: connection.to,
            made: connection.made,
            used: Instant::now(),
        });
    }

    /// Drops a connection on which something went wrong; those that were made before it are as
    /// likely to be broken, and the master may be another one.
    pub(crate) fn discard(&self, connection: Connection) {
        let mut state = self.state.lock();
        state.idle.clear();
        state.master = None;
        drop(connection);
    }

    fn idle(&self) -> Option<Idle> {
        let mut state = self.state.lock();
        while let Some(idle) = state.idle.pop() {
            let is_young = self
                .config
                .lifetime
                .is_none_or(|limit| idle.made.elapsed() < limit);
            let is_fresh = idle.used.elapsed() < self.config.idle_time;
            if is_young && is_fresh && !state.is_to_other(&idle.to) {
                return Some(idle);
            }
        }
        None
    }

    async fn connect(
        &self,
        operation: Operation,
        to: &Address,
    ) -> Result<MultiplexedConnection, Error> {
        let config = &self.config;
        let mut redis = RedisConnectionInfo::default().set_db(config.database);
        if !config.username.is_empty() {
            redis = redis.set_username(&config.username);
        }
        if !config.password.is_empty() {
            redis = redis.set_password(&config.password);
        }
        self.open(operation, to, redis).await
    }

    async fn open(
        &self,
        operation: Operation,
        to: &Address,
        redis: RedisConnectionInfo,
    ) -> Result<MultiplexedConnection, Error> {
        let failed = |e| error::server(operation, e).with("server", format!("{}:{}", to.0, to.1));
        let address = match self.config.tls {
            Tls::Off => ConnectionAddr::Tcp(to.0.clone(), to.1),
            Tls::On { .. } => ConnectionAddr::TcpTls {
                host: to.0.clone(),
                port: to.1,
                insecure: false,
                tls_params: None,
            },
        };
        let info = address
            .into_connection_info()
            .map_err(failed)?
            .set_tcp_settings(TcpSettings::default().set_nodelay(true))
            .set_redis_settings(redis.set_skip_set_lib_name());
        let client = match &self.certificates {
            None => Client::open(info),
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        };
        let client = client.map_err(failed)?;
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_time))
            // Each command has a limit of its own.
            .set_response_timeout(None);
        client
            .get_multiplexed_async_connection_with_config(&limits)
            .await
            .map_err(failed)
    }

    /// The server that takes writes.
    async fn master(&self, operation: Operation) -> Result<Address, Error> {
        if let Servers::One(address) = &self.config.servers {
            return address_of(address);
        }
        if let Some((known, _)) = &self.state.lock().master {
            return Ok(known.clone());
        }
        let found = self.ask_sentinels(operation).await?;
        self.learn(found.clone());
        Ok(found)
    }

    fn learn(&self, found: Address) {
        let mut state = self.state.lock();
        let is_other = state.master.as_ref().is_some_and(|(old, _)| *old != found);
        if is_other {
            tracing::info!(
                host = found.0,
                port = found.1,
                "the sentinels name another master"
            );
            state.idle.clear();
        }
        state.master = Some((found, Instant::now()));
    }

    /// Asks the sentinels again when their last word is old, without letting anybody wait: so a
    /// master that was cut off from them, and from which nothing else is heard, is left.
    fn ask_again_sometimes(self: &Arc<Self>) {
        let is_old = {
            let state = self.state.lock();
            let asked = state.master.as_ref().map(|(_, asked)| *asked);
            asked.is_some_and(|asked| asked.elapsed() > MASTER_AGE_MAX)
        };
        if !is_old || self.is_asking.swap(true, Ordering::SeqCst) {
            return;
        }
        let link = Arc::clone(self);
        tokio::spawn(async move {
            match link.ask_sentinels(Operation::Find).await {
                Ok(found) => link.learn(found),
                Err(error) => tracing::debug!(%error, "no sentinel answers; the master stays"),
            }
            link.is_asking.store(false, Ordering::SeqCst);
        });
    }

    async fn ask_sentinels(&self, operation: Operation) -> Result<Address, Error> {
        let Servers::Sentinel {
            sentinels,
            master,
            username,
            password,
        } = &self.config.servers
        else {
            return Err(Error::new(operation, ErrorKind::Invalid));
        };
        let mut last = Error::new(operation, ErrorKind::Unavailable);
        for sentinel in sentinels {
            let mut login = RedisConnectionInfo::default();
            if !username.is_empty() {
                login = login.set_username(username);
            }
            if !password.is_empty() {
                login = login.set_password(password);
            }
            match self
                .ask_sentinel(operation, &address_of(sentinel)?, login, master)
                .await
            {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {
                    let text = format!("sentinel {sentinel} knows no master `{master}`");
                    last = Error::new(operation, ErrorKind::Unavailable).with("because", text);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_sentinel(
        &self,
        operation: Operation,
        sentinel: &Address,
        login: RedisConnectionInfo,
        master: &str,
    ) -> Result<Option<Address>, Error> {
        let mut connection = self.open(operation, sentinel, login).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let asking = command.query_async::<Option<(String, u16)>>(&mut connection);
        let limit = self.config.answer_time;
        let answer = tokio::time::timeout(limit, asking).await;
        answer
            .map_err(|_| error::late(operation, limit))?
            .map_err(|e| error::server(operation, e))
    }

    /// In the middle of a failover the sentinels name one that is not yet, or no longer, it.
    async fn expect_master(
        &self,
        operation: Operation,
        to: &Address,
        connection: &MultiplexedConnection,
    ) -> Result<(), Error> {
        let mut connection = connection.clone();
        let command = redis::cmd("ROLE");
        let asking = command.query_async::<Vec<Value>>(&mut connection);
        let limit = self.config.answer_time;
        let role = tokio::time::timeout(limit, asking).await;
        let role = role
            .map_err(|_| error::late(operation, limit))?
            .map_err(|e| error::server(operation, e))?;
        if matches!(role.first(), Some(Value::BulkString(role)) if role == b"master") {
            return Ok(());
        }
        self.state.lock().master = None;
        let text = format!("{}:{} is named by a sentinel and is no master", to.0, to.1);
        Err(Error::new(operation, ErrorKind::Unavailable).with("because", text))
    }
}

impl State {
    fn is_to_other(&self, to: &Address) -> bool {
        self.master.as_ref().is_some_and(|(master, _)| master != to)
    }
}

impl Connection {
    /// Whether it may be broken since it was used last, which nobody looks at meanwhile.
    pub(crate) fn is_old(&self) -> bool {
        self.is_old
    }

    /// Sends commands at once and gives their answers, errors of the server among them.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no answer comes: the server may have done all or nothing.
    pub(crate) async fn send(
        &mut self,
        operation: Operation,
        commands: &Pipeline,
        limit: Duration,
    ) -> Result<Vec<Value>, Error> {
        let n = commands.len();
        let sending = self.inner.send_packed_commands(commands, 0, n);
        let answers = tokio::time::timeout(limit, sending).await;
        let answers = answers
            .map_err(|_| error::late(operation, limit))?
            .map_err(|e| error::server(operation, e))?;
        if answers.len() != n {
            let text = format!("{} answers to {n} commands", answers.len());
            return Err(Error::new(operation, ErrorKind::Unavailable).with("because", text));
        }
        Ok(answers)
    }
}

/// `host:port`, the port being Redis' own where there is none.
pub(crate) fn address_of(text: &str) -> Result<Address, Error> {
    let expected = || error::invalid(format!("the address is `{text}`; expected host:port"));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().map_err(|_| expected())?)
        }
        _ => (text, 6_379),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(expected());
    }
    Ok((host.to_owned(), port))
}

fn certificates(tls: &Tls) -> Result<Option<TlsCertificates>, Error> {
    let Tls::On { authorities, own } = tls else {
        return Ok(None);
    };
    let read = |file: &std::path::Path| {
        std::fs::read(file).map_err(|e| error::invalid(format!("{}: {e}", file.display())))
    };
    let root_cert = authorities.as_deref().map(read).transpose()?;
    let client_tls = match own {
        None => None,
        Some((certificate, key)) => Some(ClientTlsConfig {
            client_cert: read(certificate)?,
            client_key: read(key)?,
        }),
    };
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("localhost:6380", "localhost", 6_380),
            ("10.0.0.1", "10.0.0.1", 6_379),
            ("[::1]:7000", "::1", 7_000),
            ("::1", "::1", 6_379),
        ] {
            assert_eq!(address_of(text).unwrap(), (host.to_owned(), port), "{text}");
        }
        for text in ["", ":6379", "host:port", "host:70000"] {
            let error = address_of(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains("host:port"), "{error}");
        }
    }
}
