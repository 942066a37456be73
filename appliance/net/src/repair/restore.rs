//! A connection into a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, connect, send};

use fanblade_abi::lane::Seq;

use super::connection::{Connection, Timestamps, Windows};
use super::error::{Ends, RepairError};
use super::sys::{self, OFF_NO_PROBE, ON, RECEIVE_QUEUE, SEND_QUEUE};
use crate::listen::{ListenOptions, apply, inherited};
use crate::sys::{bind, set_option, tcp_socket};

/// The largest window without scaling (RFC 9293, 3.1).
const UNSCALED_WINDOW_MAX: i32 = 65_535;

/// The range of TCP_MAXSEG, in bytes (`include/net/tcp.h`, TCP_MIN_MSS and MAX_TCP_WINDOW). Every peer takes segments
/// of 536 bytes (RFC 9293, 3.7.1), so that one that has asked for less than the minimum takes that too.
const USER_MSS_MIN: i32 = 88;
const USER_MSS_MAX: i32 = 32_767;

/// Makes a socket of a connection. It is established at once, non-blocking, close-on-exec, and bound so that a listener
/// can be opened at its address; nothing is sent. Of `options` it has what a socket accepted from such a listener has.
///
/// `unacknowledged` are the bytes from `snd_una` to `snd_nxt`. They count as sent: the kernel sends them again unless
/// the peer acknowledges them within a second (its RTO before the first measurement, RFC 6298). Our timestamps go on:
/// no TSval is smaller than those before.
///
/// # Errors
/// The connection contradicts itself, the process lacks CAP_NET_ADMIN, an address cannot be had (a socket may have the
/// connection already), or the kernel refuses a step. Then no socket is left, and the peer has not noticed anything.
pub fn restore(
    connection: &Connection,
    unacknowledged: &[u8],
    options: &ListenOptions,
) -> Result<OwnedFd, RepairError> {
    check(connection, unacknowledged)?;
    let ends = Ends { local: connection.local, peer: connection.peer };
    let socket = tcp_socket(&connection.local).map_err(ends.refuses("a socket"))?;
    let fd = socket.as_fd();
    // If a step below fails, the socket is closed in repair, which says nothing to the peer.
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, ON).map_err(|source| ends.cannot_enter(source))?;
    prepare(fd, connection, options).map_err(|(what, source)| ends.refuses(what)(source))?;
    bind(fd, &connection.local).map_err(|source| ends.cannot_bind(source))?;
    begin_at(fd, SEND_QUEUE, connection.snd_una)
        .and_then(|()| begin_at(fd, RECEIVE_QUEUE, connection.rcv_nxt))
        .map_err(ends.refuses("TCP_QUEUE_SEQ"))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(connection.peer))
        .map_err(|errno| ends.cannot_connect(errno.into()))?;
    set_negotiated(fd, connection).map_err(ends.refuses("TCP_REPAIR_OPTIONS"))?;
    if let Some(timestamps) = connection.timestamps {
        go_on(fd, timestamps).map_err(ends.refuses("TCP_TIMESTAMP"))?;
    }
    queue(fd, unacknowledged, options).map_err(ends.refuses("the unacknowledged bytes"))?;
    set_windows(fd, connection).map_err(ends.refuses("TCP_REPAIR_WINDOW"))?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, OFF_NO_PROBE).map_err(ends.refuses("TCP_REPAIR"))?;
    // Only now: in repair this would undo the forced bind, and the end of repair takes it away.
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1).map_err(ends.refuses("SO_REUSEADDR"))?;
    Ok(socket)
}

fn check(connection: &Connection, unacknowledged: &[u8]) -> Result<(), RepairError> {
    let (local, peer) = (connection.local, connection.peer);
    if let Some(what) = connection.contradiction() {
        return Err(RepairError::Contradiction { local, peer, what });
    }
    let expected = connection.snd_nxt.since(connection.snd_una);
    if u32::try_from(unacknowledged.len()) != Ok(expected) {
        return Err(RepairError::Unacknowledged { local, peer, expected, given: unacknowledged.len() });
    }
    Ok(())
}

/// Options that have to be there before the socket connects.
fn prepare(
    fd: BorrowedFd<'_>,
    connection: &Connection,
    options: &ListenOptions,
) -> Result<(), (&'static str, io::Error)> {
    // As accepted sockets have it. Between the end of repair and SO_REUSEADDR it alone lets a listener be opened.
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).map_err(|source| ("SO_REUSEPORT", source))?;
    apply(fd, inherited(options))?;
    // The kernel computes the length of segments when it connects, before it can be told what the SYNs had negotiated;
    // without this bound that would be 536 bytes, until the path's MTU changes.
    let mss = i32::from(connection.mss_limit_bytes).clamp(USER_MSS_MIN, USER_MSS_MAX);
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_MAXSEG, mss).map_err(|source| ("TCP_MAXSEG", source))?;
    if connection.window_scales.is_none() {
        // Else the kernel would choose a shift for our windows, and the peer would read them as much smaller.
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, UNSCALED_WINDOW_MAX)
            .map_err(|source| ("TCP_WINDOW_CLAMP", source))?;
    }
    Ok(())
}

/// Sets where a queue of an unconnected socket begins.
fn begin_at(fd: BorrowedFd<'_>, queue: i32, seq: Seq) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue)?;
    sys::set_words(fd, libc::TCP_QUEUE_SEQ, &[seq.0])
}

/// What the SYNs had negotiated. Each option is its code in packets and a value.
fn set_negotiated(fd: BorrowedFd<'_>, connection: &Connection) -> io::Result<()> {
    const MSS: u32 = 2;
    const WINDOW_SCALE: u32 = 3;
    const SACK_PERMITTED: u32 = 4;
    const TIMESTAMPS: u32 = 8;
    let mss = Some([MSS, connection.mss_limit_bytes.into()]);
    let scales =
        connection.window_scales.map(|scales| [WINDOW_SCALE, u32::from(scales.send) | u32::from(scales.receive) << 16]);
    let sack = connection.sack.then_some([SACK_PERMITTED, 0]);
    let timestamps = connection.timestamps.map(|_| [TIMESTAMPS, 0]);
    let mut words = [0; 8];
    let mut len = 0;
    for option in [mss, scales, sack, timestamps].into_iter().flatten() {
        words[len..len + 2].copy_from_slice(&option);
        len += 2;
    }
    sys::set_words(fd, libc::TCP_REPAIR_OPTIONS, &words[..len])
}

/// TSval goes on. Were this thread interrupted between the clock and the call, it would go on a little late; nothing is
/// sent meanwhile, so that it does not go back.
fn go_on(fd: BorrowedFd<'_>, timestamps: Timestamps) -> io::Result<()> {
    sys::set_words(fd, libc::TCP_TIMESTAMP, &[timestamps.to_option(sys::monotonic()?)])
}

/// Puts bytes into the send queue, as sent.
fn queue(fd: BorrowedFd<'_>, unacknowledged: &[u8], options: &ListenOptions) -> io::Result<()> {
    if unacknowledged.is_empty() {
        return Ok(());
    }
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, SEND_QUEUE)?;
    let mut bytes = unacknowledged;
    let mut is_grown = false;
    while !bytes.is_empty() {
        match send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // The buffer of a new socket is small.
            Err(Errno::EAGAIN) if !is_grown => {
                is_grown = true;
                grow_send_buffer(fd, unacknowledged.len())?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    if is_grown { shrink_send_buffer(fd, options) } else { Ok(()) }
}

/// Makes room for so many bytes, whatever sysctl net.core.wmem_max says. The kernel takes twice the value, and the
/// buffers of bytes may take twice the bytes.
fn grow_send_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes.saturating_mul(2)).unwrap_or(i32::MAX);
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
}

/// After [`grow_send_buffer`]: the size that was asked for, or the kernel's own tuning.
fn shrink_send_buffer(fd: BorrowedFd<'_>, options: &ListenOptions) -> io::Result<()> {
    /// socket(7), Linux 5.14; libc lacks it. Bits of its value: somebody has set SO_SNDBUF (1), SO_RCVBUF (2).
    const SO_BUF_LOCK: i32 = 72;
    const RECEIVE_LOCK: i32 = 2;
    match options.sndbuf_bytes {
        Some(bytes) => {
            let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
            set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)
        }
        None => {
            let lock = if options.rcvbuf_bytes.is_some() { RECEIVE_LOCK } else { 0 };
            set_option(fd, libc::SOL_SOCKET, SO_BUF_LOCK, lock)
        }
    }
}

fn set_windows(fd: BorrowedFd<'_>, connection: &Connection) -> io::Result<()> {
    let Windows { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = connection.windows;
    sys::set_words(fd, libc::TCP_REPAIR_WINDOW, &[snd_wl1.0, snd_wnd, max_window, rcv_wnd, rcv_wup.0])
}
