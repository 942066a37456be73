//! Why a connection was not taken or restored, with what mends it.

use std::io;
use std::net::SocketAddr;

/// Why the kernel did not take a connection out of a socket, or into one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// The descriptor is something else.
    #[error("the descriptor is no TCP socket: {source}")]
    NotTcp {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process lacks the capability.
    #[error(
        "TCP_REPAIR is not permitted for the connection of {local} with {peer}: {source}; it needs the capability \
         CAP_NET_ADMIN in the network's own user namespace (`AmbientCapabilities=CAP_NET_ADMIN` in the service, or \
         `setcap cap_net_admin+ep PROGRAM`)"
    )]
    NotPermitted {
        /// Our address.
        local: SocketAddr,
        /// The peer's address.
        peer: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A step that the kernel refused.
    #[error("the kernel refuses {what} for the connection of {local} with {peer}: {source}")]
    Step {
        /// The socket option, or what else was asked for.
        what: &'static str,
        /// Our address.
        local: SocketAddr,
        /// The peer's address.
        peer: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Our address cannot be had.
    #[error("cannot bind {local} for the connection with {peer}: {source}{advice}")]
    Bind {
        /// Our address.
        local: SocketAddr,
        /// The peer's address.
        peer: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
        /// What to do, if it is known.
        advice: &'static str,
    },
    /// The peer's address cannot be had.
    #[error("cannot establish the connection of {local} with {peer}: {source}{advice}")]
    Connect {
        /// Our address.
        local: SocketAddr,
        /// The peer's address.
        peer: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
        /// What to do, if it is known.
        advice: &'static str,
    },
    /// The connection contradicts itself.
    #[error("the connection of {local} with {peer} cannot be restored: {what}")]
    Contradiction {
        /// Our address.
        local: SocketAddr,
        /// The peer's address.
        peer: SocketAddr,
        /// What is wrong.
        what: &'static str,
    },
    /// More or fewer bytes than were sent and not acknowledged.
    #[error(
        "the connection of {local} with {peer} cannot be restored: {expected} bytes are not acknowledged, \
         and {given} were given"
    )]
    Unacknowledged {
        /// Our address.
        local: SocketAddr,
        /// The peer's address.
        peer: SocketAddr,
        /// Bytes from `snd_una` to `snd_nxt`.
        expected: u32,
        /// Bytes that were given.
        given: usize,
    },
}

/// The two ends of a connection, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

impl Ends {
    /// An error of a step.
    pub(super) fn refuses(self, what: &'static str) -> impl Fn(io::Error) -> RepairError {
        move |source| RepairError::Step { what, local: self.local, peer: self.peer, source }
    }

    /// An error of the step into repair.
    pub(super) fn cannot_enter(self, source: io::Error) -> RepairError {
        let Ends { local, peer } = self;
        match source.raw_os_error() {
            Some(libc::EPERM) => RepairError::NotPermitted { local, peer, source },
            _ => RepairError::Step { what: "TCP_REPAIR", local, peer, source },
        }
    }

    pub(super) fn cannot_bind(self, source: io::Error) -> RepairError {
        let advice = match source.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => "; the machine does not have this address (any more): `ip addr`",
            Some(libc::EACCES) => {
                "; ports below sysctl net.ipv4.ip_unprivileged_port_start need the capability CAP_NET_BIND_SERVICE"
            }
            _ => "",
        };
        RepairError::Bind { local: self.local, peer: self.peer, source, advice }
    }

    pub(super) fn cannot_connect(self, source: io::Error) -> RepairError {
        let advice = match source.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => "; a socket has this connection already: `ss -tn`",
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "; no route leads to the peer: `ip route get ADDRESS`",
            _ => "",
        };
        RepairError::Connect { local: self.local, peer: self.peer, source, advice }
    }
}
