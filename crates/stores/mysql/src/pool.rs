// SPDX-License-Identifier: Apache-2.0
//! Connections: how many, how old, how long they may take, whom they trust.
//!
//! A pool of our own: the driver's asks each connection whether it lives before it is used,
//! which is a round trip more for everything, and cannot be told to throw one away.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dulse_store::{Error, ErrorKind, Operation};
use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, SslOpts};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::config::{Config, Tls};
use crate::error::{connecting, late};
use crate::traces::Traces;

/// Longest wait for a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The server gives up a statement after this long, in seconds: less than we wait for it.
const STATEMENT_TIME_MAX_S: u32 = 25;

/// And a wait for a lock after this long.
const LOCK_TIME_MAX_S: u32 = 10;

/// And a connection of which it hears nothing, with whatever it holds.
const IDLE_TIME_MAX_S: u32 = 15;

/// We give up connections before the server does.
const IDLE_TIME_MAX: Duration = Duration::from_secs(7);

/// Statements that each connection keeps prepared.
const STATEMENTS_MAX: usize = 64;

/// What a connection must be told before its first use.
const SETTINGS: [&str; 2] = [
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SELECT VERSION(), @@max_allowed_packet, @@log_bin, @@binlog_format",
];

/// Connections of one store.
pub(crate) struct Pool {
    opts: Opts,
    traces: Traces,
    lifetime: Duration,
    idle_max: usize,
    permits: Arc<Semaphore>,
    idle: Mutex<VecDeque<Idle>>,
    numbers: Mutex<Numbers>,
}

/// Numbers of connections, the smallest free one first: each has a row of its own to leave its
/// traces in, and rows shall be few.
#[derive(Default)]
struct Numbers {
    free: BTreeSet<u32>,
    next: u32,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    conn: Conn,
    born: Instant,
    number: u32,
    packet_bytes_max: usize,
}

/// A connection in use. Dropped, it is closed, and so are those that nobody uses;
/// [`Client::give_back`] keeps it for others.
pub(crate) struct Client<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    _permit: OwnedSemaphorePermit,
    /// Whether the number goes to another connection when this one is closed.
    is_number_free: bool,
}

impl Pool {
    /// A pool; connects at first use.
    ///
    /// # Errors
    ///
    /// `Invalid` when certificates cannot be read.
    pub(crate) fn new(config: &Config, traces: Traces) -> Result<Arc<Self>, Error> {
        let mut opts = OptsBuilder::default()
            .ip_or_hostname(&config.hostname)
            .tcp_port(config.port)
            .socket(
                config
                    .socket
                    .as_ref()
                    .map(|path| path.display().to_string()),
            )
            // The driver would go over to a socket in the file system by itself.
            .prefer_socket(false)
            .user(Some(&config.username))
            .db_name(Some(&config.database))
            .tcp_keepalive(Some(Duration::from_secs(15)))
            .stmt_cache_size(STATEMENTS_MAX)
            // Rows that were found count, also where nothing of them changed.
            .client_found_rows(true)
            .ssl_opts(
                config
                    .tls
                    .as_ref()
                    .map(|tls| ssl(config, tls))
                    .transpose()?,
            );
        if !config.password.is_empty() {
            opts = opts.pass(Some(&config.password));
        }
        let pool = Arc::new(Self {
            opts: opts.into(),
            traces,
            lifetime: config.connection_lifetime,
            idle_max: config.idle_max,
            permits: Arc::new(Semaphore::new(config.connections_max.max(1))),
            idle: Mutex::default(),
            numbers: Mutex::default(),
        });
        let reaped = Arc::downgrade(&pool);
        // Ends with the pool.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE_TIME_MAX / 2).await;
                let Some(pool) = reaped.upgrade() else {
                    return;
                };
                pool.reap();
            }
        });
        Ok(pool)
    }

    /// A connection, an idle one if there is any.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub(crate) async fn get(&self, operation: Operation) -> Result<Client<'_>, Error> {
        let waiting = timeout(CONNECT_TIME_MAX, Arc::clone(&self.permits).acquire_owned());
        let Ok(Ok(permit)) = waiting.await else {
            let text = format!(
                "all connections were in use for {} s; connection_max_open says how many there are",
                CONNECT_TIME_MAX.as_secs()
            );
            let error = Error::new(operation, ErrorKind::Unavailable);
            return Err(error.with("because", text));
        };
        let client = |connection| Client {
            pool: self,
            connection: Some(connection),
            _permit: permit,
            is_number_free: true,
        };
        self.reap();
        let idle = self.idle.lock().pop_back();
        if let Some(idle) = idle {
            return Ok(client(idle.connection));
        }
        let connected = timeout(CONNECT_TIME_MAX, self.connect(operation)).await;
        connected
            .unwrap_or_else(|_| Err(late(operation, CONNECT_TIME_MAX)))
            .map(client)
    }

    async fn connect(&self, operation: Operation) -> Result<Connection, Error> {
        let failed = |e| connecting(operation, e);
        let mut conn = Conn::new(self.opts.clone()).await.map_err(failed)?;
        let [names, ask] = SETTINGS;
        conn.query_drop(names).await.map_err(failed)?;
        let found: Option<(String, usize, String, String)> =
            conn.query_first(ask).await.map_err(failed)?;
        let (version, packet_bytes_max, log, format) = found.unwrap_or_default();
        let is_mariadb = version.contains("MariaDB");
        // A log of statements cannot take what is written at the lower level; then writers wait
        // for one another more often, and the database unties them.
        let is_statements = log != "0" && format == "STATEMENT";
        let level = match is_statements {
            true => "REPEATABLE READ",
            false => "READ COMMITTED",
        };
        let limit = match (is_mariadb, conn.server_version()) {
            (true, _) => format!(", max_statement_time = {STATEMENT_TIME_MAX_S}"),
            (false, version) if version >= (5, 7, 8) => {
                format!(", max_execution_time = {}", STATEMENT_TIME_MAX_S * 1_000)
            }
            _ => String::new(),
        };
        let settings = format!(
            "SET SESSION wait_timeout = {IDLE_TIME_MAX_S}, \
             innodb_lock_wait_timeout = {LOCK_TIME_MAX_S}, lock_wait_timeout = {LOCK_TIME_MAX_S}, \
             sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'{limit}"
        );
        let level = format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}");
        for sql in [level, settings] {
            conn.query_drop(sql).await.map_err(failed)?;
        }
        let number = self.numbers.lock().take();
        // So that the server can be asked which of its connections has the number. One that was
        // closed here and lives on there may still have it.
        let lock = format!("SELECT GET_LOCK('{}', 0)", self.traces.lock(number));
        if let Err(error) = conn.query_drop(lock).await {
            self.free(number);
            return Err(failed(error));
        }
        Ok(Connection {
            conn,
            born: Instant::now(),
            number,
            packet_bytes_max,
        })
    }

    /// Closes connections that nobody has used for long, or that are old.
    fn reap(&self) {
        let mut closed = Vec::new();
        let mut idle = self.idle.lock();
        idle.retain_mut(|one| {
            let is_kept = one.since.elapsed() < IDLE_TIME_MAX
                && one.connection.born.elapsed() < self.lifetime;
            if !is_kept {
                closed.push(one.connection.number);
            }
            is_kept
        });
        drop(idle);
        self.numbers.lock().free.extend(closed);
    }

    /// A number may be given to another connection again.
    pub(crate) fn free(&self, number: u32) {
        self.numbers.lock().free.insert(number);
    }
}

impl Numbers {
    fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

impl Client<'_> {
    /// The connection.
    pub(crate) fn conn(&mut self) -> &mut Conn {
        &mut self.inner_mut().conn
    }

    fn inner_mut(&mut self) -> &mut Connection {
        self.connection
            .as_mut()
            .expect("it is here until it is given back")
    }

    fn inner(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("it is here until it is given back")
    }

    /// Its number, which no other has.
    pub(crate) fn number(&self) -> u32 {
        self.inner().number
    }

    /// Largest message that the server takes, in bytes.
    pub(crate) fn packet_bytes_max(&self) -> usize {
        self.inner().packet_bytes_max
    }

    /// Keeps the number from others until [`Pool::free`]: what it left must be read first.
    pub(crate) fn keep_number(&mut self) {
        self.is_number_free = false;
    }

    /// It can be used by others: nothing is under way on it.
    pub(crate) fn give_back(mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let mut idle = self.pool.idle.lock();
        if idle.len() < self.pool.idle_max && connection.born.elapsed() < self.pool.lifetime {
            let since = Instant::now();
            return idle.push_back(Idle { connection, since });
        }
        drop(idle);
        self.pool.free(connection.number);
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.is_number_free {
            self.pool.free(connection.number);
        }
        // What broke this one has broken those that wait beside it: a server that was started
        // again knows none of them.
        let others = std::mem::take(&mut *self.pool.idle.lock());
        for other in others {
            self.pool.free(other.connection.number);
        }
    }
}

fn ssl(config: &Config, tls: &Tls) -> Result<SslOpts, Error> {
    let invalid =
        |why: String| Error::new(Operation::Open, ErrorKind::Invalid).with("because", why);
    let mut roots: Vec<Vec<u8>> = Vec::new();
    match &tls.authorities {
        Some(file) => {
            // Read here as well: a file that is none is told now and by its name.
            let wrong = |e: &dyn std::fmt::Display| {
                let file = file.display();
                invalid(format!("{file}: {e}; expected PEM certificates"))
            };
            let all = CertificateDer::pem_file_iter(file).map_err(|e| wrong(&e))?;
            for certificate in all {
                let certificate = certificate.map_err(|e| wrong(&e))?;
                roots.push(certificate.to_vec());
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let all = found.certs.into_iter();
            roots.extend(all.map(|certificate| certificate.to_vec()));
        }
    }
    if roots.is_empty() && !tls.is_unchecked {
        return Err(invalid(
            "no certificate authority is trusted; set ca_crt".to_owned(),
        ));
    }
    if tls.is_unchecked {
        tracing::warn!("tls_insecure_skip_verify is set: whoever answers is believed");
    }
    let mut ssl = SslOpts::default()
        // The system's authorities count, or those of the file, and no others.
        .with_disable_built_in_roots(!tls.is_unchecked)
        .with_root_certs(roots.into_iter().map(Into::into).collect())
        .with_danger_accept_invalid_certs(tls.is_unchecked)
        .with_danger_skip_domain_validation(tls.is_unchecked);
    if let Some((certificate, key)) = &tls.identity {
        for file in [certificate, key] {
            std::fs::File::open(file)
                .map_err(|e| invalid(format!("{}: {e}; expected a PEM file", file.display())))?;
        }
        let identity = ClientIdentity::new(certificate.clone().into(), key.clone().into());
        ssl = ssl.with_client_identity(Some(identity));
    }
    let name = match tls.server_name.as_str() {
        "" => config.hostname.clone(),
        name => name.to_owned(),
    };
    Ok(ssl.with_danger_tls_hostname_override(Some(name)))
}
