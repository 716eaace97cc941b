// SPDX-License-Identifier: Apache-2.0
//! Addresses of servers in upstream's text form.

use std::fmt;
use std::str::FromStr;

/// Added to the HTTP port where no gRPC port is given.
pub const GRPC_PORT_OFFSET: u16 = 10_000;

/// `host:httpPort` or `host:httpPort.grpcPort`; always printed with the gRPC port.
///
/// Two addresses are the same server when their HTTP parts are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerAddress {
    host: String,
    port: u16,
    grpc_port: u16,
}

/// A text that is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no server address; expected `host:port` or `host:port.grpcPort`")]
pub struct AddressError(String);

impl ServerAddress {
    /// Makes an address; `grpc_port` 0 means `port` + 10000.
    ///
    /// # Errors
    ///
    /// When the host is empty, the port 0, or the derived gRPC port above 65535.
    pub fn new(host: &str, port: u16, grpc_port: u16) -> Result<Self, AddressError> {
        let bad = || AddressError(format!("{host}:{port}.{grpc_port}"));
        if host.is_empty() || port == 0 {
            return Err(bad());
        }
        let grpc_port = match grpc_port {
            0 => port.checked_add(GRPC_PORT_OFFSET).ok_or_else(bad)?,
            given => given,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            grpc_port,
        })
    }

    /// The host, with brackets where it is IPv6.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The HTTP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The gRPC port.
    #[must_use]
    pub fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    /// `host:port` of the HTTP listener.
    #[must_use]
    pub fn http(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// `host:port` of the gRPC listener.
    #[must_use]
    pub fn grpc(&self) -> String {
        format!("{}:{}", self.host, self.grpc_port)
    }

    /// Whether both name the same server.
    #[must_use]
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.host, self.port, self.grpc_port)
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError(text.to_owned());
        let (host, ports) = text.rsplit_once(':').ok_or_else(bad)?;
        let (port, grpc) = ports.split_once('.').unwrap_or((ports, "0"));
        let port = port.parse().map_err(|_| bad())?;
        let grpc = grpc.parse().map_err(|_| bad())?;
        Self::new(host, port, grpc).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_their_grpc_port() {
        for (text, expect) in [
            ("127.0.0.1:8888", "127.0.0.1:8888.18888"),
            ("h:9333.9334", "h:9333.9334"),
            ("[::1]:80", "[::1]:80.10080"),
        ] {
            assert_eq!(text.parse::<ServerAddress>().unwrap().to_string(), expect);
        }
    }

    #[test]
    fn bad_addresses_are_refused() {
        for text in [
            "", "h", "h:", "h:x", "h:0", ":80", "h:60000", "h:1.x", "h:70000",
        ] {
            assert!(text.parse::<ServerAddress>().is_err(), "{text}");
        }
    }
}
