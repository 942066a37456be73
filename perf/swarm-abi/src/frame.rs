//! The header of a server's WebSocket frame (RFC 6455, 5.2).

use crate::limits::HEAD_LEN;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The frame's type: text, binary, ping …
    pub opcode: u8,
    /// Two, four or ten bytes.
    pub header_len: u32,
    /// Header and payload together.
    pub total_len: u32,
}

/// A header that no server may send. After that, the stream is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Reads the header of the frame that `head` begins with, of which `len` bytes are there. `None`: more bytes are
/// needed.
#[inline(always)]
pub fn frame(head: &[u8; HEAD_LEN], len: u32) -> Result<Option<Frame>, Fault> {
    if len < 2 {
        return Ok(None);
    }
    let (first, second) = (head[0], head[1]);
    let opcode = first & 0x0f;
    let is_control = opcode >= CLOSE;
    if first & RESERVED != 0 || second & MASKED != 0 || opcode > PONG || (opcode > BINARY && opcode < CLOSE) {
        return Err(Fault);
    }
    if is_control && (first & FIN == 0 || second > CONTROL_LEN_MAX) {
        return Err(Fault);
    }
    let (header_len, payload_len) = match second {
        126 => (4, u32::from(head[2]) << 8 | u32::from(head[3])),
        127 => {
            if len < 10 {
                return Ok(None);
            }
            // 2 GiB and more: nobody sends that, and it would not fit.
            if head[2] | head[3] | head[4] | head[5] != 0 || head[6] & 0x80 != 0 {
                return Err(Fault);
            }
            let high = u32::from(head[6]) << 24 | u32::from(head[7]) << 16;
            (10, high | u32::from(head[8]) << 8 | u32::from(head[9]))
        }
        short => (2, u32::from(short)),
    };
    if len < header_len {
        return Ok(None);
    }
    Ok(Some(Frame { opcode, header_len, total_len: header_len + payload_len }))
}

impl Frame {
    /// Whether a text or binary message begins with this frame.
    #[inline(always)]
    #[must_use]
    pub fn is_message(&self) -> bool {
        self.opcode == TEXT || self.opcode == BINARY
    }

    /// Whether the frame asks for a pong.
    #[inline(always)]
    #[must_use]
    pub fn is_ping(&self) -> bool {
        self.opcode == PING
    }

    /// Whether the server ends the connection with this frame.
    #[inline(always)]
    #[must_use]
    pub fn is_close(&self) -> bool {
        self.opcode == CLOSE
    }
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const CONTROL_LEN_MAX: u8 = 125;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Frame>, Fault> {
        let mut head = [0xff; HEAD_LEN];
        head[..bytes.len()].copy_from_slice(bytes);
        frame(&head, u32::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn lengths_of_every_form_are_read_and_a_part_is_not_enough() {
        let whole: [(&[u8], Frame); 5] = [
            (&[0x81, 5], Frame { opcode: 1, header_len: 2, total_len: 7 }),
            (&[0x02, 0], Frame { opcode: 2, header_len: 2, total_len: 2 }),
            (&[0x89, 125], Frame { opcode: 9, header_len: 2, total_len: 127 }),
            (&[0x81, 126, 2, 1], Frame { opcode: 1, header_len: 4, total_len: 4 + 513 }),
            (&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 2], Frame { opcode: 2, header_len: 10, total_len: 10 + 65_538 }),
        ];
        for (bytes, expected) in whole {
            assert_eq!(read(bytes), Ok(Some(expected)));
            for len in 0..bytes.len() {
                assert_eq!(read(&bytes[..len]), Ok(None), "{bytes:?} {len}");
            }
        }
    }

    #[test]
    fn what_no_server_may_send_is_a_fault() {
        let torn: [&[u8]; 7] = [
            &[0xc1, 0],
            &[0x83, 0],
            &[0x8b, 0],
            &[0x81, 0x81],
            &[0x09, 0],
            &[0x89, 126],
            &[0x82, 127, 0, 0, 0, 0, 0x80, 0, 0, 0],
        ];
        for bytes in torn {
            assert_eq!(read(bytes), Err(Fault), "{bytes:?}");
        }
    }
}
