// SPDX-License-Identifier: Apache-2.0
//! Listeners: accepted, made fast, and through the TLS handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Once};

use futures::stream::{self, Stream, StreamExt};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::transport::Server;

use crate::io::Io;
use crate::transport::Transport;
use crate::wire::{ACCEPT_PAUSE, HANDSHAKE_TIME_MAX, HANDSHAKES_MAX};

/// Said once for a process, however many listeners it has.
static OPEN_WARNING: Once = Once::new();

/// Where gRPC is served.
pub struct GrpcListener {
    listener: TcpListener,
    transport: Transport,
}

/// Where HTTP is served.
pub struct HttpListener {
    pub(crate) listener: TcpListener,
    pub(crate) transport: Transport,
}

impl Transport {
    /// Listens for gRPC.
    ///
    /// # Errors
    ///
    /// When the address is taken or not ours.
    pub async fn listen_grpc(&self, address: SocketAddr) -> io::Result<GrpcListener> {
        warn_if_open(address, self.grpc_server_tls().is_some());
        Ok(GrpcListener {
            listener: TcpListener::bind(address).await?,
            transport: self.clone(),
        })
    }

    /// Listens for HTTP.
    ///
    /// # Errors
    ///
    /// When the address is taken or not ours.
    pub async fn listen_http(&self, address: SocketAddr) -> io::Result<HttpListener> {
        warn_if_open(address, self.https_server_tls().is_some());
        Ok(HttpListener {
            listener: TcpListener::bind(address).await?,
            transport: self.clone(),
        })
    }
}

impl GrpcListener {
    /// A server with the limits of this repository, to add services to.
    #[must_use]
    pub fn server(&self) -> Server {
        self.transport.wire().server()
    }

    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Connections to serve.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Io>> + Send {
        let transport = self.transport;
        let tls = move || transport.grpc_server_tls().map(|tls| tls.get());
        connections(self.listener, tls).map(Ok)
    }
}

/// Whether an address can be listened on just now.
///
/// # Errors
///
/// Why it cannot.
pub fn probe(ip: &str, port: u16) -> io::Result<()> {
    std::net::TcpListener::bind((ip, port)).map(drop)
}

/// Whether others than this machine can reach it unprotected.
fn is_open(address: SocketAddr, is_tls: bool) -> bool {
    !address.ip().is_loopback() && !is_tls
}

fn warn_if_open(address: SocketAddr, is_tls: bool) {
    if is_open(address, is_tls) {
        OPEN_WARNING.call_once(|| {
            tracing::warn!(%address, "listening beyond loopback without TLS: whoever reaches \
                this port can read and change everything; `security.toml` sets it up");
        });
    }
}

/// Accepts without end; handshakes run side by side, and one that fails costs only itself.
pub(crate) fn connections<F>(listener: TcpListener, tls: F) -> impl Stream<Item = Io> + Send
where
    F: Fn() -> Option<Arc<ServerConfig>> + Send + 'static,
{
    let accepted = stream::unfold(listener, |listener| async {
        Some((accept(&listener).await, listener))
    });
    accepted
        .map(move |stream| shake_hands(stream, tls()))
        .buffer_unordered(HANDSHAKES_MAX)
        .filter_map(|io| async { io })
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole; waiting to join them to others only delays.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn shake_hands(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Option<Io> {
    let Some(config) = tls else {
        return Some(Io::plain(stream));
    };
    let peer = stream.peer_addr().ok();
    let acceptor = TlsAcceptor::from(config);
    let why = match tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(Io::tls(stream)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no handshake within {HANDSHAKE_TIME_MAX:?}"),
    };
    tracing::info!(?peer, %why, "a connection is refused");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_can_reach_unprotected_is_open() {
        for (address, is_tls, expect) in [
            ("127.0.0.1:1", false, false),
            ("[::1]:1", false, false),
            ("0.0.0.0:1", false, true),
            ("10.0.0.1:1", false, true),
            ("10.0.0.1:1", true, false),
        ] {
            assert_eq!(
                is_open(address.parse().unwrap(), is_tls),
                expect,
                "{address}"
            );
        }
    }
}
