//! System calls, and the types that cross into the kernel as bytes.
#![expect(unsafe_code, reason = "map entries are plain bytes to the kernel, and addresses of interfaces to a socket")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32};

use aya::Pod;
use fanblade_swarm_abi::{BUCKETS, Counters, Settings, Subscriber};

/// An abi type in the form that aya wants.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: (all three) `repr(C)` or an array, only integers, no padding (asserted by size in the abi crate), so any
// bytes are a value and a value is only bytes.
unsafe impl Pod for Plain<Settings> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Counters> {}
// SAFETY: as above.
unsafe impl Pod for Plain<[u64; BUCKETS]> {}

/// [`Subscriber`], as it is shared with the program.
#[repr(C)]
pub(super) struct Shared {
    pub(super) next: AtomicU32,
    pub(super) sent: AtomicU32,
    pub(super) left: AtomicU32,
    pub(super) last: AtomicU32,
    pub(super) first: AtomicU32,
    pub(super) newest: AtomicU32,
    pub(super) messages: AtomicU32,
    pub(super) state: AtomicU8,
    pub(super) flags: AtomicU8,
    pub(super) heard: AtomicU8,
    pub(super) kept: AtomicU8,
}

const _: () = assert!(size_of::<Shared>() == size_of::<Subscriber>());

/// The map of the subscribers in our address space.
pub(super) struct Mapping {
    entries: NonNull<Shared>,
    len: usize,
}

// SAFETY: all access is through atomics; the mapping belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps an array map with `BPF_F_MMAPABLE` of `len` subscribers; the kernel refuses any other.
    pub(super) fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let bytes = len * size_of::<Shared>();
        // SAFETY: a fresh mapping at an address of the kernel's choosing; it refuses a length beyond the map's.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(|entries| Mapping { entries, len })
            .ok_or_else(|| io::Error::other("mapped at zero"))
    }

    pub(super) fn entries(&self) -> &[Shared] {
        // SAFETY: `len` entries were mapped, page-aligned, for as long as `self` lives; every access is atomic.
        unsafe { std::slice::from_raw_parts(self.entries.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.entries.as_ptr().cast(), self.len * size_of::<Shared>()) };
    }
}

#[expect(clippy::cast_possible_truncation, reason = "17")]
const FAMILY: libc::sa_family_t = libc::AF_PACKET as libc::sa_family_t;
#[expect(clippy::cast_possible_truncation, reason = "20")]
const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// Sends whole Ethernet frames, and receives none.
pub(super) struct RawSocket(OwnedFd);

impl RawSocket {
    pub(super) fn open(interface: &str) -> io::Result<RawSocket> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else has.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = libc::sockaddr_ll {
            sll_family: FAMILY,
            sll_protocol: 0,
            sll_ifindex: index.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is a local of the length that is given.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), ADDRESS_LEN) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(RawSocket(socket)) }
    }

    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the slice is valid for its length during the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            let error = io::Error::last_os_error();
            // A full queue counts as a packet that was lost on its way: it will be sent again.
            return if error.raw_os_error() == Some(libc::ENOBUFS) { Ok(()) } else { Err(error) };
        }
        Ok(())
    }
}
