// SPDX-License-Identifier: Apache-2.0
//! What one service has of keys, certificates and limits.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use dulse_config::Security;

use crate::tls::{self, TlsError};
use crate::tokens::Tokens;
use crate::white_list::WhiteList;
use crate::wire::Wire;

/// Whose keys and certificates are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// `[grpc.master]`, `[https.master]`.
    Master,
    /// `[grpc.volume]`, `[https.volume]`.
    Volume,
    /// `[grpc.filer]`, `[https.filer]`.
    Filer,
    /// `[grpc.client]`: commands.
    Client,
}

/// Keys and certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The white list.
    #[error("{0}")]
    WhiteList(String),
}

/// Makes the listeners and dialers of one service. Cheap to clone.
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    wire: Wire,
    grpc: Option<(tls::Server, tls::Client)>,
    https_server: Option<tls::Server>,
    https_client: Option<tls::Client>,
    tokens: ArcSwap<Tokens>,
    white_list: ArcSwap<WhiteList>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("wire", &self.0.wire)
            .field("grpc_tls", &self.0.grpc.is_some())
            .field("https", &self.0.https_server.is_some())
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Plain text, no tokens, everyone.
    #[must_use]
    pub fn plain() -> Self {
        Self(Arc::new(Inner {
            wire: Wire::USUAL,
            grpc: None,
            https_server: None,
            https_client: None,
            tokens: ArcSwap::default(),
            white_list: ArcSwap::default(),
        }))
    }

    /// What `security.toml` says for this service. Blocks while certificates are read.
    ///
    /// # Errors
    ///
    /// `Tls` for files that cannot be used, `WhiteList` for what is no address.
    pub fn new(service: Service, security: &Security, wire: Wire) -> Result<Self, SetupError> {
        let (grpc, https) = (&security.grpc, &security.https);
        let (section, of_grpc, of_https) = match service {
            Service::Master => (
                "grpc.master",
                &grpc.master,
                Some(("https.master", &https.master)),
            ),
            Service::Volume => (
                "grpc.volume",
                &grpc.volume,
                Some(("https.volume", &https.volume)),
            ),
            Service::Filer => (
                "grpc.filer",
                &grpc.filer,
                Some(("https.filer", &https.filer)),
            ),
            Service::Client => ("grpc.client", &grpc.client, None),
        };
        let made = tls::grpc(section, grpc, of_grpc)?;
        if made.is_none() && !(grpc.ca.is_empty() && of_grpc.cert.is_empty()) {
            tracing::warn!(
                "gRPC stays in plain text: that needs `ca` in [grpc] and `cert` and \
                `key` in [{section}], and not all of them are set"
            );
        }
        let https_server = match of_https {
            Some((section, of_https)) => tls::https_server(section, of_https)?,
            None => None,
        };
        Ok(Self(Arc::new(Inner {
            wire,
            grpc: made,
            https_server,
            https_client: tls::https_client(&https.client)?,
            tokens: ArcSwap::from_pointee(Tokens::new(&security.jwt)),
            white_list: ArcSwap::from_pointee(white_list(security)?),
        })))
    }

    /// Takes other token keys and another white list; certificates are looked at anyway.
    ///
    /// # Errors
    ///
    /// `WhiteList` for what is no address; nothing is changed then.
    pub fn reload(&self, security: &Security) -> Result<(), SetupError> {
        let white_list = white_list(security)?;
        self.0.white_list.store(Arc::new(white_list));
        self.0.tokens.store(Arc::new(Tokens::new(&security.jwt)));
        Ok(())
    }

    /// The keys that sign and check now.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        self.0.tokens.load_full()
    }

    /// Who may call now.
    #[must_use]
    pub fn white_list(&self) -> Arc<WhiteList> {
        self.0.white_list.load_full()
    }

    pub(crate) fn wire(&self) -> Wire {
        self.0.wire
    }

    pub(crate) fn grpc_server_tls(&self) -> Option<&tls::Server> {
        self.0.grpc.as_ref().map(|(server, _)| server)
    }

    pub(crate) fn grpc_client_tls(&self) -> Option<&tls::Client> {
        self.0.grpc.as_ref().map(|(_, client)| client)
    }

    pub(crate) fn https_server_tls(&self) -> Option<&tls::Server> {
        self.0.https_server.as_ref()
    }

    pub(crate) fn https_client_tls(&self) -> Option<&tls::Client> {
        self.0.https_client.as_ref()
    }
}

fn white_list(security: &Security) -> Result<WhiteList, SetupError> {
    WhiteList::parse(&security.white_list).map_err(SetupError::WhiteList)
}
