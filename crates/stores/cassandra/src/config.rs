// SPDX-License-Identifier: Apache-2.0
//! How Cassandra is reached: upstream's keys of `[cassandra2]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use dulse_config::stores::{Section, StoreOptions};

use crate::layout::short_hash;

/// Port where a host names none.
const PORT: u16 = 9042;

/// Longest name of a keyspace: Cassandra's limit.
const KEYSPACE_LEN_MAX: usize = 48;

/// How a connection is encrypted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// PEM file of the authorities that are trusted (`ssl_ca_path`); the system's where there is
    /// none.
    pub authorities: Option<PathBuf>,
    /// PEM files of our own certificate and its key (`ssl_cert_path`, `ssl_key_path`).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Connection and layout. There are no defaults: who opens a store decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The keyspace, which must be there.
    pub keyspace: String,
    /// Servers that are asked for all others, each `host:port`.
    pub hosts: Vec<String>,
    /// User; empty where Cassandra asks for none.
    pub username: String,
    /// Password.
    pub password: String,
    /// Directories whose entries lie in a partition each, and are not listed.
    pub super_large: BTreeSet<String>,
    /// The data center whose servers are asked first; empty for any.
    pub local_dc: String,
    /// Longest wait for a connection.
    pub connect_time_max: Duration,
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
    /// Entries of two directories would lie at one place.
    #[error(
        "`{one}` and `{other}` of superLargeDirectories have the same hash; only one of them can \
         be there"
    )]
    SameHash {
        /// A directory.
        one: String,
        /// Another one.
        other: String,
    },
}

impl Config {
    /// Servers and a keyspace by upstream's defaults, to be changed field by field.
    #[must_use]
    pub fn at(hosts: &[&str], keyspace: &str) -> Self {
        Self {
            keyspace: keyspace.to_owned(),
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            username: String::new(),
            password: String::new(),
            super_large: BTreeSet::new(),
            local_dc: String::new(),
            connect_time_max: Duration::from_millis(600),
            tls: None,
        }
    }

    /// What `[cassandra2]` says. Names and defaults are upstream's.
    ///
    /// # Errors
    ///
    /// For values that cannot be followed.
    pub fn of(section: &Section, _options: &StoreOptions) -> Result<Self, ConfigError> {
        let wrong = |key, value: &str, expected| ConfigError::Key {
            key,
            value: value.to_owned(),
            expected,
        };
        let keyspace = section.text("keyspace");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !(1..=KEYSPACE_LEN_MAX).contains(&keyspace.len()) || !keyspace.chars().all(is_plain) {
            let expected = "letters, digits and `_`, 48 at most";
            return Err(wrong("keyspace", keyspace, expected));
        }
        let named = section.list("hosts");
        let hosts: Option<Vec<String>> = named.iter().map(|text| host(text)).collect();
        let hosts = hosts.filter(|hosts| !hosts.is_empty());
        let hosts =
            hosts.ok_or_else(|| wrong("hosts", &named.join(","), "a list of `host:port`"))?;
        let key = "connection_timeout_millisecond";
        let millis = section.integer(key);
        let connect_time_max = u64::try_from(millis).ok().filter(|millis| *millis > 0);
        let connect_time_max = connect_time_max.map(Duration::from_millis);
        let connect_time_max = connect_time_max
            .ok_or_else(|| wrong(key, &millis.to_string(), "milliseconds, above 0"))?;
        let super_large = section.list("superLargeDirectories");
        for directory in super_large {
            let is_one = directory.starts_with('/') && !directory.ends_with('/');
            if !is_one {
                let expected = "paths that begin with a slash and do not end with one";
                return Err(wrong("superLargeDirectories", directory, expected));
            }
        }
        let config = Self {
            keyspace: keyspace.to_owned(),
            hosts,
            username: section.text("username").to_owned(),
            password: section.text("password").to_owned(),
            super_large: super_large.iter().cloned().collect(),
            local_dc: section.text("localDC").to_owned(),
            connect_time_max,
            tls: tls(section)?,
        };
        config.check_hashes()?;
        Ok(config)
    }

    fn check_hashes(&self) -> Result<(), ConfigError> {
        let mut known = BTreeMap::new();
        for directory in &self.super_large {
            if let Some(other) = known.insert(short_hash(directory), directory) {
                return Err(ConfigError::SameHash {
                    one: other.clone(),
                    other: directory.clone(),
                });
            }
        }
        Ok(())
    }

    /// The keyspace for people: where it is, without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.hosts.join(","), self.keyspace)
    }
}

fn tls(section: &Section) -> Result<Option<Tls>, ConfigError> {
    let wrong = |key, expected| ConfigError::Key {
        key,
        value: section.text(key).to_owned(),
        expected,
    };
    let [authorities, certificate, key] =
        ["ssl_ca_path", "ssl_cert_path", "ssl_key_path"].map(|key| section.text(key));
    let identity = match (certificate, key) {
        ("", "") => None,
        ("", _) => return Err(wrong("ssl_cert_path", "the certificate of the key")),
        (_, "") => return Err(wrong("ssl_key_path", "the key of the certificate")),
        (certificate, key) => Some((certificate.into(), key.into())),
    };
    if authorities.is_empty() && identity.is_none() {
        return Ok(None);
    }
    let key = "ssl_enable_host_verification";
    if !section.boolean(key) {
        return Err(ConfigError::Key {
            key,
            value: "false".to_owned(),
            expected: "true: who answers must be checked",
        });
    }
    Ok(Some(Tls {
        authorities: (!authorities.is_empty()).then(|| authorities.into()),
        identity,
    }))
}

/// A server, with its port.
fn host(text: &str) -> Option<String> {
    let text = text.trim();
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

    const FINE: &str = "keyspace = \"k\"\nhosts = [\"a\"]\n";

    fn read(text: &str) -> Result<Config, ConfigError> {
        let path = std::path::Path::new("filer.toml");
        let text = format!("[cassandra2]\nenabled = true\n{text}");
        let stores = dulse_config::Stores::parse(path, &text, &|_| None).unwrap();
        Config::of(&stores.store.expect("one is enabled"), &stores.options)
    }

    #[test]
    fn a_section_is_read_as_upstream_reads_it() {
        let config = read(
            "keyspace = \"k\"\nhosts = [\"a:1\", \" b\", \"[::1]:2\"]\nusername = \"u\"\n\
             password = \"p\"\nsuperLargeDirectories = [\"/big\"]\nlocalDC = \"dc1\"\n\
             connection_timeout_millisecond = 900\nssl_ca_path = \"ca\"\n",
        )
        .unwrap();
        assert_eq!(config.hosts, ["a:1", "b:9042", "[::1]:2"]);
        assert_eq!(config.place(), "a:1,b:9042,[::1]:2/k");
        assert_eq!(config.connect_time_max, Duration::from_millis(900));
        assert!(config.super_large.contains("/big"));
        let tls = config.tls.unwrap();
        assert_eq!(tls.authorities, Some(PathBuf::from("ca")));
        assert_eq!(read(FINE).unwrap(), Config::at(&["a:9042"], "k"));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_what_is_expected() {
        for (text, expected) in [
            ("hosts = [\"a\"]", "letters, digits"),
            ("keyspace = \"a b\"\nhosts = [\"a\"]", "letters, digits"),
            ("keyspace = \"k\"", "a list of `host:port`"),
            ("keyspace = \"k\"\nhosts = [\"a:b\"]", "`host:port`"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (text, expected) in [
            ("connection_timeout_millisecond = 0", "above 0"),
            ("superLargeDirectories = [\"big\"]", "begin with a slash"),
            ("superLargeDirectories = [\"/big/\"]", "begin with a slash"),
            ("ssl_key_path = \"k\"", "certificate of the key"),
            ("ssl_cert_path = \"c\"", "key of the certificate"),
            (
                "ssl_ca_path = \"c\"\nssl_enable_host_verification = false",
                "must be checked",
            ),
        ] {
            let error = read(&format!("{FINE}{text}\n")).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn directories_whose_entries_would_lie_at_one_place_are_refused() {
        // Four hexadecimal digits are soon the same.
        let mut known = BTreeMap::new();
        let (one, other) = (0..)
            .map(|n| format!("/{n}"))
            .find_map(|at| Some((known.insert(short_hash(&at), at.clone())?, at)))
            .unwrap();
        let text = format!("{FINE}superLargeDirectories = [\"{one}\", \"{other}\"]\n");
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains("the same hash"), "{error}");
    }
}
