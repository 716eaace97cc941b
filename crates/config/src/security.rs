// SPDX-License-Identifier: Apache-2.0
//! Upstream's `security.toml`: keys for tokens, certificates, who may call.
//!
//! Looked for as upstream does, and every key can be overridden by `WEED_` and the key in
//! upper case with `_` for `.`, such as `WEED_JWT_SIGNING_KEY`; that works without a file.
//! Unlike upstream, which warns and goes on without, a file that does not parse is refused.

mod keys;
mod lookup;

use std::path::{Path, PathBuf};

use crate::error::Error;
pub use lookup::Environment;
use lookup::Lookup;

/// Name of the file.
pub const FILE_NAME: &str = "security.toml";

/// What a `security.toml` says, defaults where it is silent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Security {
    /// Tokens over HTTP.
    pub jwt: Jwt,
    /// Mutual TLS of gRPC.
    pub grpc: Grpc,
    /// TLS of HTTP.
    pub https: Https,
    /// `guard.white_list`: addresses and networks that may call master and volume server.
    pub white_list: Vec<String>,
    /// `cors.allowed_origins.values`; `None` leaves it to the flag.
    pub allowed_origins: Option<Vec<String>>,
    /// `filer.expose_directory_metadata.enabled`: whether directories are listed over HTTP.
    pub lists_directories: bool,
    /// Where it was found.
    pub path: Option<PathBuf>,
    /// Keys of the file that nothing here knows, with their lines.
    pub unknown: Vec<String>,
}

/// Keys for tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Jwt {
    /// `jwt.signing`: writes to volume servers.
    pub volume_write: TokenKey,
    /// `jwt.signing.read`: reads from volume servers.
    pub volume_read: TokenKey,
    /// `jwt.filer_signing`: writes to filers.
    pub filer_write: TokenKey,
    /// `jwt.filer_signing.read`: reads from filers.
    pub filer_read: TokenKey,
}

/// A key and the life of what it signs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TokenKey {
    /// The secret; empty asks for no token.
    pub key: String,
    /// Seconds.
    pub expires_after_seconds: u64,
}

impl std::fmt::Debug for TokenKey {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey")
            .field("is_set", &!self.key.is_empty())
            .field("expires_after_seconds", &self.expires_after_seconds)
            .finish()
    }
}

/// Mutual TLS of gRPC: on for a service when `ca` and its certificate and key are set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grpc {
    /// `grpc.ca`: who signs all certificates.
    pub ca: String,
    /// `grpc.allowed_wildcard_domain`: common names that end so are allowed.
    pub allowed_wildcard_domain: String,
    /// `grpc.master`.
    pub master: GrpcService,
    /// `grpc.volume`.
    pub volume: GrpcService,
    /// `grpc.filer`.
    pub filer: GrpcService,
    /// `grpc.client`.
    pub client: GrpcService,
}

/// Files of one service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GrpcService {
    /// Certificate it shows as a server, and as a client when `client_cert` is empty.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// Certificate it shows as a client.
    pub client_cert: String,
    /// Its key.
    pub client_key: String,
    /// Common names that may call it; none allows whoever the CA signed.
    pub allowed_common_names: Vec<String>,
}

/// TLS of HTTP: on for a service when its certificate and key are set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Https {
    /// `https.client`.
    pub client: HttpsClient,
    /// `https.master`.
    pub master: HttpsService,
    /// `https.volume`.
    pub volume: HttpsService,
    /// `https.filer`.
    pub filer: HttpsService,
}

/// How others are called.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HttpsClient {
    /// Whether others are called over TLS.
    pub enabled: bool,
    /// Certificate to show, if one is asked for.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// Who signs theirs; empty trusts whom the system trusts.
    pub ca: String,
    /// Take any certificate.
    pub insecure_skip_verify: bool,
}

/// Files of one HTTP listener.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HttpsService {
    /// Certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// Who signs clients' certificates; set, they must show one.
    pub ca: String,
    /// Do not ask for clients' certificates although `ca` is set.
    pub disable_tls_verify_client_cert: bool,
}

impl Security {
    /// Finds and reads the file; without one, what the environment says.
    ///
    /// - `config_dir`: looked into first.
    ///
    /// # Errors
    ///
    /// `Read` or `Line` for a file that is there and cannot be used.
    pub fn load(config_dir: Option<&Path>, environment: &Environment) -> Result<Self, Error> {
        match find(FILE_NAME, config_dir, environment) {
            Some(path) => Self::read(&path, environment),
            None => Self::parse(Path::new("environment"), "", environment),
        }
    }

    /// Reads this file.
    ///
    /// # Errors
    ///
    /// `Read` or `Line`.
    pub fn read(path: &Path, environment: &Environment) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut read = Self::parse(path, &text, environment)?;
        read.path = Some(path.to_owned());
        Ok(read)
    }

    /// Understands the text of a file; `path` is for errors.
    ///
    /// # Errors
    ///
    /// `Line` at what does not parse or has a wrong type.
    pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Self, Error> {
        let lookup = Lookup::parse(path, text, environment)?;
        keys::read(&lookup)
    }
}

/// The first place that has a file of upstream's, as upstream looks for it.
pub(crate) fn find(
    name: &str,
    config_dir: Option<&Path>,
    environment: &Environment,
) -> Option<PathBuf> {
    let home = environment("HOME").map(|home| Path::new(&home).join(".seaweedfs"));
    let given = config_dir.map(Path::to_owned);
    let fixed = ["/usr/local/etc/seaweedfs", "/etc/seaweedfs"].map(PathBuf::from);
    let dirs = given.into_iter().chain([PathBuf::from(".")]);
    let mut dirs = dirs.chain(home).chain(fixed);
    dirs.find_map(|dir| Some(dir.join(name)).filter(|file| file.is_file()))
}
