// SPDX-License-Identifier: Apache-2.0
//! `security.toml` of this process, and the transports made of it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Result;
use dulse_config::Security;
use dulse_transport::{Service, Transport, Wire};

use crate::exit::Usage;

/// Where `security.toml` is looked for first; the same for the whole process.
static CONFIG_DIR: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Remembers `--config-dir`. To be called once, before anything else here.
pub(crate) fn set_config_dir(dir: Option<PathBuf>) {
    // A second call would change nothing, which is what the first one said.
    let _ = CONFIG_DIR.set(dir);
}

/// What `--config-dir` said.
pub(crate) fn config_dir() -> Option<&'static Path> {
    CONFIG_DIR.get().and_then(Option::as_deref)
}

/// Finds and reads `security.toml`.
///
/// # Errors
///
/// `Usage` for a file that is there and cannot be used.
pub(crate) fn security() -> Result<Security> {
    let variable = |name: &str| std::env::var(name).ok();
    let security = Security::load(config_dir(), &variable).map_err(|e| Usage(e.to_string()))?;
    if let Some(path) = &security.path {
        tracing::info!(path = %path.display(), "keys and certificates");
    }
    if !security.unknown.is_empty() {
        tracing::warn!(
            keys = security.unknown.join(", "),
            "security.toml has unknown keys"
        );
    }
    Ok(security)
}

/// The transport of a service.
///
/// # Errors
///
/// `Usage` for keys and certificates that cannot be used.
pub(crate) fn transport(service: Service, security: &Security, wire: Wire) -> Result<Transport> {
    let made = Transport::new(service, security, wire);
    Ok(made.map_err(|e| Usage(e.to_string()))?)
}

/// The transport of a command, made with its first call.
///
/// # Errors
///
/// `Usage` for keys and certificates that cannot be used.
pub(crate) fn client() -> Result<&'static Transport> {
    static CLIENT: OnceLock<Transport> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    let made = transport(Service::Client, &security()?, Wire::USUAL)?;
    Ok(CLIENT.get_or_init(|| made))
}

/// Reads the file again and gives running services its token keys and white list.
pub(crate) fn reload(transports: &[Transport]) {
    let reloaded = security().and_then(|security| {
        transports
            .iter()
            .try_for_each(|transport| Ok(transport.reload(&security)?))
    });
    match reloaded {
        Ok(()) => tracing::info!("token keys and white list were read again"),
        Err(error) => tracing::error!(%error, "security.toml cannot be used; what was read \
            before stays"),
    }
}
