// SPDX-License-Identifier: Apache-2.0
//! TLS of one service, made of `security.toml`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dulse_config::security::{Grpc, GrpcService, HttpsClient, HttpsService};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::certificates::{Reloading, chain, key, roots, system_roots};
use crate::names::Allowed;
use crate::verify::{ChainOnly, Named};

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or is not what it should be.
    #[error("cannot use `{}`: {why}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key do not fit, or the like.
    #[error("cannot use certificate `{0}`: {1}")]
    Unfit(String, String),
    /// One of certificate and key is named without the other.
    #[error("[{0}] names only one of `{1}` and `{2}`; expected both or neither")]
    Half(&'static str, &'static str, &'static str),
    /// The system trusts nobody.
    #[error("the system has no trusted certificates; expected [https.client] to name a `ca`")]
    NoSystemRoots,
}

impl TlsError {
    pub(crate) fn file(file: &Path, why: impl ToString) -> Self {
        Self::File {
            file: file.to_owned(),
            why: why.to_string(),
        }
    }
}

/// What servers and clients of one protocol are configured with.
pub(crate) type Server = Reloading<ServerConfig>;
pub(crate) type Client = Reloading<ClientConfig>;

/// A certificate and its key.
#[derive(Clone)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Both files, or neither.
fn pair(
    section: &'static str,
    (cert_name, key_name): (&'static str, &'static str),
    cert: &str,
    key: &str,
) -> Result<Option<Pair>, TlsError> {
    match (cert.is_empty(), key.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(Pair {
            certificate: PathBuf::from(cert),
            key: PathBuf::from(key),
        })),
        _ => Err(TlsError::Half(section, cert_name, key_name)),
    }
}

/// Listener and dialer of gRPC; `None` is plain text, as it is while `ca` or the service's
/// certificate is not named.
pub(crate) fn grpc(
    section: &'static str,
    grpc: &Grpc,
    service: &GrpcService,
) -> Result<Option<(Server, Client)>, TlsError> {
    let serving = pair(section, ("cert", "key"), &service.cert, &service.key)?;
    let names = ("client_cert", "client_key");
    let calling = pair(section, names, &service.client_cert, &service.client_key)?;
    let Some(serving) = serving else {
        return Ok(None);
    };
    if grpc.ca.is_empty() {
        return Ok(None);
    }
    let ca = PathBuf::from(&grpc.ca);
    let calling = calling.unwrap_or_else(|| serving.clone());
    let allowed = Allowed {
        names: service.allowed_common_names.clone(),
        suffix: grpc.allowed_wildcard_domain.clone(),
    };
    let files = |pair: &Pair| vec![ca.clone(), pair.certificate.clone(), pair.key.clone()];
    let (of_server, of_client) = (files(&serving), files(&calling));
    let at = ca.clone();
    let server = Reloading::new(of_server, move || {
        let verifier = Named {
            chain: signed_by(roots(&at)?, &at)?,
            allowed: allowed.clone(),
        };
        let mut config = server_config(Some(Arc::new(verifier)), &serving)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    })?;
    let client = Reloading::new(of_client, move || {
        let verifier = ChainOnly {
            roots: Some(Arc::new(roots(&ca)?)),
            provider: provider(),
        };
        let mut config = client_config(Trust::ChainOnly(verifier), Some(&calling))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    })?;
    Ok(Some((server, client)))
}

/// Listener of HTTP; `None` is plain text.
pub(crate) fn https_server(
    section: &'static str,
    https: &HttpsService,
) -> Result<Option<Server>, TlsError> {
    let Some(serving) = pair(section, ("cert", "key"), &https.cert, &https.key)? else {
        return Ok(None);
    };
    let asks = !https.ca.is_empty() && !https.disable_tls_verify_client_cert;
    let ca = asks.then(|| PathBuf::from(&https.ca));
    let mut files = vec![serving.certificate.clone(), serving.key.clone()];
    files.extend(ca.clone());
    let server = Reloading::new(files, move || {
        let verifier = match &ca {
            Some(ca) => Some(signed_by(roots(ca)?, ca)?),
            None => None,
        };
        let mut config = server_config(verifier, &serving)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    })?;
    Ok(Some(server))
}

/// Dialer of HTTP; `None` calls in plain text.
pub(crate) fn https_client(https: &HttpsClient) -> Result<Option<Client>, TlsError> {
    if !https.enabled {
        return Ok(None);
    }
    let calling = pair("https.client", ("cert", "key"), &https.cert, &https.key)?;
    let ca = (!https.ca.is_empty()).then(|| PathBuf::from(&https.ca));
    let takes_any = https.insecure_skip_verify;
    let mut files: Vec<PathBuf> = ca.iter().cloned().collect();
    if let Some(pair) = &calling {
        files.extend([pair.certificate.clone(), pair.key.clone()]);
    }
    let client = Reloading::new(files, move || {
        let trust = match &ca {
            _ if takes_any => Trust::ChainOnly(ChainOnly {
                roots: None,
                provider: provider(),
            }),
            Some(ca) => Trust::Named(roots(ca)?),
            None => Trust::Named(system_roots()?),
        };
        client_config(trust, calling.as_ref())
    })?;
    Ok(Some(client))
}

fn signed_by(roots: RootCertStore, file: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    built.map_err(|e| TlsError::file(file, e))
}

fn server_config(
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    pair: &Pair,
) -> Result<ServerConfig, TlsError> {
    let unfit = |e: rustls::Error| unfit(pair, &e);
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(unfit)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = (chain(&pair.certificate)?, key(&pair.key)?);
    builder.with_single_cert(chain, key).map_err(unfit)
}

/// Which servers to believe.
enum Trust {
    ChainOnly(ChainOnly),
    Named(RootCertStore),
}

fn client_config(trust: Trust, pair: Option<&Pair>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| TlsError::Unfit("none".to_owned(), e.to_string()))?;
    let builder = match trust {
        Trust::ChainOnly(verifier) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier)),
        Trust::Named(roots) => builder.with_root_certificates(roots),
    };
    let Some(pair) = pair else {
        return Ok(builder.with_no_client_auth());
    };
    let (chain, key) = (chain(&pair.certificate)?, key(&pair.key)?);
    let config = builder.with_client_auth_cert(chain, key);
    config.map_err(|e| unfit(pair, &e))
}

fn unfit(pair: &Pair, error: &rustls::Error) -> TlsError {
    TlsError::Unfit(pair.certificate.display().to_string(), error.to_string())
}
