// SPDX-License-Identifier: Apache-2.0
//! Dialers: gRPC channels and the HTTP client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::io::Io;
use crate::transport::Transport;

/// How long an unused HTTP connection is kept: below the limit of servers, upstream's too,
/// so that none is written to while it is being closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(55);

/// Unused HTTP connections kept to one server.
const IDLE_PER_SERVER_MAX: usize = 64;

/// How long an HTTP connection may take to be made.
const HTTP_CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A client of HTTP over kept connections.
pub type HttpClient<B> = Client<Connector, B>;

/// How patient a gRPC dialer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dial {
    /// How long connecting may take.
    pub connect_time_max: Duration,
    /// How long one call may take; `None` for streams.
    pub call_time_max: Option<Duration>,
    /// A silent connection is probed after this; `None` as the transport is set.
    pub keep_alive: Option<Duration>,
}

impl Dial {
    /// Connects within this time; calls take as long as they take.
    #[must_use]
    pub fn within(connect_time_max: Duration) -> Self {
        Self {
            connect_time_max,
            call_time_max: None,
            keep_alive: None,
        }
    }

    /// The same with a limit for each call.
    #[must_use]
    pub fn calls_within(self, call_time_max: Duration) -> Self {
        Self {
            call_time_max: Some(call_time_max),
            ..self
        }
    }

    /// The same, probed after this. Upstream's servers refuse less than 20 s.
    #[must_use]
    pub fn probed_after(self, keep_alive: Duration) -> Self {
        Self {
            keep_alive: Some(keep_alive),
            ..self
        }
    }
}

/// Bounds one exchange, a stream's beginning or its next message too. A machine that lost its
/// power resets no connection, and a deadline in the request would end upstream's streams.
///
/// # Errors
///
/// The exchange's; `DeadlineExceeded` when it takes longer than `time_max`.
pub async fn within<T>(
    time_max: Duration,
    exchange: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let done = tokio::time::timeout(time_max, exchange).await;
    done.unwrap_or_else(|_| {
        let text = format!("no answer within {time_max:?}");
        Err(Status::deadline_exceeded(text))
    })
}

/// A server that cannot be dialed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The text is no address.
    #[error("`{0}` is no address; expected `host:port`")]
    Address(String),
    /// Nobody answers, or not as expected.
    #[error("connect to {0}: {1}")]
    Connect(String, String),
}

impl From<DialError> for tonic::Status {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Address(_) => Self::invalid_argument(error.to_string()),
            DialError::Connect(..) => Self::unavailable(error.to_string()),
        }
    }
}

impl Transport {
    /// A channel that is connected, to `host:port` of a gRPC listener.
    ///
    /// # Errors
    ///
    /// `Address`, `Connect`.
    pub async fn connect(&self, grpc: &str, dial: Dial) -> Result<Channel, DialError> {
        let endpoint = self.endpoint(grpc, dial)?;
        let connected = endpoint.connect_with_connector(self.grpc_connector()).await;
        connected.map_err(|error| DialError::Connect(grpc.to_owned(), chain(&error)))
    }

    /// A channel that connects with its first call, and again when it must.
    ///
    /// # Errors
    ///
    /// `Address`.
    pub fn channel(&self, grpc: &str, dial: Dial) -> Result<Channel, DialError> {
        let endpoint = self.endpoint(grpc, dial)?;
        Ok(endpoint.connect_with_connector_lazy(self.grpc_connector()))
    }

    fn endpoint(&self, grpc: &str, dial: Dial) -> Result<Endpoint, DialError> {
        let bad = || DialError::Address(grpc.to_owned());
        // tonic would refuse `https` here: the handshake is the connector's.
        let endpoint = Endpoint::from_shared(format!("http://{grpc}")).map_err(|_| bad())?;
        let mut wire = self.wire();
        wire.keep_alive = dial.keep_alive.unwrap_or(wire.keep_alive);
        let mut endpoint = wire
            .endpoint(endpoint)
            .connect_timeout(dial.connect_time_max);
        if let Some(limit) = dial.call_time_max {
            endpoint = endpoint.timeout(limit);
        }
        if self.grpc_client_tls().is_some() {
            let origin: Uri = format!("https://{grpc}").parse().map_err(|_| bad())?;
            endpoint = endpoint.origin(origin);
        }
        Ok(endpoint)
    }

    fn grpc_connector(&self) -> Connector {
        Connector {
            transport: self.clone(),
            protocol: Protocol::Grpc,
        }
    }

    /// A client of HTTP; one per process is enough.
    #[must_use]
    pub fn http_client<B>(&self) -> HttpClient<B>
    where
        B: http_body::Body + Send,
        B::Data: Send,
    {
        let connector = Connector {
            transport: self.clone(),
            protocol: Protocol::Http,
        };
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(IDLE_PER_SERVER_MAX)
            .build(connector)
    }

    /// How others' HTTP is called: `http` or `https`.
    #[must_use]
    pub fn http_scheme(&self) -> &'static str {
        match self.https_client_tls() {
            Some(_) => "https",
            None => "http",
        }
    }
}

/// An error with its causes, which tonic's does not show.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Http,
}

/// Makes connections for the pools of hyper and tonic.
#[derive(Clone)]
pub struct Connector {
    transport: Transport,
    protocol: Protocol,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Io>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Io>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(TokioIo::new(connector.dial(&uri).await?)) })
    }
}

impl Connector {
    async fn dial(&self, uri: &Uri) -> io::Result<Io> {
        match self.protocol {
            // The channel has its own limit of time.
            Protocol::Grpc => self.open(uri).await,
            Protocol::Http => tokio::time::timeout(HTTP_CONNECT_TIME_MAX, self.open(uri)).await?,
        }
    }

    async fn open(&self, uri: &Uri) -> io::Result<Io> {
        let no_host = || io::Error::new(io::ErrorKind::InvalidInput, format!("no host in {uri}"));
        let host = uri.host().ok_or_else(no_host)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let config = match self.protocol {
            Protocol::Grpc => self.transport.grpc_client_tls().map(|tls| tls.get()),
            Protocol::Http if is_https => self.transport.https_client_tls().map(|tls| tls.get()),
            Protocol::Http => None,
        };
        let Some(config) = config else {
            return Ok(Io::plain(stream));
        };
        let bad = |e| io::Error::new(io::ErrorKind::InvalidInput, e);
        let name = ServerName::try_from(host.to_owned()).map_err(bad)?;
        let connector = TlsConnector::from(config);
        Ok(Io::tls(connector.connect(name, stream).await?))
    }
}
