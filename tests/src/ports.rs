// SPDX-License-Identifier: Apache-2.0
//! Ports that nobody else takes: neither another test, nor the system for a connection.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

use anyhow::{Result, bail};

/// What HTTP ports are taken from. These and the gRPC ports above them lie below 32768, where
/// Linux begins to give ports to outgoing connections: one of those would keep a filer that is
/// started again from its own port.
const PORTS: std::ops::Range<u16> = 10_000..22_000;

/// From a server's HTTP port to its gRPC port.
const TO_GRPC: u16 = 10_000;

/// Attempts before none is found.
const TRIES_MAX: u32 = 500;

/// What this process has reserved, until it ends.
static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A free port whose gRPC port is free, too; no other test is given either.
///
/// # Errors
///
/// When none is found.
pub fn free_port() -> Result<u16> {
    free_ports(1)
}

/// The first of so many free ports one behind the other.
///
/// # Errors
///
/// When none is found.
pub fn free_ports(n: u16) -> Result<u16> {
    for _ in 0..TRIES_MAX {
        let first = rand::random_range(PORTS);
        let all = (first..first + n).flat_map(|port| [port, port + TO_GRPC]);
        let reserved: Option<Vec<_>> = all.map(reserve).collect();
        if let Some(reserved) = reserved {
            let all = RESERVED.lock();
            all.unwrap_or_else(std::sync::PoisonError::into_inner)
                .extend(reserved);
            return Ok(first);
        }
    }
    bail!("no {n} free ports found")
}

/// A mark that the port is this process's, if nobody has it. The name of a socket outside of
/// any directory is such a mark: it goes with the process, however that ends.
fn reserve(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("dulse-tests-port-{port}")).ok()?;
    let mark = UnixListener::bind_addr(&name).ok()?;
    TcpListener::bind(("127.0.0.1", port)).ok().map(|_| mark)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut given = BTreeSet::new();
        for _ in 0..40 {
            let first = free_ports(2).expect("two ports");
            for port in [first, first + 1, first + TO_GRPC, first + 1 + TO_GRPC] {
                assert!(given.insert(port), "{port} twice");
                assert!(port < 32_768, "{port} may be an outgoing connection's");
            }
        }
    }
}
