//! Why there is no datagram socket, with what mends it.

use std::io;
use std::net::SocketAddr;

use super::Membership;

/// Why a group was not joined, or an address not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// An address outside 224.0.0.0/4 and ff00::/8.
    #[error("{group} is not a multicast group; those are 224.0.0.0 to 239.255.255.255, and ff00::/8")]
    NotMulticast {
        /// What was asked for.
        group: SocketAddr,
    },
    /// A source of the other family, or one that is a group itself.
    #[error("the source of group {group} must be the unicast address of its sender, of the same family")]
    BadSource {
        /// The group.
        group: SocketAddr,
    },
    /// No interface has that name.
    #[error("there is no interface `{interface}` to take group {group} from; there are: {present}")]
    NoInterface {
        /// What was asked for.
        interface: String,
        /// The group that was wanted on it.
        group: SocketAddr,
        /// The interfaces that exist.
        present: String,
    },
    /// The kernel refused the membership.
    #[error("cannot join {group} on {interface}: {source}{advice}")]
    Join {
        /// The group.
        group: SocketAddr,
        /// The interface, in words.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
        /// What to do, if it is known.
        advice: &'static str,
    },
    /// No socket.
    #[error("cannot open a UDP socket for {address}: {source}")]
    Open {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The address is not ours, or another program holds it for itself.
    #[error("cannot receive at {address}: {source}; `ss -ulpn` shows who does")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A socket option was refused.
    #[error("cannot set {option} for {address}: {source}")]
    Option {
        /// The address of the socket.
        address: SocketAddr,
        /// The option's name.
        option: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl DatagramError {
    pub(super) fn no_interface(interface: &str, group: SocketAddr) -> Self {
        let names = nix::net::if_::if_nameindex().map(|list| {
            list.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ")
        });
        let present = names.unwrap_or_else(|_| "none that can be listed".to_owned());
        DatagramError::NoInterface { interface: interface.to_owned(), group, present }
    }

    pub(super) fn join(membership: &Membership, source: io::Error) -> Self {
        let advice = match (source.raw_os_error(), &membership.interface) {
            (Some(libc::ENODEV | libc::EADDRNOTAVAIL), None) => {
                "; no route leads to the group: name the interface, GROUP:PORT@INTERFACE"
            }
            (Some(libc::ENODEV | libc::EADDRNOTAVAIL), Some(_)) => {
                "; the interface needs an address and must be up: `ip addr show dev INTERFACE`"
            }
            (Some(libc::ENOBUFS), _) => {
                "; too many memberships: raise sysctl net.ipv4.igmp_max_memberships (sources: igmp_max_msf)"
            }
            _ => "",
        };
        let interface = membership.interface.as_deref().map_or_else(
            || "the interface that the routing table names".to_owned(),
            |interface| format!("interface {interface}"),
        );
        DatagramError::Join { group: membership.group, interface, source, advice }
    }
}
