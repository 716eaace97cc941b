// SPDX-License-Identifier: Apache-2.0
//! Limits and times of connections, with their reasons.

use std::time::Duration;

use tonic::transport::{Endpoint, Server};

/// Largest gRPC message both ways, as upstream: an entry with very many chunks is one message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Requests in flight on one gRPC connection: many clients share one, and each costs memory.
const STREAMS_MAX: u32 = 1_000;

/// Largest HTTP/2 frame: fewer frames for large messages, and still a fair share for others.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// Most bytes of the headers of one request, over HTTP/1 and HTTP/2 alike.
pub(crate) const HEADER_BYTES_MAX: u32 = 64 << 10;

/// Headers of one HTTP/1 request.
pub(crate) const HEADERS_MAX: usize = 128;

/// How long a probe may go without an answer before the connection is given up, as upstream.
const PROBE_TIME_MAX: Duration = Duration::from_secs(20);

/// How long a client may take to send a head, which is also how long an idle connection is
/// kept: longer than clients keep theirs, so that none is closed while it is written to.
pub(crate) const HEAD_TIME_MAX: Duration = Duration::from_secs(75);

/// How long a TLS handshake may take.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Handshakes at once; others wait to be accepted.
pub(crate) const HANDSHAKES_MAX: usize = 256;

/// Connections of one HTTP listener; others wait to be accepted.
pub(crate) const CONNECTIONS_MAX: usize = 16_384;

/// Pause after a failed accept, which means that file descriptors ran out.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long requests in flight may take after a stop.
pub(crate) const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How connections behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wire {
    /// HTTP/2 windows in bytes, of a stream and of a connection: what is on its way unread.
    pub window_bytes: u32,
    /// A silent gRPC connection is probed after this.
    pub keep_alive: Duration,
}

impl Wire {
    /// What does for most: 16 MiB fill a line of 2 Gbit/s over 64 ms, and upstream's
    /// servers take a probe a minute (they refuse more than one in 20 s).
    pub const USUAL: Self = Self {
        window_bytes: 16 << 20,
        keep_alive: Duration::from_secs(60),
    };

    /// A gRPC server with these limits.
    pub(crate) fn server(self) -> Server {
        Server::builder()
            .initial_stream_window_size(self.window_bytes)
            .initial_connection_window_size(self.window_bytes)
            .max_concurrent_streams(STREAMS_MAX)
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keepalive_interval(Some(self.keep_alive))
            .http2_keepalive_timeout(Some(PROBE_TIME_MAX))
    }

    /// The same for a client.
    pub(crate) fn endpoint(self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .initial_stream_window_size(self.window_bytes)
            .initial_connection_window_size(self.window_bytes)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(PROBE_TIME_MAX)
            .keep_alive_while_idle(true)
    }
}
