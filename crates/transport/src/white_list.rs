// SPDX-License-Identifier: Apache-2.0
//! `guard.white_list`: addresses and networks that may call.

use std::net::{IpAddr, SocketAddr};

/// Addresses and networks; an empty list admits everyone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WhiteList {
    networks: Vec<(IpAddr, u8)>,
}

impl WhiteList {
    /// Understands `127.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
    ///
    /// # Errors
    ///
    /// A sentence about the first item that is neither.
    pub fn parse(items: &[String]) -> Result<Self, String> {
        let network = |item: &String| {
            let wrong = || {
                format!(
                    "`{item}` in `guard.white_list` is no address; expected one such as \
                     `10.0.0.1` or a network such as `10.0.0.0/8`"
                )
            };
            let (address, bits) = match item.split_once('/') {
                Some((address, bits)) => (address, Some(bits)),
                None => (item.as_str(), None),
            };
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
            (bits <= most).then_some((address, bits)).ok_or_else(wrong)
        };
        let networks = items.iter().map(network).collect::<Result<_, _>>()?;
        Ok(Self { networks })
    }

    /// Whether this address may call.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.is_empty() || self.networks.iter().any(|n| contains(*n, address))
    }

    /// Whether the other end of a connection may call; one whose address is not known may
    /// not, where there is a list.
    #[must_use]
    pub fn admits_peer(&self, peer: Option<SocketAddr>) -> bool {
        self.networks.is_empty() || peer.is_some_and(|peer| self.admits(peer.ip()))
    }
}

fn contains((network, bits): (IpAddr, u8), address: IpAddr) -> bool {
    let differing = match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => (n.to_bits() ^ a.to_bits()).leading_zeros(),
        (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits() ^ a.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Result<WhiteList, String> {
        WhiteList::parse(&items.iter().map(|i| (*i).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_and_networks_admit() {
        for (items, address, expect) in [
            (&[][..], "1.2.3.4", true),
            (&["127.0.0.1"], "127.0.0.1", true),
            (&["127.0.0.1"], "127.0.0.2", false),
            (&["127.0.0.1"], "::ffff:127.0.0.1", true),
            (&["10.0.0.0/8", "fd00::/8"], "10.255.0.1", true),
            (&["10.0.0.0/8", "fd00::/8"], "11.0.0.1", false),
            (&["10.0.0.0/8", "fd00::/8"], "fd12::1", true),
            (&["0.0.0.0/0"], "::1", false),
            (&["::/0"], "::1", true),
        ] {
            let admits = list(items).unwrap().admits(address.parse().unwrap());
            assert_eq!(admits, expect, "{items:?} {address}");
        }
        for item in ["", "host", "10.0.0.0/33", "10.0.0.0/x", "10.0.0/8"] {
            assert!(list(&[item]).is_err(), "{item}");
        }
    }
}
