//! Lanes: established TCP connections that have left the kernel's socket and live in maps.
//!
//! A lane sends in order into an open window, and sees when something is wrong. It never retransmits, never reassembles
//! and never negotiates: whatever is unusual raises it to a kernel socket, whose TCP is right. So the whole machine is
//! two functions without I/O, which the kernel programs run on maps and packets, and the tests on plain values:
//! [`Lane::admit`] with [`send::headers`] for what goes out, and [`Lane::receive`] for what comes in.
//!
//! A [`Lane`] is two cache lines, one for each writer: [`Sending`] belongs to the program that sends (and to userspace,
//! while nothing is sent), [`Receiving`] to the ingress program. Each reads the other's, one field at a time, and is
//! right with an old value: a window may only look smaller than it is. Where two fields belong together (`snd_una` and
//! `window`), one side writes them in the other's order of reading; that holds on machines that keep the order of
//! stores and of loads (x86-64).

pub mod checksum;
pub mod receive;
pub mod record;
pub mod segment;
pub mod send;
mod seq;
mod verdict;
pub mod work;

pub use receive::{Drop, Outcome, Reason};
pub use record::Record;
pub use segment::Header;
pub use send::{Admission, Item, Refusal};
pub use seq::Seq;
pub use verdict::{LaneCounters, LaneHook, LaneVerdict};
pub use work::{Lost, Sender};

/// Version of the layouts of this module. Pinned maps of another version are not taken over.
pub const LAYOUT_VERSION: u32 = 1;

/// Entry of `LANES`, by the lane's index: two cache lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// What the sender writes.
    pub sending: Sending,
    /// What the receiver writes.
    pub receiving: Receiving,
}

/// The sender's line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sending {
    /// Address of the client, IPv4 as v4-mapped IPv6.
    pub client: [u8; 16],
    /// Port of the client, in host order.
    pub client_port: u16,
    /// Index in `PATHS`: how to get to the client, and the blade's own address and port.
    pub path: u16,
    /// Folded sum of what is the same in all packets: both addresses, both ports, the protocol.
    pub sum: u16,
    /// Most payload bytes of a packet, options not counted.
    pub mss: u16,
    /// The next byte to send (RFC 9293, SND.NXT).
    pub snd_nxt: Seq,
    /// The receiver's `rcv_nxt` as the newest packet told it to the client (RFC 7323, Last.ACK.sent).
    pub acked: Seq,
    /// Added to the clock of milliseconds for TSval.
    pub ts_offset: u32,
    /// Most bytes in flight, whatever the peer's window: the congestion window that the kernel had, or less.
    pub in_flight_max: u32,
    /// [`Sending::USED`] and others.
    pub flags: u8,
    /// The worker that owns the lane.
    pub worker: u8,
    /// Changes each time the entry is given to another connection.
    pub generation: u16,
    /// Packets sent since it was lowered.
    pub packets: u32,
    /// Bytes of IP packets sent since it was lowered, headers included.
    pub bytes: u64,
    /// By this key the worker finds the session.
    pub session: u64,
}

impl Sending {
    /// The entry holds a lane.
    pub const USED: u8 = 1;
    /// Nothing is sent, and every packet of the client goes to userspace as it is: the connection is between lane and
    /// socket.
    pub const HELD: u8 = 2;
    /// Both sides send timestamps (RFC 7323).
    pub const TIMESTAMPS: u8 = 4;

    /// Is this flag set?
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The receiver's line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receiving {
    /// The first byte that is not acknowledged (RFC 9293, SND.UNA).
    pub snd_una: Seq,
    /// The next byte that the client sends (RCV.NXT).
    pub rcv_nxt: Seq,
    /// The client's window in bytes, scaled (SND.WND).
    pub window: u32,
    /// The largest window so far, in bytes: an acknowledgement that is older is not believed (RFC 5961, 5.2).
    pub window_max: u32,
    /// The client's newest timestamp (RFC 7323, TS.Recent), if `has_ts_recent`.
    pub ts_recent: u32,
    /// Smoothed round-trip time in eighths of a millisecond (RFC 6298, SRTT); 0: not measured yet.
    pub srtt: u32,
    /// Variation of the round-trip time in quarters of a millisecond (RTTVAR).
    pub rttvar: u32,
    /// The window that our packets advertise, as in the header (shifted by `own_scale`).
    pub advertised: u16,
    /// Shift of the client's windows (RFC 7323, Snd.Wind.Shift).
    pub scale: u8,
    /// Shift of our windows (Rcv.Wind.Shift).
    pub own_scale: u8,
    /// Duplicate acknowledgements in a row (RFC 5681).
    pub duplicates: u8,
    /// Why it is to be raised, a [`Reason`], or 0. Once set, every packet goes to userspace as it is.
    pub raised: u8,
    /// 1 if `ts_recent` is known: a socket does not tell it, and the client's next packet does.
    pub has_ts_recent: u8,
    /// Always zero.
    pub reserved: u8,
    /// Packets of the client since it was lowered.
    pub packets: u32,
    /// Bytes of IP packets of the client since it was lowered, headers included.
    pub bytes: u64,
    /// `CLOCK_MONOTONIC` of the newest packet that was taken, in nanoseconds.
    pub taken_ns: u64,
    /// `CLOCK_MONOTONIC` of the newest acknowledgement of new data, in nanoseconds.
    pub advanced_ns: u64,
}

/// Entry of `PATHS`: what is the same for all lanes behind one neighbour. A change of any of it raises them.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The blade's address, IPv4 as v4-mapped IPv6.
    pub blade: [u8; 16],
    /// The blade's port, in host order.
    pub blade_port: u16,
    /// The tag (802.1Q) that the packets carry, if [`Path::TAGGED`].
    pub vlan: u16,
    /// Longest IP packet, in bytes.
    pub mtu: u16,
    /// [`Path::TAGGED`] and others.
    pub flags: u16,
    /// The next hop's hardware address.
    pub next_hop: [u8; 6],
    /// The interface's hardware address.
    pub interface_mac: [u8; 6],
    /// The interface that the packets leave by.
    pub interface: u32,
    /// Hop limit or time to live.
    pub hops: u8,
    /// Traffic class or type of service.
    pub class: u8,
    /// Always zero.
    pub reserved: [u8; 22],
}

impl Path {
    /// The packets carry a tag.
    pub const TAGGED: u16 = 1;
    /// IPv6; else IPv4.
    pub const IPV6: u16 = 2;
    /// Packets from this interface may have no checksum but the sum of their pseudo-header, as those of a peer on the
    /// same machine have (veth, virtio_net with offloads).
    pub const UNSUMMED: u16 = 4;

    /// Is this flag set?
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

const _: () = assert!(size_of::<Sending>() == 64 && size_of::<Receiving>() == 64 && size_of::<Path>() == 64);
const _: () = assert!(size_of::<Lane>() == 128);
