//! System calls that `nix` has no safe or no exact form of. Each function is safe to call: what the kernel wants to be
//! true is guaranteed by the types here, or checked.

#![expect(unsafe_code, reason = "the crate's system calls live here")]

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Turns a C return value into a result.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The errno of the last call of this thread.
pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// A TCP socket, close-on-exec and non-blocking.
pub(crate) fn tcp_socket(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `setsockopt` with an int.
pub(crate) fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = len_of::<i32>();
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) }).map(drop)
}

/// `bind`.
pub(crate) fn bind(fd: BorrowedFd<'_>, addr: &SocketAddr) -> io::Result<()> {
    let (raw, len) = to_raw(addr);
    // SAFETY: the pointer and length describe `raw`, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const raw).cast(), len) }).map(drop)
}

/// `listen`.
pub(crate) fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// `getsockname`.
pub(crate) fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut raw = RawAddr::new();
    // SAFETY: the pointer and length describe `raw`, which outlives the call.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), raw.addr_ptr(), raw.len_ptr()) })?;
    raw.get().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// `getpeername`.
pub(crate) fn peer_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut raw = RawAddr::new();
    // SAFETY: the pointer and length describe `raw`, which outlives the call.
    check(unsafe { libc::getpeername(fd.as_raw_fd(), raw.addr_ptr(), raw.len_ptr()) })?;
    raw.get().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// `accept4`; the new descriptor is close-on-exec and non-blocking.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut raw = RawAddr::new();
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the pointer and length describe `raw`, which outlives the call.
    let fd = check(unsafe { libc::accept4(listener.as_raw_fd(), raw.addr_ptr(), raw.len_ptr(), flags) })?;
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((fd, raw.get().unwrap_or(UNSPECIFIED)))
}

/// `recv` without blocking: the number of bytes, 0 at the end, or the errno.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, i32> {
    // SAFETY: the pointer and length describe `buffer`, which outlives the call.
    let result = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    usize::try_from(result).map_err(|_| errno())
}

/// `send` or `sendmsg` of raw slices, without blocking: the number of bytes taken, or the errno.
///
/// Safe although the slices are raw: their memory is only read, by the kernel (EFAULT where there is none), and whoever
/// made the slices has promised that it may be ([`crate::IoSlices::push`]).
pub(crate) fn send(fd: BorrowedFd<'_>, slices: &[libc::iovec]) -> Result<usize, i32> {
    let fd = fd.as_raw_fd();
    let result = match slices {
        // SAFETY: see above.
        [one] => unsafe { libc::send(fd, one.iov_base, one.iov_len, SEND_FLAGS) },
        many => {
            let message = message_of(many);
            // SAFETY: `message` points to `many`, which outlives the call and is not written to. For the rest see
            // above.
            unsafe { libc::sendmsg(fd, &raw const message, SEND_FLAGS) }
        }
    };
    usize::try_from(result).map_err(|_| errno())
}

/// A message header for the slices; it points to them.
pub(crate) fn message_of(slices: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: a msghdr of zeroes has no address, no control data and no slices; it is valid (and has private padding on
    // some C libraries, which is why it cannot be written as a literal).
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = slices.as_ptr().cast_mut();
    message.msg_iovlen = slices.len();
    message
}

/// `shutdown(SHUT_WR)`. Errors (the peer is gone already) show as events.
pub(crate) fn shutdown_write(fd: BorrowedFd<'_>) {
    // SAFETY: takes no pointers.
    let _ = unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR) };
}

/// Every send's flags: never wait, and no SIGPIPE.
pub(crate) const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Stands for a peer whose address the kernel did not tell.
pub(crate) const UNSPECIFIED: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// Room for a peer's address, as the kernel writes it.
pub(crate) struct RawAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddr {
    pub(crate) fn new() -> RawAddr {
        // SAFETY: zeroes are a valid sockaddr_storage, of family AF_UNSPEC.
        let storage = unsafe { MaybeUninit::zeroed().assume_init() };
        RawAddr { storage, len: len_of::<libc::sockaddr_storage>() }
    }

    pub(crate) fn addr_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }

    pub(crate) fn len_ptr(&mut self) -> *mut libc::socklen_t {
        &raw mut self.len
    }

    /// The address, if it is one of the Internet's.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: sockaddr_storage is large and aligned enough for a sockaddr_in, which any bytes are one of.
                let raw = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above, for a sockaddr_in6.
                let raw = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(raw.sin6_port), raw.sin6_flowinfo, raw.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// Length of a type that the kernel reads or writes.
#[expect(clippy::cast_possible_truncation, reason = "the kernel's types are some hundred bytes at the most")]
pub(crate) const fn len_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// The families as an address holds them.
#[expect(clippy::cast_possible_truncation, reason = "2")]
const INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "10")]
const INET6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;

/// The kernel's form of an address, with its length.
pub(crate) fn to_raw(addr: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut raw = RawAddr::new().storage;
    let len = match addr {
        SocketAddr::V4(addr) => {
            // SAFETY: sockaddr_storage is large and aligned enough for a sockaddr_in.
            let v4 = unsafe { &mut *(&raw mut raw).cast::<libc::sockaddr_in>() };
            v4.sin_family = INET;
            v4.sin_port = addr.port().to_be();
            v4.sin_addr.s_addr = u32::from(*addr.ip()).to_be();
            len_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(addr) => {
            // SAFETY: as above, for a sockaddr_in6.
            let v6 = unsafe { &mut *(&raw mut raw).cast::<libc::sockaddr_in6>() };
            v6.sin6_family = INET6;
            v6.sin6_port = addr.port().to_be();
            v6.sin6_flowinfo = addr.flowinfo();
            v6.sin6_addr.s6_addr = addr.ip().octets();
            v6.sin6_scope_id = addr.scope_id();
            len_of::<libc::sockaddr_in6>()
        }
    };
    (raw, len)
}
