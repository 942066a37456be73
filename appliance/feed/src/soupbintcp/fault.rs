//! What can be wrong with the bytes of a connection.

/// Why, and where, bytes are no packet. What follows them is lost: their length cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}, at byte {offset}")]
pub struct PacketError {
    /// Byte offset in what was parsed; in what came by a connection, for [`super::Inbound`].
    pub offset: u64,
    /// What is wrong there.
    pub fault: PacketFault,
}

/// What can be wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketFault {
    /// A packet has at least its type.
    #[error("SoupBinTCP packet without a type")]
    LengthZero,
    /// A type that is not defined.
    #[error("SoupBinTCP packet of unknown type {:?}", char::from(*kind))]
    UnknownType {
        /// The type.
        kind: u8,
    },
    /// A type that has one length, with another.
    #[error("SoupBinTCP packet {:?} of length {length}, not {}", char::from(*kind), lengths(*kind))]
    WrongLength {
        /// The type.
        kind: u8,
        /// The length field.
        length: u16,
    },
    /// A packet that the other side does not send, or not at this point.
    #[error("SoupBinTCP packet {:?} out of place", char::from(*kind))]
    OutOfPlace {
        /// The type.
        kind: u8,
    },
    /// A message number that cannot be: 0, or implausibly far from the one that was asked for.
    #[error("SoupBinTCP login accepted with message {sequence} where {expected} was asked for")]
    SequenceJump {
        /// The number that the server says.
        sequence: u64,
        /// The number that comes next.
        expected: u64,
    },
    /// A field that is to hold a number does not, or one beyond 64 bits.
    #[error("SoupBinTCP {field} {:?} is not a number", String::from_utf8_lossy(&digits[..]).trim())]
    NotNumeric {
        /// Which field.
        field: &'static str,
        /// Its bytes; shorter fields are padded on the right.
        digits: [u8; 20],
    },
    /// A field that is to hold text holds something else.
    #[error("SoupBinTCP {field} is not printable ASCII")]
    NotText {
        /// Which field.
        field: &'static str,
    },
}

/// What the length field of a type holds, in words.
fn lengths(kind: u8) -> &'static str {
    match kind {
        b'L' => "47 or 52",
        b'A' => "31",
        b'J' => "2",
        _ => "1",
    }
}

/// The bytes before a packet's payload: length and type.
pub(super) const HEADER_LEN: usize = 3;
