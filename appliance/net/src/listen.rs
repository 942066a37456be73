//! Listeners. Options are set on the listener before `listen` and inherited by every socket accepted from it, which
//! costs a connection no further system call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::error::NetError;
use crate::sys;

/// Options of a listener and of the sockets accepted from it. `None` leaves the system's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that have been established and wait to be accepted; the kernel cuts it at `net.core.somaxconn`.
    pub backlog: u32,
    /// TCP_NOTSENT_LOWAT: with so many bytes not sent yet a socket counts as full. It keeps the kernel's own queue
    /// short, so that a slow session gets fresh quotes and not stale ones.
    pub notsent_lowat_bytes: Option<u32>,
    /// SO_SNDBUF (the kernel doubles it). Setting it switches the kernel's own tuning off.
    pub sndbuf_bytes: Option<u32>,
    /// SO_RCVBUF (the kernel doubles it). Setting it switches the kernel's own tuning off.
    pub rcvbuf_bytes: Option<u32>,
    /// TCP_USER_TIMEOUT: a peer that acknowledges nothing for so long is gone.
    pub user_timeout_ms: Option<u32>,
    /// TCP_DEFER_ACCEPT: a connection is reported once its first bytes are there, or after so many seconds.
    pub defer_accept_s: Option<u32>,
    /// TCP_NODELAY: a frame leaves at once. Fan-out batches by itself.
    pub nodelay: bool,
    /// SO_REUSEPORT: one listener per worker on the same address.
    pub reuseport: bool,
    /// IPV6_V6ONLY, for IPv6 addresses: `false` makes `[::]` serve IPv4 as well.
    pub v6only: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            backlog: 4096,
            notsent_lowat_bytes: Some(128 * 1024),
            sndbuf_bytes: None,
            rcvbuf_bytes: None,
            user_timeout_ms: Some(30_000),
            defer_accept_s: None,
            nodelay: true,
            reuseport: true,
            v6only: false,
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    addr: SocketAddr,
}

impl Listener {
    /// Where it listens; the port is the real one where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Another handle of the same socket. It goes on listening until all of them are dropped.
    pub fn try_clone(&self) -> io::Result<Listener> {
        Ok(Listener { fd: self.fd.try_clone()?, addr: self.addr })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        listener.fd
    }
}

/// Opens a listener.
pub fn listen(addr: SocketAddr, options: &ListenOptions) -> Result<Listener, NetError> {
    let refused = |source| NetError::Listen { addr, source };
    let socket = sys::tcp_socket(&addr).map_err(refused)?;
    let fd = socket.as_fd();
    apply(fd, settings(&addr, options)).map_err(|(option, source)| NetError::Option { addr, option, source })?;
    sys::bind(fd, &addr).map_err(refused)?;
    sys::listen(fd, i32::try_from(options.backlog).unwrap_or(i32::MAX)).map_err(refused)?;
    let addr = sys::local_addr(fd).map_err(refused)?;
    Ok(Listener { fd: socket, addr })
}

/// A socket option: its name, level and number, and its value unless the system's default is to stay.
pub(crate) type Setting = (&'static str, i32, i32, Option<u32>);

/// Sets options, in their order. An error comes with the option's name.
pub(crate) fn apply(
    fd: BorrowedFd<'_>,
    settings: impl IntoIterator<Item = Setting>,
) -> Result<(), (&'static str, io::Error)> {
    for (option, level, name, value) in settings {
        let Some(value) = value else { continue };
        let value = i32::try_from(value).unwrap_or(i32::MAX);
        sys::set_option(fd, level, name, value).map_err(|source| (option, source))?;
    }
    Ok(())
}

/// The options of a listener.
fn settings(addr: &SocketAddr, options: &ListenOptions) -> impl Iterator<Item = Setting> {
    use libc::{IPPROTO_IPV6, IPPROTO_TCP, SOL_SOCKET};
    let own = [
        ("SO_REUSEADDR", SOL_SOCKET, libc::SO_REUSEADDR, Some(1)),
        ("SO_REUSEPORT", SOL_SOCKET, libc::SO_REUSEPORT, on(options.reuseport)),
        ("IPV6_V6ONLY", IPPROTO_IPV6, libc::IPV6_V6ONLY, addr.is_ipv6().then_some(u32::from(options.v6only))),
        ("TCP_DEFER_ACCEPT", IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, options.defer_accept_s),
    ];
    own.into_iter().chain(inherited(options))
}

/// The options that matter to the sockets accepted from a listener, which inherit them.
pub(crate) fn inherited(options: &ListenOptions) -> [Setting; 5] {
    use libc::{IPPROTO_TCP, SOL_SOCKET};
    [
        ("SO_SNDBUF", SOL_SOCKET, libc::SO_SNDBUF, options.sndbuf_bytes),
        ("SO_RCVBUF", SOL_SOCKET, libc::SO_RCVBUF, options.rcvbuf_bytes),
        ("TCP_NODELAY", IPPROTO_TCP, libc::TCP_NODELAY, on(options.nodelay)),
        ("TCP_NOTSENT_LOWAT", IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, options.notsent_lowat_bytes),
        ("TCP_USER_TIMEOUT", IPPROTO_TCP, libc::TCP_USER_TIMEOUT, options.user_timeout_ms),
    ]
}

fn on(flag: bool) -> Option<u32> {
    flag.then_some(1)
}
