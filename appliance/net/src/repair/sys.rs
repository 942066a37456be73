//! The system calls of `TCP_REPAIR` that `nix` has no form of. Each function is safe to call.

#![expect(unsafe_code, reason = "socket options of TCP_REPAIR, TCP_INFO, and the lengths of a socket's queues")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::sys::{check, len_of};

/// Values of TCP_REPAIR (`include/uapi/linux/tcp.h`).
pub(super) const ON: i32 = 1;
/// Ends repair without a window probe to the peer.
pub(super) const OFF_NO_PROBE: i32 = -1;

/// Values of TCP_REPAIR_QUEUE.
pub(super) const RECEIVE_QUEUE: i32 = 1;
pub(super) const SEND_QUEUE: i32 = 2;

/// `TCP_INFO`. Fields that an older kernel does not know are 0.
pub(super) fn tcp_info(fd: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    // SAFETY: a tcp_info is made of integers, which may be 0.
    let mut info: libc::tcp_info = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut len = len_of::<libc::tcp_info>();
    let target = (&raw mut info).cast();
    // SAFETY: the pointer and length describe `info`, which outlives the call and may hold any bytes.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, target, &raw mut len) })?;
    Ok(info)
}

/// `getsockopt` of an option that is made of 32-bit words. Words that the kernel does not know are 0.
pub(super) fn words<const N: usize>(fd: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<[u32; N]> {
    let mut words = [0_u32; N];
    let mut len = len_of::<[u32; N]>();
    let target = words.as_mut_ptr().cast();
    // SAFETY: the pointer and length describe `words`, which outlives the call and may hold any bytes.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, target, &raw mut len) })?;
    Ok(words)
}

/// `setsockopt` of an option of TCP that is made of 32-bit words.
pub(super) fn set_words(fd: BorrowedFd<'_>, name: i32, words: &[u32]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(words)).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the pointer and length describe `words`, which outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, name, words.as_ptr().cast(), len) }).map(drop)
}

/// Ends a socket's connection (`connect` to no family, connect(2)). In repair the peer learns nothing of it.
pub(super) fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    let nobody = libc::sockaddr { sa_family: UNSPECIFIED, sa_data: [0; 14] };
    // SAFETY: the pointer and length describe `nobody`, which outlives the call.
    check(unsafe { libc::connect(fd.as_raw_fd(), &raw const nobody, len_of::<libc::sockaddr>()) }).map(drop)
}

/// The family as an address holds it.
#[expect(clippy::cast_possible_truncation, reason = "0")]
const UNSPECIFIED: libc::sa_family_t = libc::AF_UNSPEC as libc::sa_family_t;

/// Bytes that wait to be read (SIOCINQ, tcp(7)); up to the urgent byte, if there is one.
pub(super) fn unread_bytes(fd: BorrowedFd<'_>) -> io::Result<u32> {
    ioctl(fd, libc::FIONREAD)
}

/// Bytes that are not sent, or not acknowledged (SIOCOUTQ, tcp(7)).
pub(super) fn unacknowledged_bytes(fd: BorrowedFd<'_>) -> io::Result<u32> {
    ioctl(fd, libc::TIOCOUTQ)
}

/// Is the next byte the urgent one (SIOCATMARK, tcp(7))?
pub(super) fn is_at_mark(fd: BorrowedFd<'_>) -> io::Result<bool> {
    /// `include/uapi/asm-generic/sockios.h`; libc has it for few targets.
    const SIOCATMARK: libc::Ioctl = 0x8905;
    ioctl(fd, SIOCATMARK).map(|answer| answer != 0)
}

/// An ioctl of tcp(7) that answers with an int, which is never negative.
fn ioctl(fd: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<u32> {
    let mut answer: libc::c_int = 0;
    // SAFETY: the requests above write an int to the pointer, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut answer) })?;
    Ok(u32::try_from(answer).unwrap_or_default())
}

/// The clock that TSval comes from.
pub(super) fn monotonic() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}
