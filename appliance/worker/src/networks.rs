//! Sets of addresses: peers whose PROXY header is read, and peers that are believed who their client is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer};

/// One address, or all that share a prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// Any of several networks; empty: no address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

impl Networks {
    /// Is the address in one of them? An IPv4 address is the same in its IPv6 form, in which a listener of `[::]` sees
    /// it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        !self.0.is_empty() && {
            let ip = ip.to_canonical();
            self.0.iter().any(|network| network.0.contains(&ip))
        }
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(ip.to_canonical())));
        }
        let network: IpNet = text.parse().map_err(|_| {
            format!("`{text}` is no address and no network; write 192.0.2.1, 10.0.0.0/8, 2001:db8::1 or 2001:db8::/32")
        })?;
        if network.trunc() != network {
            let (network, ip) = (network.trunc(), network.addr());
            return Err(format!("`{text}` has bits beyond its prefix; the network is {network}, the address {ip}"));
        }
        let mapped = match network {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => v6.addr().to_ipv4_mapped().map(|ip| (ip, v6.prefix_len() - 96)),
            _ => None,
        };
        let mapped = mapped.and_then(|(ip, prefix_len)| Ipv4Net::new(ip, prefix_len).ok());
        Ok(Self(mapped.map_or(network, IpNet::V4)))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_told_apart() {
        let networks: Networks = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "::ffff:198.51.100.0/120"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let contains = |ip: &str| networks.contains(ip.parse().unwrap());
        for within in ["10.255.0.1", "192.0.2.1", "2001:db8:1::1", "::1", "::ffff:10.0.0.1", "198.51.100.9"] {
            assert!(contains(within), "{within}");
        }
        for without in ["11.0.0.1", "192.0.2.2", "2001:db9::1", "::2", "127.0.0.1", "198.51.101.9"] {
            assert!(!contains(without), "{without}");
        }
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_told() {
        for (text, part) in [
            ("localhost", "is no address and no network"),
            ("10.0.0.0/33", "is no address"),
            ("10.0.0.0/", "is no address"),
            ("", "is no address"),
            ("127.0.0.1:80", "is no address"),
            ("10.0.0.5/8", "the network is 10.0.0.0/8, the address 10.0.0.5"),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
