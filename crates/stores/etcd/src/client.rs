// SPDX-License-Identifier: Apache-2.0
//! Calls: to one member at a time, to the next one when it cannot be reached; logged in where
//! etcd wants that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dulse_store::{Error, ErrorKind, Operation};
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};

use crate::config::{Config, Tls};
use crate::error::{database, is_unreached, late};
use crate::wire::auth_client::AuthClient;
use crate::wire::kv_client::KvClient;
use crate::wire::lease_client::LeaseClient;
use crate::wire::{
    AuthenticateRequest, LeaseGrantRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

/// Largest answer, in bytes: pages of few keys, and values that etcd takes only when its operator
/// says so.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Silence on a connection before it is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Times a read is tried at each member.
const ROUNDS: usize = 2;

/// A cluster.
pub(crate) struct Client {
    members: Vec<Channel>,
    /// The one that answered last.
    at: AtomicUsize,
    time_max: Duration,
    login: Option<(String, String)>,
    token: Mutex<Option<AsciiMetadataValue>>,
}

impl Client {
    /// Connects at first use.
    ///
    /// # Errors
    ///
    /// `Invalid` for names and files that cannot be.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(tls).transpose()?;
        let invalid =
            |e: tonic::transport::Error| Error::new(Operation::Open, ErrorKind::Invalid).source(e);
        let mut members = Vec::with_capacity(config.servers.len());
        for server in &config.servers {
            let scheme = if tls.is_some() { "https" } else { "http" };
            let mut endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))
                .map_err(invalid)?
                .connect_timeout(config.timeout)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .tcp_nodelay(true);
            if let Some(tls) = &tls {
                endpoint = endpoint.tls_config(tls.clone()).map_err(invalid)?;
            }
            members.push(endpoint.connect_lazy());
        }
        let login = (config.username.clone(), config.password.clone());
        Ok(Self {
            members,
            at: AtomicUsize::new(0),
            time_max: config.timeout,
            login: (!config.username.is_empty()).then_some(login),
            token: Mutex::default(),
        })
    }

    /// Reads keys, from any member; what was written before is seen.
    pub(crate) async fn range(
        &self,
        operation: Operation,
        request: RangeRequest,
    ) -> Result<RangeResponse, Error> {
        let ask = |member, request| async move { kv(member).range(request).await };
        self.ask_any(operation, request, ask).await
    }

    /// Makes a transaction that only reads, as [`Client::range`] does.
    pub(crate) async fn read(
        &self,
        operation: Operation,
        request: TxnRequest,
    ) -> Result<TxnResponse, Error> {
        let ask = |member, request| async move { kv(member).txn(request).await };
        self.ask_any(operation, request, ask).await
    }

    /// Asks what changes nothing, of one member after another.
    async fn ask_any<Q: Clone, A, F>(
        &self,
        operation: Operation,
        request: Q,
        ask: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut n_left = self.members.len() * ROUNDS;
        loop {
            let (at, member) = self.member();
            let asked = self.call(operation, &member, request.clone(), &ask);
            match asked.await {
                Ok(answer) => return Ok(answer),
                // It changes nothing.
                Err(failed) if failed.error.kind() == ErrorKind::Unavailable && n_left > 1 => {
                    n_left -= 1;
                    self.leave(at);
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Makes a transaction, at any member that can be reached; once.
    pub(crate) async fn transact(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        let mut n_left = self.members.len();
        loop {
            let (at, member) = self.member();
            let ask = |member, request| async move { kv(member).txn(request).await };
            let asked = self.call(Operation::Commit, &member, request.clone(), ask);
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(failed) => {
                    if failed.error.kind() == ErrorKind::Unavailable {
                        self.leave(at);
                    }
                    n_left -= 1;
                    // Only where nothing was asked.
                    if !failed.is_unreached || n_left == 0 {
                        return Err(failed.error);
                    }
                }
            }
        }
    }

    /// A lease of this many seconds, of any member; what is written under it goes when it ends.
    pub(crate) async fn lease(&self, seconds: i64) -> Result<i64, Error> {
        let request = LeaseGrantRequest {
            ttl: seconds,
            id: 0,
        };
        let mut n_left = self.members.len();
        loop {
            let (at, member) = self.member();
            let ask = |member, request| async move {
                LeaseClient::new(member).lease_grant(request).await
            };
            match self.call(Operation::Find, &member, request, ask).await {
                Ok(answer) => return Ok(answer.id),
                Err(failed) => {
                    if failed.error.kind() == ErrorKind::Unavailable {
                        self.leave(at);
                    }
                    n_left -= 1;
                    // One that was granted unseen ends by itself, with nothing under it.
                    if failed.error.kind() != ErrorKind::Unavailable || n_left == 0 {
                        return Err(failed.error);
                    }
                }
            }
        }
    }

    fn member(&self) -> (usize, Channel) {
        let at = self.at.load(Ordering::Relaxed) % self.members.len();
        (at, self.members[at].clone())
    }

    /// The next one is asked from now on, unless somebody has said so already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        let _ = self
            .at
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// One call; when etcd no longer knows who we are, we log in again and ask once more: what it
    /// refuses for that it has not done.
    async fn call<Q: Clone, A, F>(
        &self,
        operation: Operation,
        member: &Channel,
        question: Q,
        ask: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Failed>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut is_new = false;
        loop {
            let mut request = Request::new(question.clone());
            if let Some(token) = self.token(operation, member, is_new).await? {
                request.metadata_mut().insert("token", token);
            }
            let status = match timeout(self.time_max, ask(member.clone(), request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(Failed::late(late(operation, self.time_max))),
            };
            let is_forgotten = self.login.is_some() && is_forgotten(&status);
            if !is_forgotten || is_new {
                return Err(Failed::of(operation, status));
            }
            is_new = true;
        }
    }

    async fn token(
        &self,
        operation: Operation,
        member: &Channel,
        is_new: bool,
    ) -> Result<Option<AsciiMetadataValue>, Failed> {
        let Some((name, password)) = &self.login else {
            return Ok(None);
        };
        let known = self.token.lock().clone().filter(|_| !is_new);
        if known.is_some() {
            return Ok(known);
        }
        let request = AuthenticateRequest {
            name: name.clone(),
            password: password.clone(),
        };
        let mut auth = AuthClient::new(member.clone());
        // Nothing is asked before this is answered: whatever becomes of it is no unknown write.
        let refused = |error: Error| {
            let error = Error::new(operation, ErrorKind::Unavailable)
                .with("because", "etcd did not let us log in")
                .source(error);
            Failed {
                error,
                is_unreached: true,
            }
        };
        let token = match timeout(self.time_max, auth.authenticate(request)).await {
            Ok(Ok(answer)) => answer.into_inner().token,
            Ok(Err(status)) => return Err(refused(database(Operation::Open, status))),
            Err(_) => return Err(refused(late(Operation::Open, self.time_max))),
        };
        let token: AsciiMetadataValue = token.parse().map_err(|_| {
            let error = Error::new(Operation::Open, ErrorKind::Io);
            refused(error.with("because", "its token is no text"))
        })?;
        *self.token.lock() = Some(token.clone());
        Ok(Some(token))
    }
}

fn kv(member: Channel) -> KvClient<Channel> {
    KvClient::new(member)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A call that failed, and whether nothing was asked at all.
struct Failed {
    error: Error,
    is_unreached: bool,
}

impl Failed {
    fn of(operation: Operation, status: Status) -> Self {
        Self {
            is_unreached: is_unreached(&status),
            error: database(operation, status),
        }
    }

    fn late(error: Error) -> Self {
        Self {
            error,
            is_unreached: false,
        }
    }
}

/// Whether etcd wants to know again who we are: tokens end after some minutes, and with changes
/// of users.
fn is_forgotten(status: &Status) -> bool {
    let says = |text| status.message().contains(text);
    status.code() == Code::Unauthenticated
        || says("invalid auth token")
        || says("revision in header is old")
}

fn tls(tls: &Tls) -> Result<ClientTlsConfig, Error> {
    let read = |file: &std::path::Path| {
        std::fs::read(file).map_err(|e| {
            let text = format!("{}: {e}; expected a PEM file", file.display());
            Error::new(Operation::Open, ErrorKind::Invalid).with("because", text)
        })
    };
    let authorities = Certificate::from_pem(read(&tls.authorities)?);
    let mut config = ClientTlsConfig::new().ca_certificate(authorities);
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(config)
}
