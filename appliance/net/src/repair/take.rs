//! A connection out of a socket.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use fanblade_abi::lane::Seq;

use super::connection::{Connection, TimestampUnit, Timestamps, WindowScales, Windows};
use super::error::{Ends, RepairError};
use super::sys::{self, OFF_NO_PROBE, ON, RECEIVE_QUEUE, SEND_QUEUE};
use crate::sys::{local_addr, peer_addr, set_option};

/// What became of a socket whose connection was to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// The connection, which the socket has no more. The peer has not noticed. Close the socket, at any time; readiness
    /// or an error (ECONNABORTED) that it reports until then means nothing.
    Connection(Connection),
    /// The socket keeps it. It is as it was before, and was not in repair.
    Kept(Obstacle),
}

/// Why a socket keeps its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The connection is not established yet, or one side has closed it.
    NotEstablished {
        /// The state's number (`include/net/tcp_states.h`), as in /proc/net/tcp. 1 is ESTABLISHED.
        state: u8,
    },
    /// Explicit congestion notification was negotiated (RFC 3168; sysctl net.ipv4.tcp_ecn). A restored socket would
    /// not echo the network's marks to the peer, which relies on that.
    Ecn,
    /// Bytes were sent that the peer has not acknowledged.
    Unacknowledged {
        /// So many.
        bytes: u32,
    },
    /// Bytes were written that are not sent yet.
    Unsent {
        /// So many.
        bytes: u32,
    },
    /// Bytes were received that nobody has read.
    Unread {
        /// So many.
        bytes: u32,
    },
    /// An urgent byte (RFC 9293, 3.8.5) is next.
    Urgent,
    /// Segments were received out of order and wait for those before them. (Messages of the socket's error queue count
    /// as well.)
    OutOfOrder,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NotEstablished { state } => write!(f, "it is not established (state {state})"),
            Obstacle::Ecn => f.write_str("explicit congestion notification was negotiated"),
            Obstacle::Unacknowledged { bytes } => write!(f, "{bytes} bytes are not acknowledged"),
            Obstacle::Unsent { bytes } => write!(f, "{bytes} bytes are not sent"),
            Obstacle::Unread { bytes } => write!(f, "{bytes} bytes are not read"),
            Obstacle::Urgent => f.write_str("an urgent byte is not read"),
            Obstacle::OutOfOrder => f.write_str("segments wait for those before them"),
        }
    }
}

/// Takes the connection out of a socket, if it is established and quiet; see the module for who must hold the peer's
/// packets meanwhile.
///
/// # Errors
/// The descriptor is no TCP socket, the process lacks CAP_NET_ADMIN, or the kernel refuses a step. The socket stays
/// usable.
pub fn take(socket: BorrowedFd<'_>) -> Result<Taken, RepairError> {
    // Repair keeps no packet away from the socket, so the look at its queues is as good before. And a socket that was
    // never in repair need not be mended: the end of repair takes SO_REUSEADDR away.
    let not_tcp = |source| RepairError::NotTcp { source };
    let info = sys::tcp_info(socket).map_err(not_tcp)?;
    if let Some(obstacle) = obstacle(socket, &info).map_err(not_tcp)? {
        return Ok(Taken::Kept(obstacle));
    }
    let ends = ends(socket).map_err(not_tcp)?;
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, ON).map_err(|source| ends.cannot_enter(source))?;
    // The end of the connection is not left to the last `close` of the socket: another thread may be about to start a
    // process, which has all descriptors for a moment, and the connection could not be restored before that is over.
    let connection = read(socket, ends, &info)
        .and_then(|connection| sys::disconnect(socket).map(|()| connection).map_err(ends.refuses("to disconnect")));
    if connection.is_err() {
        // As it was, without a probe to the peer. An error would be the second one, and the first says more.
        let _ = set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, OFF_NO_PROBE);
        let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
    }
    connection.map(Taken::Connection)
}

/// TCP_ESTABLISHED (`include/net/tcp_states.h`).
const ESTABLISHED: u8 = 1;

/// Bits of `tcpi_options` (`include/uapi/linux/tcp.h`).
const TIMESTAMPS: u8 = 1;
const SACK: u8 = 2;
const WINDOW_SCALE: u8 = 4;
const ECN: u8 = 8;
const MICROSECOND_TIMESTAMPS: u8 = 64;

/// Bytes that timestamps take in each segment (RFC 7323, appendix A).
const TIMESTAMPS_LEN: u32 = 12;

/// What stands in the way, if anything does.
fn obstacle(socket: BorrowedFd<'_>, info: &libc::tcp_info) -> io::Result<Option<Obstacle>> {
    Ok(if info.tcpi_state != ESTABLISHED {
        Some(Obstacle::NotEstablished { state: info.tcpi_state })
    } else if info.tcpi_options & ECN != 0 {
        Some(Obstacle::Ecn)
    } else if info.tcpi_unacked != 0 {
        let bytes = sys::unacknowledged_bytes(socket)?.saturating_sub(info.tcpi_notsent_bytes);
        Some(Obstacle::Unacknowledged { bytes })
    } else if info.tcpi_notsent_bytes != 0 {
        Some(Obstacle::Unsent { bytes: info.tcpi_notsent_bytes })
    } else if received_memory_bytes(socket)? == 0 {
        None
    } else if sys::is_at_mark(socket)? {
        Some(Obstacle::Urgent)
    } else {
        match sys::unread_bytes(socket)? {
            0 => Some(Obstacle::OutOfOrder),
            bytes => Some(Obstacle::Unread { bytes }),
        }
    })
}

/// Memory of all that a socket has received and nobody has read, in order or not. It is more exact than SIOCINQ, which
/// counts neither what is out of order nor an urgent byte.
fn received_memory_bytes(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// `include/uapi/asm-generic/socket.h`; libc lacks it. The first word of the answer is SK_MEMINFO_RMEM_ALLOC
    /// (`include/uapi/linux/sock_diag.h`).
    const SO_MEMINFO: i32 = 55;
    let [rmem_alloc] = sys::words::<1>(socket, libc::SOL_SOCKET, SO_MEMINFO)?;
    Ok(rmem_alloc)
}

/// Both addresses, as the connection's packets have them.
fn ends(socket: BorrowedFd<'_>) -> io::Result<Ends> {
    let in_packets = |address: SocketAddr| match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    };
    Ok(Ends { local: in_packets(local_addr(socket)?), peer: in_packets(peer_addr(socket)?) })
}

/// Reads a connection from a socket in repair.
fn read(socket: BorrowedFd<'_>, ends: Ends, info: &libc::tcp_info) -> Result<Connection, RepairError> {
    let snd_nxt = sequence(socket, SEND_QUEUE).map_err(ends.refuses("TCP_QUEUE_SEQ"))?;
    let rcv_nxt = sequence(socket, RECEIVE_QUEUE).map_err(ends.refuses("TCP_QUEUE_SEQ"))?;
    let windows = windows(socket).map_err(ends.refuses("TCP_REPAIR_WINDOW"))?;
    // In repair this is the bound of the MSS, else the MSS itself.
    let [mss_limit] = sys::words(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG).map_err(ends.refuses("TCP_MAXSEG"))?;
    let timestamps = timestamps(socket, info.tcpi_options).map_err(ends.refuses("TCP_TIMESTAMP"))?;
    // Two bit fields share the byte; on little-endian machines the first is the lower half.
    let shifts = info.tcpi_snd_rcv_wscale;
    let scales = WindowScales { send: shifts & 0xf, receive: shifts >> 4 };
    let is_on = |bit: u8| info.tcpi_options & bit != 0;
    // Where a restored connection and the kernel's sysctl disagree about timestamps, TCP_INFO is wrong by their length
    // (the kernel corrects that when it sends): too short is harmless, too long is not.
    let options_len = if timestamps.is_some() { TIMESTAMPS_LEN } else { 0 };
    let mss = info.tcpi_snd_mss.min(mss_limit.saturating_sub(options_len));
    Ok(Connection {
        local: ends.local,
        peer: ends.peer,
        snd_una: snd_nxt,
        snd_nxt,
        rcv_nxt,
        windows,
        mss_bytes: u16::try_from(mss).unwrap_or(u16::MAX),
        mss_limit_bytes: u16::try_from(mss_limit).unwrap_or(u16::MAX),
        window_scales: is_on(WINDOW_SCALE).then_some(scales),
        sack: is_on(SACK),
        timestamps,
        cwnd_bytes: info.tcpi_snd_cwnd.saturating_mul(info.tcpi_snd_mss),
        smoothed_rtt: (info.tcpi_rtt != 0).then(|| Duration::from_micros(info.tcpi_rtt.into())),
    })
}

/// Where a queue ends: `write_seq` of the send queue, which is `snd_nxt` as all is sent, and `rcv_nxt` of the other.
fn sequence(socket: BorrowedFd<'_>, queue: i32) -> io::Result<Seq> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue)?;
    let [seq] = sys::words(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ)?;
    Ok(Seq(seq))
}

fn windows(socket: BorrowedFd<'_>) -> io::Result<Windows> {
    let [snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup] =
        sys::words(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW)?;
    Ok(Windows { snd_wl1: Seq(snd_wl1), snd_wnd, max_window, rcv_wnd, rcv_wup: Seq(rcv_wup) })
}

fn timestamps(socket: BorrowedFd<'_>, options: u8) -> io::Result<Option<Timestamps>> {
    if options & TIMESTAMPS == 0 {
        return Ok(None);
    }
    let unit =
        if options & MICROSECOND_TIMESTAMPS == 0 { TimestampUnit::Millisecond } else { TimestampUnit::Microsecond };
    // The clock is read first: if this thread is interrupted between the two, TSval runs ahead, and not behind.
    let before = sys::monotonic()?;
    let [value] = sys::words(socket, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP)?;
    Ok(Some(Timestamps::from_option(value, unit, before)))
}
