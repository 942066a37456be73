//! MoldUDP64 1.00: how Nasdaq numbers messages and carries them in UDP packets.
//!
//! ```text
//! downstream packet                              request packet
//!  0 session   10 bytes, ASCII, space-padded      0 session  10 bytes
//! 10 sequence  u64, of the first message         10 sequence u64, the first that is wanted
//! 18 count     u16: n messages, or               18 count    u16, how many
//!              0      heartbeat
//!              0xFFFF end of session
//! 20 n × (u16 length, that many bytes)
//! ```
//! All integers are big-endian. The sequence counts messages, not packets. A heartbeat and an end of session carry the
//! sequence that comes next. A reply to a request is an ordinary downstream packet.
//!
//! Source: "MoldUDP64 Protocol Specification", version 1.00, Nasdaq 2009.

mod arrived;
mod clock;
mod evidence;
mod feed;
mod in_order;
mod lines;
mod missing;
mod packet;
mod receiver;
mod recovered;
mod request;
mod requester;
mod snapshots;
mod suspects;
mod window;

pub use arrived::{Arrived, Origin};
pub use clock::Running;
pub use feed::{Moldudp64Config, Moldudp64Feed, SnapshotServer};
pub use in_order::{InOrder, Start};
pub use packet::{Kind, Messages, Packet, PacketBuilder, PacketError, PacketFault};
pub use receiver::{Receiver, ReceiverConfig, SnapshotUse};
pub use request::Request;

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Session;

/// The bytes before the first message; a request is nothing else.
pub const HEADER_LEN: usize = size_of::<Header>();

/// The count of a packet that ends its session.
const COUNT_END_OF_SESSION: u16 = 0xFFFF;

/// What packets and requests begin with.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    session: Session,
    sequence: U64,
    count: U16,
}

#[cfg(test)]
mod vectors {
    //! Bytes worked out by hand, shared by the tests below.

    pub(super) const SESSION: super::Session = *b"000000001A";
    pub(super) const TWO_MESSAGES: &[u8] = &[
        0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x31, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, //
        0x00, 0x24, 0x41, 0x00, 0x0d, 0x00, 0x00, 0x1f, 0x1a, 0xce, 0xd9, 0xf0, 0x01, 0, 0, 0, 0, 0, 0, 0x10, 0x92,
        0x42, 0, 0, 0, 0x64, 0x41, 0x41, 0x50, 0x4c, 0x20, 0x20, 0x20, 0x20, 0x00, 0x1c, 0xfb, 0xec, //
        0x00, 0x1f, 0x45, 0x00, 0x0d, 0x00, 0x00, 0x1f, 0x1a, 0xce, 0xd9, 0xf3, 0xe9, 0, 0, 0, 0, 0, 0, 0x10, 0x92, 0,
        0, 0, 0x28, 0, 0, 0, 0, 0, 0, 0x03, 0x09,
    ];
    pub(super) const HEARTBEAT: &[u8] = &[48, 48, 48, 48, 48, 48, 48, 48, 49, 65, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0];
    pub(super) const END: &[u8] = &[48, 48, 48, 48, 48, 48, 48, 48, 49, 65, 0, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff];
    pub(super) const REQUEST: &[u8] = &[48, 48, 48, 48, 48, 48, 48, 48, 49, 65, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
}
