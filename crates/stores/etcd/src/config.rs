// SPDX-License-Identifier: Apache-2.0
//! How etcd is reached: upstream's keys of `[etcd]`.

use std::path::PathBuf;
use std::time::Duration;

use dulse_config::Span;
use dulse_config::stores::{Section, StoreOptions};

/// Port where a server names none.
const PORT: u16 = 2379;

/// How a connection is encrypted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// PEM file of the authorities that are trusted (`tls_ca_file`).
    pub authorities: PathBuf,
    /// PEM files of our own certificate and its key (`tls_client_crt_file`,
    /// `tls_client_key_file`).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Connection and layout. There are no defaults: who opens a store decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Members of the cluster, each `host:port`.
    pub servers: Vec<String>,
    /// User; empty where etcd asks for none.
    pub username: String,
    /// Password.
    pub password: String,
    /// First bytes of all keys.
    pub key_prefix: String,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Encryption, if any.
    pub tls: Option<Tls>,
}

/// A setting that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key has a value that cannot be followed.
    #[error("`{key}` is `{value}`; expected {expected}")]
    Key {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it could be.
        expected: &'static str,
    },
}

impl Config {
    /// A cluster by upstream's defaults, to be changed field by field.
    #[must_use]
    pub fn at(servers: &[&str]) -> Self {
        Self {
            servers: servers.iter().map(|&server| server.to_owned()).collect(),
            username: String::new(),
            password: String::new(),
            key_prefix: String::new(),
            timeout: Duration::from_secs(3),
            tls: None,
        }
    }

    /// What `[etcd]` says. Names and defaults are upstream's.
    ///
    /// # Errors
    ///
    /// For values that cannot be followed.
    pub fn of(section: &Section, _options: &StoreOptions) -> Result<Self, ConfigError> {
        let wrong = |key, expected| ConfigError::Key {
            key,
            value: section.text(key).to_owned(),
            expected,
        };
        let servers: Option<Vec<String>> = section.text("servers").split(',').map(server).collect();
        let servers =
            servers.ok_or_else(|| wrong("servers", "`host:port`, several with commas"))?;
        let timeout: Option<Span> = section.text("timeout").parse().ok();
        let timeout = timeout.map(Duration::from).filter(|span| !span.is_zero());
        let timeout = timeout.ok_or_else(|| wrong("timeout", "a span of time such as `3s`"))?;
        let [authorities, certificate, key] =
            ["tls_ca_file", "tls_client_crt_file", "tls_client_key_file"]
                .map(|key| section.text(key));
        let identity = match (certificate, key) {
            ("", "") => None,
            ("", _) => return Err(wrong("tls_client_crt_file", "the certificate of the key")),
            (_, "") => return Err(wrong("tls_client_key_file", "the key of the certificate")),
            (certificate, key) => Some((certificate.into(), key.into())),
        };
        let tls = match (authorities, &identity) {
            ("", None) => None,
            ("", Some(_)) => {
                let expected = "a file of authorities: who answers must be checked";
                return Err(wrong("tls_ca_file", expected));
            }
            (file, _) => Some(Tls {
                authorities: file.into(),
                identity,
            }),
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let said = section.text("servers").split(',');
        let mut said = said.filter_map(|server| Some(server.trim().split_once("://")?.0));
        if said.any(|said| said != scheme) {
            let expected = "`http://` without `tls_ca_file`, `https://` with it, or neither";
            return Err(wrong("servers", expected));
        }
        Ok(Self {
            servers,
            username: section.text("username").to_owned(),
            password: section.text("password").to_owned(),
            key_prefix: section.text("key_prefix").to_owned(),
            timeout,
            tls,
        })
    }

    /// The cluster for people: where it is, without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.servers.join(","), self.key_prefix)
    }
}

/// A member, with its port, without what is before `://`.
fn server(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.trim_end_matches('/');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, PORT),
    };
    let is_fine = !host.is_empty() && port != 0 && !host.contains(['/', ' ']);
    is_fine.then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let path = std::path::Path::new("filer.toml");
        let text = format!("[etcd]\nenabled = true\n{text}");
        let stores = dulse_config::Stores::parse(path, &text, &|_| None).unwrap();
        Config::of(&stores.store.expect("one is enabled"), &stores.options)
    }

    #[test]
    fn a_section_is_read_as_upstream_reads_it() {
        let config = read(
            "servers = \"a:1, https://b/,[::1]:2\"\nusername = \"u\"\npassword = \"p\"\n\
             key_prefix = \"k.\"\ntimeout = \"500ms\"\ntls_ca_file = \"ca\"\n",
        )
        .unwrap();
        assert_eq!(config.servers, ["a:1", "b:2379", "[::1]:2"]);
        assert_eq!(config.timeout, Duration::from_millis(500));
        assert_eq!(config.place(), "a:1,b:2379,[::1]:2/k.");
        assert_eq!(config.tls.unwrap().authorities, PathBuf::from("ca"));
        assert_eq!(read("").unwrap().servers, ["localhost:2379"]);
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_what_is_expected() {
        for (text, expected) in [
            ("servers = \"\"", "`host:port`"),
            ("servers = \"https://a:1\"", "`https://` with it"),
            (
                "servers = \"http://a\"\ntls_ca_file = \"ca\"",
                "`http://` without `tls_ca_file`",
            ),
            ("servers = \"a:b\"", "`host:port`"),
            ("servers = \"a:1,,\"", "`host:port`"),
            ("timeout = \"soon\"", "`3s`"),
            ("timeout = \"0s\"", "`3s`"),
            ("tls_client_key_file = \"k\"", "certificate of the key"),
            ("tls_client_crt_file = \"c\"", "key of the certificate"),
            (
                "tls_client_crt_file = \"c\"\ntls_client_key_file = \"k\"",
                "a file of authorities",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
