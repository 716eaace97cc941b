// SPDX-License-Identifier: Apache-2.0
//! Serving HTTP/1 and HTTP/2 with limits, and ending it without cutting requests off.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures::StreamExt;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use crate::io::Io;
use crate::listen::{HttpListener, connections};
use crate::wire::{
    CONNECTIONS_MAX, DRAIN_TIME_MAX, HEAD_TIME_MAX, HEADER_BYTES_MAX, HEADERS_MAX, Wire,
};

impl HttpListener {
    /// The address, with the port that the system chose for port 0.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then lets requests in flight end, five seconds at most.
    ///
    /// Handlers find the other end's address as [`ConnectInfo`]. How large bodies may be is
    /// for the router to say.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let builder = Arc::new(builder(self.transport.wire()));
        let transport = self.transport;
        let tls = move || transport.https_server_tls().map(|tls| tls.get());
        let mut incoming = Box::pin(connections(self.listener, tls));
        let mut stop = std::pin::pin!(stop);
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let open = GracefulShutdown::new();
        loop {
            let next = async {
                // The semaphore is never closed.
                let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
                Some((incoming.next().await?, slot))
            };
            let (io, slot) = tokio::select! {
                next = next => match next { Some(next) => next, None => break },
                () = &mut stop => break,
            };
            let one = serve_one(
                Arc::clone(&builder),
                io,
                router.clone(),
                open.watcher(),
                slot,
            );
            tokio::spawn(one);
        }
        // Order: the listener is closed first, so that whoever comes now goes elsewhere.
        drop(incoming);
        // What takes longer is cut with the runtime.
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, open.shutdown()).await;
    }
}

fn builder(wire: Wire) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(wire.keep_alive)
        .initial_stream_window_size(wire.window_bytes)
        .initial_connection_window_size(wire.window_bytes)
        .max_header_list_size(HEADER_BYTES_MAX);
    builder
}

async fn serve_one(
    builder: Arc<Builder<TokioExecutor>>,
    io: Io,
    router: Router,
    watcher: Watcher,
    _slot: OwnedSemaphorePermit,
) {
    let peer = io.peer();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        router.clone().oneshot(request)
    });
    let connection = builder.serve_connection(TokioIo::new(io), service);
    if let Err(error) = watcher.watch(connection).await {
        // Clients that go away are no event here.
        tracing::debug!(?peer, %error, "a connection ended");
    }
}
