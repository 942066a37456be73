//! UDP as feeds need it: multicast groups on named interfaces, many packets per system call, each with the time at
//! which the kernel took it, and the number of those that the kernel had to drop.
//!
//! A [`DatagramSocket`] is one group of one interface, or a unicast address. The buffers are the caller's [`Batch`],
//! which all sockets of a thread share, so that they stay in its caches; receiving allocates nothing.

mod batch;
mod error;
mod membership;
mod sys;

pub use batch::{Batch, Datagram};
pub use error::DatagramError;
pub use membership::Membership;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use crate::sys as common;

/// Options of a datagram socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramOptions {
    /// Bytes of packets that the kernel keeps while nobody reads, as the kernel counts them: with its own overhead,
    /// which for small packets is most of it.
    pub receive_buffer_bytes: u32,
    /// SO_BUSY_POLL: how long a read looks for packets in the network card's queue itself, in microseconds.
    pub busy_poll_us: Option<u32>,
}

/// A socket that receives packets, and may send some.
#[derive(Debug)]
pub struct DatagramSocket {
    fd: OwnedFd,
    address: SocketAddr,
    receive_buffer_bytes: u32,
    counters: DatagramCounters,
    /// The kernel's own count of drops at the last packet: 32 bits wide, and it wraps.
    drops_seen: u32,
}

/// What a socket has received since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatagramCounters {
    /// Packets passed on.
    pub packets: u64,
    /// Packets longer than [`crate::limits::DATAGRAM_LEN_MAX`]: cut off by the kernel, and dropped here.
    pub truncated: u64,
    /// Packets that the kernel dropped because the receive buffer was full, as far as later packets told.
    pub kernel_drops: u64,
}

/// Joins a group. The socket receives what is sent to this group and port, comes in by this interface (and from this
/// source), and nothing else: not the same port's other groups, not the same group on other interfaces.
///
/// # Errors
/// A group that is none, an interface that is not there, or what the kernel refuses.
pub fn join(membership: &Membership, options: &DatagramOptions) -> Result<DatagramSocket, DatagramError> {
    let Membership { group, interface, source } = membership;
    if !group.ip().is_multicast() {
        return Err(DatagramError::NotMulticast { group: *group });
    }
    if source.is_some_and(|source| source.is_ipv4() != group.is_ipv4() || source.is_multicast()) {
        return Err(DatagramError::BadSource { group: *group });
    }
    let index = match interface {
        Some(name) => interface_index(name).ok_or_else(|| DatagramError::no_interface(name, *group))?,
        None => 0,
    };
    // Otherwise every program that joins any group of this port, anywhere on the machine, would have its packets
    // delivered to us as well.
    let (level, only_own) = if group.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL)
    } else {
        (libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL)
    };
    let mut socket = open(*group, options, &[("SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)])?;
    common::set_option(socket.fd.as_fd(), level, only_own, 0).map_err(|source| DatagramError::Option {
        address: *group,
        option: "IP_MULTICAST_ALL",
        source,
    })?;
    sys::join(socket.fd.as_fd(), index, group.ip(), *source).map_err(|error| DatagramError::join(membership, error))?;
    // An IPv6 group of link scope belongs to its interface.
    if let SocketAddr::V6(address) = &mut socket.address {
        address.set_scope_id(index);
    }
    socket.bind()?;
    Ok(socket)
}

/// Opens a socket at an address of this machine, such as that of [`any`], for requests and their replies.
///
/// # Errors
/// What the kernel refuses.
pub fn unicast(address: SocketAddr, options: &DatagramOptions) -> Result<DatagramSocket, DatagramError> {
    let mut socket = open(address, options, &[])?;
    socket.bind()?;
    Ok(socket)
}

/// Any address and port of the family in which `peer` can be reached.
pub fn any(peer: SocketAddr) -> SocketAddr {
    let ip = if peer.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    SocketAddr::new(ip, 0)
}

/// Sleeps until one of these sockets is as it is waited for, or `timeout` is over. Of more than
/// [`crate::limits::WAIT_SOCKETS_MAX`] the others wake nobody.
///
/// # Errors
/// None that a caller could mend; a signal ends the sleep early without being one.
pub fn wait<'a>(sockets: impl IntoIterator<Item = (BorrowedFd<'a>, PollFlags)>, timeout: Duration) -> io::Result<()> {
    sys::wait(sockets, timeout)
}

impl DatagramSocket {
    /// Takes what has come, at most as many packets as the batch has room for, and returns how many the kernel gave.
    /// Does not wait. A packet that did not fit is counted instead of passed on.
    ///
    /// # Errors
    /// What the kernel says of the socket; that a request reached nobody (ECONNREFUSED) is not told.
    pub fn receive(&mut self, batch: &mut Batch, mut sink: impl FnMut(Datagram<'_>)) -> io::Result<usize> {
        let count = match batch.fill(self.fd.as_fd()) {
            Ok(count) => count,
            Err(libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED) => return Ok(0),
            Err(errno) => return Err(io::Error::from_raw_os_error(errno)),
        };
        for packet in batch.packets(count) {
            if let Some(drops) = packet.drops {
                self.counters.kernel_drops += u64::from(drops.wrapping_sub(self.drops_seen));
                self.drops_seen = drops;
            }
            if packet.is_truncated {
                self.counters.truncated += 1;
                continue;
            }
            self.counters.packets += 1;
            sink(packet.datagram);
        }
        Ok(count)
    }

    /// Sends one packet, if the kernel has room for it.
    ///
    /// # Errors
    /// What the kernel says; EAGAIN where it has no room.
    pub fn send_to(&self, bytes: &[u8], peer: SocketAddr) -> io::Result<()> {
        sys::send_to(self.fd.as_fd(), bytes, peer)
    }

    /// Where it receives: the group, or its own address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The size of its receive buffer, in the units in which it was asked for; less where the kernel permits no more.
    pub fn receive_buffer_bytes(&self) -> u32 {
        self.receive_buffer_bytes
    }

    /// What it has received.
    pub fn counters(&self) -> &DatagramCounters {
        &self.counters
    }

    fn bind(&mut self) -> Result<(), DatagramError> {
        let refused = |source| DatagramError::Bind { address: self.address, source };
        common::bind(self.fd.as_fd(), &self.address).map_err(refused)?;
        self.address = common::local_addr(self.fd.as_fd()).map_err(refused)?;
        Ok(())
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open(
    address: SocketAddr,
    options: &DatagramOptions,
    more: &[(&'static str, i32, i32, i32)],
) -> Result<DatagramSocket, DatagramError> {
    let fd = sys::socket(&address).map_err(|source| DatagramError::Open { address, source })?;
    let set = |(option, level, name, value)| {
        common::set_option(fd.as_fd(), level, name, value).map_err(|source| DatagramError::Option {
            address,
            option,
            source,
        })
    };
    more.iter().copied().try_for_each(set)?;
    set(("SO_TIMESTAMPNS", libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1))?;
    set(("SO_RXQ_OVFL", libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1))?;
    if let Some(us) = options.busy_poll_us {
        set(("SO_BUSY_POLL", libc::SOL_SOCKET, libc::SO_BUSY_POLL, int(us)))?;
    }
    // With CAP_NET_ADMIN the sysctl is no limit.
    let size = int(options.receive_buffer_bytes);
    if common::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size).is_err() {
        set(("SO_RCVBUF", libc::SOL_SOCKET, libc::SO_RCVBUF, size))?;
    }
    // The kernel doubles what it is asked for, for its own overhead, and tells the double.
    let receive_buffer_bytes = sys::receive_buffer_len(fd.as_fd()).map_err(|source| DatagramError::Option {
        address,
        option: "SO_RCVBUF",
        source,
    })? / 2;
    let counters = DatagramCounters::default();
    Ok(DatagramSocket { fd, address, receive_buffer_bytes, counters, drops_seen: 0 })
}

fn interface_index(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// linux/in6.h; libc lacks it.
const IPV6_MULTICAST_ALL: i32 = 29;
