// SPDX-License-Identifier: Apache-2.0
//! From a section of `filer.toml` to a configuration. Keys and defaults are upstream's; which of
//! them count in which section was observed of upstream 4.48.

use std::path::PathBuf;
use std::time::Duration;

use dulse_config::stores::{Section, StoreOptions};

use crate::config::{Config, Names, Servers, Tls};

/// A setting that cannot be followed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{key}` is `{value}`; expected {expected}")]
pub struct ConfigError {
    key: &'static str,
    value: String,
    expected: &'static str,
}

impl Config {
    /// What a section says. Keys that upstream's store of that section does not look at are not
    /// looked at either, and a warning says so.
    ///
    /// # Errors
    ///
    /// For values that cannot be followed.
    pub fn of(section: &Section, _: &StoreOptions) -> Result<Self, ConfigError> {
        let names = match section.name().contains('3') {
            true => Names::SkipList,
            false => Names::SortedSet,
        };
        let mut config = Self::at(names, servers(section)?);
        config.username = section.text("username").to_owned();
        config.password = section.text("password").to_owned();
        let is_cluster = matches!(config.servers, Servers::Cluster(_));
        if !is_cluster {
            config.database = section.integer("database");
            if config.database < 0 {
                let value = config.database.to_string();
                return Err(wrong("database", value, "the number of a database, from 0"));
            }
        }
        let without = |key: &str| {
            tracing::warn!(
                section = section.name(),
                key,
                "upstream's store does not look at this key, so it does not count here either"
            );
        };
        let prefix = section.text("keyPrefix");
        match names {
            Names::SortedSet => prefix.clone_into(&mut config.key_prefix),
            Names::SkipList if !prefix.is_empty() => without("keyPrefix"),
            Names::SkipList => {}
        }
        let large = section.list("superLargeDirectories");
        let has_large =
            names == Names::SortedSet && !matches!(config.servers, Servers::Sentinel { .. });
        match has_large {
            true => config.super_large = large.iter().cloned().collect(),
            false if !large.is_empty() => without("superLargeDirectories"),
            false => {}
        }
        if is_cluster {
            for key in ["useReadOnly", "readOnly", "routeByLatency"] {
                if section.boolean(key) {
                    tracing::warn!(
                        section = section.name(),
                        key,
                        "replicas may be behind, so reads go to masters nevertheless"
                    );
                }
            }
        }
        config.tls = tls(section)?;
        config.limits(section)?;
        Ok(config)
    }

    /// The servers for people: where they are, without secrets.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.servers {
            Servers::One(address) => format!("{address}/{}", self.database),
            Servers::Sentinel {
                sentinels, master, ..
            } => format!(
                "{master}/{}, which the sentinels {} name",
                self.database,
                sentinels.join(", ")
            ),
            Servers::Cluster(addresses) => format!("the cluster of {}", addresses.join(", ")),
        }
    }

    fn limits(&mut self, section: &Section) -> Result<(), ConfigError> {
        let time = |key: &'static str, unit: fn(u64) -> Duration| {
            let value = section.integer(key);
            let expected = "a time; 0 for upstream's default, and none turns it off";
            let value =
                u64::try_from(value).map_err(|_| wrong(key, value.to_string(), expected))?;
            Ok((value != 0).then(|| unit(value)))
        };
        let ms = Duration::from_millis;
        let count = |key: &'static str| {
            let value = section.integer(key);
            let expected = "a number; 0 for upstream's default";
            let value =
                usize::try_from(value).map_err(|_| wrong(key, value.to_string(), expected))?;
            Ok((value != 0).then_some(value))
        };
        self.retries_max = match section.integer("max_retries") {
            0 => self.retries_max,
            -1 => 0,
            n => u32::try_from(n)
                .map_err(|_| wrong("max_retries", n.to_string(), "a number; -1 for none"))?,
        };
        let (mut least, mut most) = self.retry_pause;
        least = time("min_retry_backoff_millisecond", ms)?.unwrap_or(least);
        most = time("max_retry_backoff_millisecond", ms)?.unwrap_or(most);
        self.retry_pause = (least, most.max(least));
        self.connect_time = time("dial_timeout_millisecond", ms)?.unwrap_or(self.connect_time);
        let read = time("read_timeout_millisecond", ms)?.unwrap_or(self.answer_time);
        // What is sent and what is answered have one limit here.
        let write = time("write_timeout_millisecond", ms)?.unwrap_or(read);
        self.answer_time = read.max(write);
        let pool = time("pool_timeout_millisecond", ms)?;
        self.pool_time = pool.unwrap_or(read + Duration::from_secs(1));
        self.connections_max = count("pool_size")?.unwrap_or(self.connections_max);
        self.idle_max = count("max_idle_conns")?.unwrap_or(self.connections_max);
        // Connections are made when they are needed.
        count("min_idle_conns")?;
        let idle = time("conn_max_idle_time_seconds", Duration::from_secs)?;
        self.idle_time = idle.unwrap_or(self.idle_time);
        self.lifetime = time("conn_max_lifetime_seconds", Duration::from_secs)?;
        Ok(())
    }
}

fn servers(section: &Section) -> Result<Servers, ConfigError> {
    let addresses = || match section.list("addresses") {
        [] => Err(wrong("addresses", String::new(), "a list of host:port")),
        addresses => Ok(addresses.to_vec()),
    };
    if section.name().contains("cluster") {
        return Ok(Servers::Cluster(addresses()?));
    }
    if !section.name().contains("sentinel") {
        let address = section.text("address");
        if address.is_empty() {
            return Err(wrong("address", String::new(), "host:port"));
        }
        return Ok(Servers::One(address.to_owned()));
    }
    let master = section.text("masterName");
    if master.is_empty() {
        let expected = "what the sentinels call the master";
        return Err(wrong("masterName", String::new(), expected));
    }
    Ok(Servers::Sentinel {
        sentinels: addresses()?,
        master: master.to_owned(),
        username: section.text("sentinel_username").to_owned(),
        password: section.text("sentinel_password").to_owned(),
    })
}

fn tls(section: &Section) -> Result<Tls, ConfigError> {
    if !section.boolean("enable_tls") && !section.boolean("enable_mtls") {
        return Ok(Tls::Off);
    }
    let file = |key: &str| {
        let text = section.text(key);
        (!text.is_empty()).then(|| PathBuf::from(text))
    };
    let own = match (file("client_cert_path"), file("client_key_path")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(wrong(
                "client_key_path",
                String::new(),
                "the certificate's key",
            ));
        }
        (None, Some(_)) => {
            return Err(wrong(
                "client_cert_path",
                String::new(),
                "the key's certificate",
            ));
        }
    };
    Ok(Tls::On {
        authorities: file("ca_cert_path"),
        own,
    })
}

fn wrong(key: &'static str, value: String, expected: &'static str) -> ConfigError {
    ConfigError {
        key,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dulse_config::Stores;

    use super::*;

    fn of(text: &str) -> Result<Config, ConfigError> {
        let stores = Stores::parse(Path::new("filer.toml"), text, &|_: &str| None).unwrap();
        Config::of(&stores.store.unwrap(), &stores.options)
    }

    #[test]
    fn each_section_says_what_it_says_upstream() {
        let config = of(
            "[redis2]\nenabled = true\naddress = \"h:1\"\nusername = \"u\"\npassword = \"p\"\n\
             database = 3\nkeyPrefix = \"k:\"\nsuperLargeDirectories = [\"/big\"]\n\
             read_timeout_millisecond = 100\nmax_retries = -1\npool_size = 7\n\
             conn_max_lifetime_seconds = 60\n",
        )
        .unwrap();
        assert_eq!(config.servers, Servers::One("h:1".to_owned()));
        assert_eq!((&*config.key_prefix, config.database), ("k:", 3));
        assert!(config.is_super_large("/big"));
        assert_eq!(config.answer_time, Duration::from_millis(100));
        assert_eq!(config.pool_time, Duration::from_millis(1_100));
        assert_eq!((config.retries_max, config.connections_max), (0, 7));
        assert_eq!(config.lifetime, Some(Duration::from_secs(60)));
        assert!(!config.place().contains('p'), "{}", config.place());

        let sentinel = of(
            "[redis3_sentinel]\nenabled = true\naddresses = [\"a:1\", \"b:1\"]\n\
             masterName = \"m\"\nkeyPrefix = \"k:\"\n",
        )
        .unwrap();
        assert_eq!(
            (sentinel.names, sentinel.name()),
            (Names::SkipList, "redis3_sentinel")
        );
        assert_eq!(sentinel.key_prefix, "", "as upstream");

        let cluster =
            of("[redis_cluster2]\nenabled = true\naddresses = [\"a:1\"]\nuseReadOnly = true\n");
        assert_eq!(
            cluster.unwrap().servers,
            Servers::Cluster(vec!["a:1".to_owned()])
        );
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_is_expected() {
        for (key, text) in [
            ("address", "[redis2]\nenabled = true\naddress = \"\"\n"),
            ("addresses", "[redis_cluster2]\nenabled = true\n"),
            (
                "masterName",
                "[redis2_sentinel]\nenabled = true\naddresses = [\"a:1\"]\n",
            ),
            ("database", "[redis2]\nenabled = true\ndatabase = -1\n"),
            (
                "dial_timeout_millisecond",
                "[redis2]\nenabled = true\ndial_timeout_millisecond = -1\n",
            ),
            (
                "max_retries",
                "[redis2]\nenabled = true\nmax_retries = -2\n",
            ),
            (
                "client_key_path",
                "[redis2]\nenabled = true\nenable_tls = true\nclient_cert_path = \"a\"\n",
            ),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{key}`")) && error.contains("expected"),
                "{error}"
            );
        }
    }
}
