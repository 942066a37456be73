//! Opening ports, and saying who has them if somebody does.

use std::fs;
use std::io;
use std::net::SocketAddr;

use crate::{ListenOptions, NetError};

/// Why nobody can listen at an address.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The reason in words, with what to do.
    #[error("{0}")]
    Refused(String),
    /// The reason lies elsewhere than in the address.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// SO_REUSEPORT would let two blades of one user share a port, and each would get half of the subscribers. So ask
/// without it first whether anybody is there.
///
/// # Errors
/// Somebody is, or nobody can listen there. `option` is what the words name to choose another address by.
pub fn require_free(address: SocketAddr, option: &str) -> Result<(), PortError> {
    if address.port() == 0 {
        return Ok(());
    }
    let options = ListenOptions { reuseport: false, ..ListenOptions::default() };
    match crate::listen(address, &options) {
        Ok(_) => Ok(()),
        Err(NetError::Listen { source, .. }) => Err(refused(address, &source, option)),
        Err(error) => Err(error.into()),
    }
}

/// Why nobody can listen at `address`, with what to do about it.
#[must_use]
pub fn refused(address: SocketAddr, error: &io::Error, option: &str) -> PortError {
    PortError::Refused(match error.kind() {
        io::ErrorKind::AddrInUse => {
            let who = holder(address.port()).map_or(String::new(), |who| format!(" by {who}"));
            let host = host(address);
            format!("port {} is taken{who}; choose another with {option} {host}:PORT", address.port())
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is not an address of this machine; see: ip addr", address.ip())
        }
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need a privilege; choose another with {option}, or: setcap cap_net_bind_service+ep $(command -v fanblade)"
        ),
        io::ErrorKind::InvalidInput if is_link_local_without_scope(address) => format!(
            "cannot listen on {address}: an address of one link needs its interface's number (ip link): [{}%2]:{}",
            address.ip(),
            address.port()
        ),
        _ => format!("cannot listen on {address}: {error}"),
    })
}

/// The host as it stands before `:PORT`.
fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) if address.scope_id() != 0 => format!("'[{}%{}]'", address.ip(), address.scope_id()),
        // Some shells take brackets for a pattern.
        SocketAddr::V6(address) => format!("'[{}]'", address.ip()),
    }
}

fn is_link_local_without_scope(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.ip().is_unicast_link_local() && address.scope_id() == 0)
}

/// The process that listens on a port, as far as /proc tells us.
fn holder(port: u16) -> Option<String> {
    let inodes: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|table| listening(table, port).ok()).flatten().collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
            let target = target.to_string_lossy();
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|inode| inodes.iter().any(|own| own == inode))
        });
        if holds {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", command.trim()));
        }
    }
    None
}

/// Inodes of the sockets in state LISTEN (0A) on the port: columns of proc_net_tcp.
fn listening(table: &str, port: u16) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(table)?;
    let wanted = format!(":{port:04X}");
    let mut inodes = Vec::new();
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = columns[..] else {
            return Err(io::Error::other(format!("{table}: {line}")));
        };
        if state == "0A" && local.ends_with(&wanted) {
            inodes.push(inode.to_owned());
        }
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(address: SocketAddr) -> Result<std::net::TcpListener, PortError> {
        std::net::TcpListener::bind(address).map_err(|error| refused(address, &error, "--admin"))
    }

    #[test]
    fn who_has_a_port_is_told() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        for error in [require_free(address, "--listen").unwrap_err(), bind(address).unwrap_err()] {
            let (text, pid) = (error.to_string(), std::process::id());
            assert!(text.contains("is taken by") && text.contains(&format!("(process {pid})")), "{text}");
        }
        drop(other);
        require_free(address, "--listen").unwrap();
    }

    #[test]
    fn a_group_that_shares_its_port_is_noticed() {
        let other = crate::listen("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        assert!(require_free(other.local_addr(), "--listen").unwrap_err().to_string().contains("is taken"));
    }

    #[test]
    fn advice_for_ipv6_can_be_copied() {
        let Ok(other) = std::net::TcpListener::bind("[::1]:0") else {
            println!("skipped: no IPv6 on this machine");
            return;
        };
        let taken = bind(other.local_addr().unwrap()).unwrap_err().to_string();
        assert!(taken.contains("choose another with --admin '[::1]':PORT"), "{taken}");
        let link = require_free("[fe80::1]:7400".parse().unwrap(), "--listen").unwrap_err().to_string();
        assert!(link.contains("[fe80::1]:7400") && link.contains("[fe80::1%2]:7400"), "{link}");
    }

    #[test]
    fn addresses_of_others_are_told_apart() {
        let error = require_free("192.0.2.1:7400".parse().unwrap(), "--listen").unwrap_err().to_string();
        assert!(error.contains("not an address of this machine"), "{error}");
    }
}
