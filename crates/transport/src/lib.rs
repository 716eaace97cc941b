// SPDX-License-Identifier: Apache-2.0
//! Every listener and dialer, over TLS or not, with one set of limits; who may call.
//!
//! A [`Transport`] is what one service has of it: certificates of `security.toml`, re-read
//! while it runs, keys for [`Tokens`], the white list, windows and keep-alive. Nothing else
//! in this repository opens a socket (`cargo xtask tidy` looks).
//!
//! As upstream, gRPC between services checks that a certificate was signed by the one CA
//! and not the name in it: services know one another by addresses that come and go. Whom a
//! service lets in may be narrowed to common names.

mod certificates;
mod dial;
mod io;
mod listen;
mod names;
mod serve;
mod tls;
mod tokens;
mod transport;
mod verify;
mod white_list;
mod wire;

pub use dial::{Connector, Dial, DialError, HttpClient, within};
pub use io::Io;
pub use listen::{GrpcListener, HttpListener, probe};
pub use tls::TlsError;
pub use tokens::{Denied, Guarded, Tokens, token_of};
pub use transport::{Service, SetupError, Transport};
pub use white_list::WhiteList;
pub use wire::{MESSAGE_BYTES_MAX, Wire};
