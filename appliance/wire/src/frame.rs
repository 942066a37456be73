//! Frames (RFC 6455 section 5.2): the header that a server writes, and the header that it reads.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
//! |I|S|S|S|  (4)  |A|     (7)     |   (16 bits if len is 126,     |
//! |N|V|V|V|       |S|             |    64 bits if len is 127)     |
//! | |1|2|3|       |K|             |                               |
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! | Masking-key, if MASK is set (32 bits)  | Payload …            |
//! +----------------------------------------+----------------------+
//! ```

use crate::error::InboundError;
use crate::limits::{CLOSE_REASON_LEN_MAX, CONTROL_LEN_MAX};

/// What a frame carries (RFC 6455 section 11.8).
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of the message under way.
    Continuation = 0,
    /// A message of UTF-8 text, or its first fragment.
    Text = 1,
    /// A message of bytes, or its first fragment.
    Binary = 2,
    /// The peer closes.
    Close = 8,
    /// The peer wants a pong of the same payload.
    Ping = 9,
    /// The answer, or an unsolicited sign of life.
    Pong = 10,
}

impl Opcode {
    /// The opcode of these four bits; `None` for those that the RFC reserves.
    pub fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    /// Close, ping and pong: never fragmented, at most 125 bytes, allowed amid a message's fragments (section 5.5).
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The longest header of a server's frame.
pub const SERVER_HEADER_LEN_MAX: usize = 10;

/// The longest header of a client's frame: four bytes of masking key more.
pub const CLIENT_HEADER_LEN_MAX: usize = 14;

/// Header of one final, unmasked frame, and its length: 2, 4 or 10.
pub fn server_header(opcode: Opcode, payload_len: usize) -> ([u8; SERVER_HEADER_LEN_MAX], usize) {
    let mut header = [0; SERVER_HEADER_LEN_MAX];
    let [first, second, extended @ ..] = &mut header;
    *first = FIN | opcode as u8;
    // Section 5.2: "in all cases, the minimal number of bytes MUST be used to encode the length".
    let length = payload_len as u64;
    if length <= 125 {
        *second = (length & 0x7f) as u8;
    } else if let Ok(short) = u16::try_from(length) {
        *second = 126;
        let [high, low, ..] = extended;
        [*high, *low] = short.to_be_bytes();
    } else {
        *second = 127;
        *extended = length.to_be_bytes();
    }
    (header, server_header_len(payload_len))
}

/// Length of the header of a server's frame with a payload of this length.
pub const fn server_header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Length of the server's frame that `bytes` begin with, header and payload; `None` if its header is not whole there.
pub fn server_frame_len(bytes: &[u8]) -> Option<usize> {
    let payload_len = match (bytes.get(1)? & 0x7f, bytes.get(2..)?) {
        (126, [high, low, ..]) => u64::from(u16::from_be_bytes([*high, *low])),
        (127, extended) => u64::from_be_bytes(*extended.first_chunk()?),
        (126, _) => return None,
        (short, _) => short.into(),
    };
    let payload_len = usize::try_from(payload_len).ok()?;
    server_header_len(payload_len).checked_add(payload_len)
}

/// Appends one final, unmasked frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (header, header_len) = server_header(opcode, payload.len());
    out.reserve(header_len + payload.len());
    out.extend(header.iter().take(header_len));
    out.extend_from_slice(payload);
}

/// Appends a close frame (section 5.5.1). The reason is cut, between characters, to what a control frame holds.
pub fn write_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason_len = reason.floor_char_boundary(CLOSE_REASON_LEN_MAX);
    let (header, header_len) = server_header(Opcode::Close, 2 + reason_len);
    out.extend(header.iter().take(header_len));
    out.extend_from_slice(&code.to_be_bytes());
    out.extend(reason.bytes().take(reason_len));
}

/// The header of a client's frame, found to obey section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientHeader {
    pub(crate) is_final: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: [u8; 4],
    pub(crate) payload_len: u64,
}

impl ClientHeader {
    /// Reads a header and its length; `None` if it is not whole yet.
    ///
    /// The checks come in the order of the bytes that they need, so that however the bytes arrive the same stream
    /// meets the same error, and as early as can be.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(ClientHeader, usize)>, InboundError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        // Section 5.2: the RSV bits "MUST be 0 unless an extension is negotiated that defines meanings".
        if first & RSV != 0 {
            return Err(InboundError::ReservedBits);
        }
        // Section 5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_."
        let Some(opcode) = Opcode::from_bits(first & OPCODE) else {
            return Err(InboundError::ReservedOpcode(first & OPCODE));
        };
        // Section 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
        if second & MASKED == 0 {
            return Err(InboundError::Unmasked);
        }
        let is_final = first & FIN != 0;
        let length = second & LENGTH;
        // Section 5.5: "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented."
        if opcode.is_control() {
            if !is_final {
                return Err(InboundError::ControlFragmented);
            }
            if usize::from(length) > CONTROL_LEN_MAX {
                return Err(InboundError::ControlTooLong);
            }
        }
        let (payload_len, rest) = match length {
            126 => {
                let Some((short, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from(u16::from_be_bytes(*short)), rest)
            }
            127 => {
                let Some((long, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from_be_bytes(*long), rest)
            }
            _ => (u64::from(length), rest),
        };
        // Section 5.2: the minimal number of bytes must be used, and "the most significant bit MUST be 0".
        let is_minimal = match length {
            126 => payload_len > 125,
            127 => payload_len > 0xffff,
            _ => true,
        };
        if !is_minimal || payload_len > i64::MAX as u64 {
            return Err(InboundError::LengthEncoding);
        }
        let Some((mask, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let header = ClientHeader { is_final, opcode, mask: *mask, payload_len };
        Ok(Some((header, bytes.len() - rest.len())))
    }
}

pub(crate) const FIN: u8 = 0x80;
pub(crate) const RSV: u8 = 0x70;
pub(crate) const OPCODE: u8 = 0x0f;
pub(crate) const MASKED: u8 = 0x80;
pub(crate) const LENGTH: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_section_5_7() {
        let mut out = Vec::new();
        write_frame(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        write_frame(&mut out, Opcode::Ping, b"Hello");
        assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        write_frame(&mut out, Opcode::Binary, &[7; 256]);
        assert_eq!(out[..4], [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(out.len(), 4 + 256);
        out.clear();
        write_frame(&mut out, Opcode::Binary, &[7; 65536]);
        assert_eq!(out[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(out.len(), 10 + 65536);
    }

    #[test]
    fn length_forms_change_at_126_and_65536() {
        for (payload_len, header_len) in
            [(0, 2), (125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10), (usize::MAX >> 1, 10)]
        {
            assert_eq!(server_header_len(payload_len), header_len);
            let (header, length) = server_header(Opcode::Text, payload_len);
            assert_eq!(length, header_len);
            assert_eq!(server_frame_len(&header[..length]), Some(header_len + payload_len));
            assert_eq!(server_frame_len(&header[..length - 1]), None);
            // Read back by the client's half of this module: the same header, with a mask appended.
            let mut masked = header[..length].to_vec();
            masked[1] |= MASKED;
            masked.extend_from_slice(&[1, 2, 3, 4]);
            let (parsed, parsed_len) = ClientHeader::parse(&masked).unwrap().unwrap();
            assert_eq!((parsed.payload_len, parsed.is_final), (payload_len as u64, true));
            assert_eq!(parsed_len, header_len + 4);
            for cut in 0..masked.len() {
                assert_eq!(ClientHeader::parse(&masked[..cut]), Ok(None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn close_reasons_are_cut_between_characters() {
        let mut out = Vec::new();
        write_close(&mut out, 1002, "why");
        assert_eq!(out, [0x88, 0x05, 0x03, 0xea, b'w', b'h', b'y']);
        out.clear();
        // 61 two-byte characters are 122 bytes; the 62nd would end at 124.
        write_close(&mut out, 1000, &"é".repeat(100));
        assert_eq!(out[..2], [0x88, 124]);
        assert_eq!(std::str::from_utf8(&out[4..]).unwrap(), "é".repeat(61));
    }

    #[test]
    fn headers_that_break_section_5() {
        let parse = |bytes: &[u8]| ClientHeader::parse(bytes).unwrap_err();
        assert_eq!(parse(&[0xc1, 0x80]), InboundError::ReservedBits);
        assert_eq!(parse(&[0x83, 0x80]), InboundError::ReservedOpcode(3));
        assert_eq!(parse(&[0x8b, 0x80]), InboundError::ReservedOpcode(11));
        assert_eq!(parse(&[0x81, 0x05]), InboundError::Unmasked);
        assert_eq!(parse(&[0x09, 0x80]), InboundError::ControlFragmented);
        assert_eq!(parse(&[0x89, 0xfe]), InboundError::ControlTooLong);
        assert_eq!(parse(&[0x81, 0xfe, 0, 125]), InboundError::LengthEncoding);
        assert_eq!(parse(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), InboundError::LengthEncoding);
        assert_eq!(parse(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), InboundError::LengthEncoding);
    }
}
