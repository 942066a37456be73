//! System calls of datagram sockets that neither `std` nor `nix` has in a form without allocations. Each function is
//! safe to call: what the kernel wants to be true is guaranteed by the types here, or checked.

#![expect(unsafe_code, reason = "recvmmsg's headers hold raw pointers, and libc lacks the structures of RFC 3678")]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use crate::limits::{DATAGRAM_BATCH_LEN, DATAGRAM_LEN_MAX, WAIT_SOCKETS_MAX};
use crate::sys::{RawAddr, UNSPECIFIED, check, errno, len_of, to_raw};

/// A UDP socket, close-on-exec and non-blocking.
pub(super) fn socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes no pointers.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Joins a group on an interface (0: by the routing table), from one source or from any.
pub(super) fn join(fd: BorrowedFd<'_>, interface: u32, group: IpAddr, source: Option<IpAddr>) -> io::Result<()> {
    let level = if group.is_ipv4() { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    let storage = |ip: IpAddr| to_raw(&SocketAddr::new(ip, 0)).0;
    let result = match source {
        None => {
            let request = GroupRequest { interface, group: storage(group) };
            let len = len_of::<GroupRequest>();
            // SAFETY: the pointer and length describe `request`, which outlives the call.
            unsafe { libc::setsockopt(fd.as_raw_fd(), level, libc::MCAST_JOIN_GROUP, (&raw const request).cast(), len) }
        }
        Some(source) => {
            let request = GroupSourceRequest { interface, group: storage(group), source: storage(source) };
            let len = len_of::<GroupSourceRequest>();
            let name = libc::MCAST_JOIN_SOURCE_GROUP;
            // SAFETY: as above.
            unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const request).cast(), len) }
        }
    };
    check(result).map(drop)
}

/// SO_RCVBUF as the kernel has it: twice what was asked for.
pub(super) fn receive_buffer_len(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let (mut value, mut len) = (0_i32, len_of::<i32>());
    let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVBUF);
    // SAFETY: the pointers describe `value` and its length, which outlive the call.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) })?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// `sendto` without waiting.
pub(super) fn send_to(fd: BorrowedFd<'_>, bytes: &[u8], peer: SocketAddr) -> io::Result<()> {
    let (raw, len) = to_raw(&peer);
    let (data, flags) = (bytes.as_ptr().cast(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    // SAFETY: the pointers and lengths describe `bytes` and `raw`, which outlive the call.
    let sent = unsafe { libc::sendto(fd.as_raw_fd(), data, bytes.len(), flags, (&raw const raw).cast(), len) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `ppoll`.
pub(super) fn wait<'a>(
    sockets: impl IntoIterator<Item = (BorrowedFd<'a>, PollFlags)>,
    timeout: Duration,
) -> io::Result<()> {
    let mut polled = [libc::pollfd { fd: -1, events: 0, revents: 0 }; WAIT_SOCKETS_MAX];
    let mut count: libc::nfds_t = 0;
    for (slot, (socket, interest)) in polled.iter_mut().zip(sockets) {
        slot.fd = socket.as_raw_fd();
        slot.events = interest.bits();
        count += 1;
    }
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
    };
    // SAFETY: the pointers describe `polled`, of which `count` entries are filled, and `timeout`; both outlive the
    // call. A null mask leaves the thread's signals as they are.
    let result = unsafe { libc::ppoll(polled.as_mut_ptr(), count, &raw const timeout, std::ptr::null()) };
    match check(result) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// What the kernel says of a packet.
pub(super) struct Meta {
    pub(super) len: usize,
    pub(super) source: SocketAddr,
    pub(super) is_truncated: bool,
    pub(super) received_ns: Option<u64>,
    pub(super) drops: Option<u32>,
}

/// The headers of one `recvmmsg`. Each call sets the pointers in them anew, and only the call follows them.
pub(super) struct Heads {
    messages: Box<[libc::mmsghdr; DATAGRAM_BATCH_LEN]>,
    slices: Box<[libc::iovec; DATAGRAM_BATCH_LEN]>,
    sources: Box<[RawAddr; DATAGRAM_BATCH_LEN]>,
    controls: Box<[Control; DATAGRAM_BATCH_LEN]>,
}

// SAFETY: the raw pointers in `messages` and `slices` are only used within `receive`, which sets them first.
unsafe impl Send for Heads {}

impl Heads {
    pub(super) fn new() -> Self {
        // SAFETY: these structures are valid when all zero: null pointers with lengths of zero.
        let (messages, slices) = unsafe { (MaybeUninit::zeroed().assume_init(), MaybeUninit::zeroed().assume_init()) };
        Self {
            messages: Box::new(messages),
            slices: Box::new(slices),
            sources: Box::new(std::array::from_fn(|_| RawAddr::new())),
            controls: Box::new([Control([0; CONTROL_WORDS]); DATAGRAM_BATCH_LEN]),
        }
    }

    /// `recvmmsg` without waiting, into the [`DATAGRAM_LEN_MAX`]-byte pieces of `bytes`: the number of packets, or the
    /// errno.
    pub(super) fn receive(&mut self, fd: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, i32> {
        let mut count: libc::c_uint = 0;
        let places = self.slices.iter_mut().zip(self.sources.iter_mut()).zip(self.controls.iter_mut());
        for ((message, buffer), ((slice, source), control)) in
            self.messages.iter_mut().zip(bytes.chunks_exact_mut(DATAGRAM_LEN_MAX)).zip(places)
        {
            slice.iov_base = buffer.as_mut_ptr().cast();
            slice.iov_len = buffer.len();
            let header = &mut message.msg_hdr;
            header.msg_name = source.addr_ptr().cast();
            header.msg_namelen = len_of::<libc::sockaddr_storage>();
            header.msg_iov = slice;
            header.msg_iovlen = 1;
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>();
            header.msg_flags = 0;
            message.msg_len = 0;
            count += 1;
        }
        let (messages, flags) = (self.messages.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: `count` headers have been filled above; each points to a buffer, an address and a control area of its
        // own, with their lengths, all of which outlive the call and are borrowed mutably by it.
        let result = unsafe { libc::recvmmsg(fd.as_raw_fd(), messages, count, flags as _, std::ptr::null_mut()) };
        usize::try_from(result).map_err(|_| errno())
    }

    /// What the kernel says of the `index`-th packet of the last call. The index is below what the call returned.
    pub(super) fn meta(&self, index: usize) -> Meta {
        let message = &self.messages[index];
        let mut meta = Meta {
            len: message.msg_len as usize,
            source: self.sources[index].get().unwrap_or(UNSPECIFIED),
            is_truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            received_ns: None,
            drops: None,
        };
        let filled = message.msg_hdr.msg_controllen.min(size_of::<Control>());
        self.controls[index].for_each(filled, |kind, word, half| match kind {
            libc::SCM_TIMESTAMPNS => {
                // Neither can be negative in our time.
                meta.received_ns = Some(word[0].saturating_mul(1_000_000_000).saturating_add(word[1]));
            }
            libc::SO_RXQ_OVFL => meta.drops = Some(half),
            _ => {}
        });
        meta
    }
}

impl std::fmt::Debug for Heads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Heads")
    }
}

/// Room for a packet's control messages: its time (32 bytes with the header) and the count of drops (24). Words, so
/// that it is aligned as the kernel's own headers are.
#[derive(Clone, Copy)]
struct Control([u64; CONTROL_WORDS]);

impl Control {
    /// Walks over the control messages of level SOL_SOCKET in the first `filled` bytes: type, the first two words of
    /// the data (zero where there are none), the first half word.
    fn for_each(&self, filled: usize, mut sink: impl FnMut(i32, [u64; 2], u32)) {
        // A control message: its whole length in a word, level and type in halves of the next, then data up to a
        // multiple of a word (struct cmsghdr; Linux on 64 bits).
        let mut words = self.0.get(..filled / 8).unwrap_or(&[]);
        while let [len, kind, data @ ..] = words {
            let halves = kind.to_ne_bytes();
            let level = i32::from_ne_bytes([halves[0], halves[1], halves[2], halves[3]]);
            let kind = i32::from_ne_bytes([halves[4], halves[5], halves[6], halves[7]]);
            let first = data.first().copied().unwrap_or(0);
            let half = first.to_ne_bytes();
            if level == libc::SOL_SOCKET {
                let second = data.get(1).copied().unwrap_or(0);
                sink(kind, [first, second], u32::from_ne_bytes([half[0], half[1], half[2], half[3]]));
            }
            let step = usize::try_from(*len).unwrap_or(0).div_ceil(8).max(2);
            words = words.get(step..).unwrap_or(&[]);
        }
    }
}

/// `struct group_req` of RFC 3678.
#[repr(C)]
struct GroupRequest {
    interface: u32,
    group: libc::sockaddr_storage,
}

/// `struct group_source_req` of RFC 3678.
#[repr(C)]
struct GroupSourceRequest {
    interface: u32,
    group: libc::sockaddr_storage,
    source: libc::sockaddr_storage,
}

const CONTROL_WORDS: usize = 8;
