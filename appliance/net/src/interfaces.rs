//! The machine's network interfaces and their addresses.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use crate::names;

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// There is no interface of that name.
    #[error("there is no interface `{name}`; there are {}{}", known.join(", "), meant(name, known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The interfaces that there are.
        known: Vec<String>,
    },
    /// The kernel does not say which interfaces there are.
    #[error(transparent)]
    Kernel(#[from] io::Error),
}

/// Requires that an interface exists. If it does not, the error names those that do.
///
/// # Errors
/// There is no interface of that name.
pub fn require(name: &str) -> Result<(), InterfaceError> {
    let mut known: Vec<String> =
        getifaddrs().map_err(io::Error::from)?.map(|interface| interface.interface_name).collect();
    known.sort();
    known.dedup();
    if known.iter().any(|interface| interface == name) {
        return Ok(());
    }
    Err(InterfaceError::Unknown { name: name.to_owned(), known })
}

/// `; did you mean lo?`
fn meant(name: &str, known: &[String]) -> String {
    names::nearest(name, known.iter().map(String::as_str))
        .map_or(String::new(), |name| format!("; did you mean {name}?"))
}

/// The interfaces by which packets to `address` come: the one that owns it, or all that have an address if it is none
/// in particular.
#[must_use]
pub fn of(address: SocketAddr) -> Vec<String> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let wanted = address.ip().to_canonical();
    let mut names: Vec<String> = interfaces
        .filter(|interface| {
            let own = interface.address.as_ref().and_then(ip);
            own.is_some_and(|own| {
                wanted.is_unspecified() || own == wanted || (own.is_loopback() && wanted.is_loopback())
            })
        })
        .map(|interface| interface.interface_name)
        .collect();
    names.sort();
    names.dedup();
    names
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_owns_loopback_addresses() {
        assert_eq!(of("127.0.0.1:80".parse().unwrap()), ["lo"]);
        assert_eq!(of("127.9.9.9:80".parse().unwrap()), ["lo"]);
        assert!(of("0.0.0.0:80".parse().unwrap()).contains(&"lo".to_owned()));
        assert_eq!(of("192.0.2.1:80".parse().unwrap()), [""; 0]);
        require("lo").unwrap();
        let error = require("loo").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no interface `loo`; there are ") && error.ends_with("did you mean lo?"),
            "{error}"
        );
    }
}
